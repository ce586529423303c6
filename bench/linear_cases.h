// Linears of random weights as cases: input and output, the quantization of x, bias and cast
// included; what Linear::run does.
#pragma once

#include <string>
#include <vector>

#include "bench/interleaved.h"
#include "bench/paths.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

enum class Rows : uint8_t {
  kBest,   // the row that dispatch takes
  kEvery,  // also those it would take with less ISA
};

struct CaseOptions {
  std::vector<std::string> paths;  // names; empty: all
  std::vector<int> threads = {1, 2};
  Rows rows = Rows::kBest;
};

// Cases of one shape, all paths. One row of x walks cold weights, more rows find them hot.
std::vector<Case> linear_cases(const LinearShape& shape, const CaseOptions& options);

}  // namespace mezzotint::bench
