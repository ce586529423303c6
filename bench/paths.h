// The paths that are measured and the bars they are held to: one row each.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "bench/machine_peaks.h"
#include "mezzotint/tensor.h"

namespace mezzotint::bench {

// Shares of a peak that the geometric mean over shapes must reach, in percent; 0: no bar. Single
// threads first.
struct Bars {
  double big[2] = {0, 0};
  double hot[2] = {0, 0};   // 16 rows, weights in the caches
  double cold[2] = {0, 0};  // one row; share of the memory read rate
  double s1024 = 0;         // attention of so many tokens, any number of threads
  double s4608 = 0;
};

enum class Op : uint8_t { kLinear, kAttention, kFluxBlocks, kDemoStep };

struct Path {
  std::string_view name;  // "w4a16_g64"
  Op op = Op::kLinear;
  std::string_view algorithm;  // a name of list-algorithms, or "float"
  int64_t group_size = 0;
  DType io = DType::kBF16;     // of x and y, and of the weight of a float path
  Peak peak = Peak::kInt8Dot;  // what its arithmetic is a share of
  Bars bars{};
};

std::span<const Path> paths();

// How many times faster than `other` a path must be: geometric mean over the big shapes, or of the
// Flux blocks. 0: no bar, only said.
struct RatioBar {
  std::string_view path, other;
  double at_least = 0;
};
std::span<const RatioBar> ratio_bars();

}  // namespace mezzotint::bench
