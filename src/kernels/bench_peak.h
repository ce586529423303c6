// What this processor can do at most, measured beside a benchmark. Benchmarks only.
//
// On a shared machine neither a rate nor a peak taken alone says anything: both are taken in turns,
// and the best of each is compared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/cpu_features.h"

namespace mezzotint::bench {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

enum class Arithmetic { kInt8Dot, kBf16Dot, kFloat };

// The level at which a loop of the instruction exists; floats have one at two widths.
inline Isa isa_of(Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::kInt8Dot) return Isa::kAvx512Vnni;
  return arithmetic == Arithmetic::kBf16Dot ? Isa::kAvx512Bf16 : Isa::kAvx2;
}

// 16 independent accumulators hide the latency of 5 cycles on two pipes.
#define MZ_PEAK_LOOP(instruction)                                                             \
  asm volatile("1:\n" instruction "0\n" instruction "1\n" instruction "2\n" instruction       \
               "3\n" instruction "4\n" instruction "5\n" instruction "6\n" instruction        \
               "7\n" instruction "8\n" instruction "9\n" instruction "10\n" instruction       \
               "11\n" instruction "12\n" instruction "13\n" instruction "14\n" instruction    \
               "15\n"                                                                         \
               "dec %0\n"                                                                     \
               "jnz 1b\n"                                                                     \
               : "+r"(turns)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
                 "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc")

// Operations (a multiplication and an addition are two) per second of one thread; 0: not known for
// this processor.
inline double measure_peak(Arithmetic arithmetic) {
  constexpr int64_t kTurns = 20000;  // about 0.1 ms: shorter than a time slice
  int64_t turns = kTurns;
  const bool wide = detected_isa() >= Isa::kAvx512;
  if (detected_isa() < isa_of(arithmetic)) return 0;
  const double start = seconds_now();
  if (arithmetic == Arithmetic::kInt8Dot) {
    MZ_PEAK_LOOP("vpdpbusd %%zmm31, %%zmm30, %%zmm");
  } else if (arithmetic == Arithmetic::kBf16Dot) {
    MZ_PEAK_LOOP("vdpbf16ps %%zmm31, %%zmm30, %%zmm");
  } else if (wide) {
    MZ_PEAK_LOOP("vfmadd231ps %%zmm31, %%zmm30, %%zmm");
  } else {
    MZ_PEAK_LOOP("vfmadd231ps %%ymm15, %%ymm15, %%ymm");
  }
  const double seconds = seconds_now() - start;
  const double float_lanes = wide ? 16 : 8;
  const double lanes = arithmetic == Arithmetic::kInt8Dot   ? 64
                       : arithmetic == Arithmetic::kBf16Dot ? 32
                                                            : float_lanes;
  return 2.0 * lanes * 16 * kTurns / seconds;
}

#undef MZ_PEAK_LOOP

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
