// What this processor can do at most, measured beside a benchmark. Benchmarks only.
//
// On a shared machine neither a rate nor a peak taken alone says anything: both are taken in turns,
// and the best of each is compared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "kernels/peak_loops.h"

namespace mezzotint::bench {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

enum class Arithmetic { kInt8Dot, kBf16Dot, kFloat };

inline std::span<const PeakLoop> loops_of(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kInt8Dot:
      return kInt8DotLoops;
    case Arithmetic::kBf16Dot:
      return kBf16DotLoops;
    case Arithmetic::kFloat:
      return kFmaLoops;
  }
  return {};
}

// Operations per second of one thread; 0: not known for this processor.
inline double measure_peak(Arithmetic arithmetic) {
  constexpr int64_t kTurns = 20000;  // about 0.1 ms: shorter than a time slice
  const PeakLoop* loop = best_loop(loops_of(arithmetic), detected_isa());
  if (loop == nullptr) return 0;
  const double start = seconds_now();
  loop->run(kTurns);
  return loop->operations(kTurns) / (seconds_now() - start);
}

// The best rate of `run` and the best peak, taken in turns.
class BesidePeak {
 public:
  explicit BesidePeak(Arithmetic arithmetic) : arithmetic_(arithmetic) {}

  template <typename Run>
  void measure(const Run& run) {
    for (int i = 0; i < 3; ++i) peak_ = std::max(peak_, measure_peak(arithmetic_));
    const double start = seconds_now();
    run();
    best_seconds_ = std::min(best_seconds_, seconds_now() - start);
  }
  double best_seconds() const { return best_seconds_; }
  double share(double operations) const {
    return peak_ == 0 ? 0 : operations / best_seconds_ / peak_;
  }

 private:
  Arithmetic arithmetic_;
  double peak_ = 0;
  double best_seconds_ = 1e30;
};

}  // namespace mezzotint::bench
