// What the linears of a model cost under an algorithm, measured on random weights of their shapes
// before anything is converted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "mezzotint/context.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {

// Linears that are computed alike.
struct LayerWork {
  int64_t m = 0, n = 0, k = 0;
  int64_t layers = 1;  // how many of them a step runs
  HasBias bias = HasBias::kYes;
};

struct LayerCost {
  double seconds = 0;  // of a step
  int64_t bytes = 0;   // resident: packed weights, scales, biases

  LayerCost& operator+=(const LayerCost& other);
};

// Measures each distinct shape of each way of computing once; x and y are BF16.
class LayerCosts {
 public:
  // Calls with more rows are measured with `rows_at_most` and counted in proportion.
  LayerCosts(int64_t rows_at_most, const ExecContext& ctx);

  // `algorithm` of list-algorithms, or "float": BF16 weights.
  LayerCost of(const std::string& algorithm, const LayerWork& work);

 private:
  struct Key {
    std::string way;  // algorithms that are computed alike share it
    int64_t m, n, k;
    HasBias bias;
    auto operator<=>(const Key&) const = default;
  };
  LayerCost measure(const std::string& algorithm, const LayerWork& work) const;

  int64_t rows_at_most_;
  const ExecContext& ctx_;
  std::map<Key, LayerCost> measured_;  // of one layer, with at most rows_at_most_ rows
};

}  // namespace mezzotint::cli
