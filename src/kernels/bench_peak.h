// What this processor can do at most, measured beside a benchmark. Benchmarks only.
//
// On a shared machine neither a rate nor a peak taken alone says anything: both are taken in turns,
// and the best of each is compared.
#pragma once

#include <algorithm>

#include "base/cpu_features.h"
#include "kernels/peak_loops.h"

namespace mezzotint::bench {

// Operations per second of one thread; 0: not known for this processor.
inline double measure_peak(Arithmetic arithmetic) {
  const PeakLoop* loop = best_loop(arithmetic, detected_isa());
  if (loop == nullptr) return 0;
  const double start = seconds_now();
  loop->run(kPeakTurns);
  return loop->operations(kPeakTurns) / (seconds_now() - start);
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
