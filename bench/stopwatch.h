// Clocks and medians.
#pragma once

#include <ctime>

#include <algorithm>
#include <vector>

namespace mezzotint::bench {

inline double clock_seconds(clockid_t clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

inline double wall_seconds() { return clock_seconds(CLOCK_MONOTONIC); }
// Of the calling thread, on a processor: what others took from it does not count.
inline double thread_seconds() { return clock_seconds(CLOCK_THREAD_CPUTIME_ID); }

// The compiler must believe that the value is used.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 != 0) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

}  // namespace mezzotint::bench
