// The accumulators of one input of a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/statistics.h"
#include "mezzotint/context.h"

namespace mezzotint {

struct ObserverOptions {
  int64_t steps = 0;
  int64_t tokens = 0;
  bool histogram = false;
  bool gram = false;
};

// State is what the file holds, so that going on from a file changes no bit.
class InputObserver {
 public:
  // `start` without tensors, or the statistics to go on from, which are copied.
  InputObserver(const InputStatistics& start, const ObserverOptions& options);

  const std::string& name() const noexcept { return stats_.name; }
  int64_t rows() const noexcept { return stats_.rows; }

  void see(const ConstMatrix& x, int step, const ExecContext& ctx);
  InputStatistics statistics() const;  // shares the tensors; the tokens are copied

 private:
  // A row of the sample: the heap's first is the one with the largest key.
  struct Token {
    int64_t key;
    int32_t step;
    int64_t slot;  // row of token_values_
  };

  void see_panel(const std::vector<float>& x, int step, const ExecContext& ctx);
  void add_channels(const std::vector<float>& x, int step, const ExecContext& ctx);
  void add_range(const std::vector<float>& x, int step, const ExecContext& ctx);
  void add_tokens(const std::vector<float>& x, int step);
  void restore_tokens(const InputStatistics& start);

  ObserverOptions options_;
  InputStatistics stats_;  // without tokens
  std::vector<Token> tokens_;
  std::vector<uint16_t> token_values_;  // bf16 [tokens,k]
};

}  // namespace mezzotint
