// Time of a call, for what is measured on data without meaning.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "mezzotint/tensor.h"

namespace mezzotint::cli {

// BF16 numbers of alternating signs about 1: no call meets a denormal or a NaN.
inline Tensor plain_bf16(const Shape& shape) {
  Tensor tensor = Tensor::allocate(DType::kBF16, shape);
  auto* bits = reinterpret_cast<uint16_t*>(tensor.buffer().mutable_data());
  for (int64_t i = 0; i < tensor.size(); ++i) {
    bits[i] = static_cast<uint16_t>(0x3f00 + i % 251 + (i % 2 == 0 ? 0x8000 : 0));
  }
  return tensor;
}

// The median of five calls after one that warms up; a call that takes longer than two seconds is
// not repeated.
template <typename Call>
double median_call_seconds(const Call& call) {
  constexpr int kCalls = 5;
  constexpr double kLongCall = 2.0;
  const auto seconds_of_one = [&] {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    call();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const double first = seconds_of_one();
  if (first > kLongCall) return first;
  std::vector<double> seconds;
  for (int i = 0; i < kCalls; ++i) seconds.push_back(seconds_of_one());
  std::ranges::sort(seconds);
  return seconds[kCalls / 2];
}

}  // namespace mezzotint::cli
