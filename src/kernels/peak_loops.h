// Loops of one arithmetic instruction and nothing else: what a processor can do at most. Benchmarks
// only.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu_features.h"

namespace mezzotint::bench {

inline constexpr int64_t kInstructionsPerTurn = 15;

struct PeakLoop {
  std::string_view name;
  Isa isa;
  double lanes;  // products of one instruction
  void (*run)(int64_t turns);
  double operations(int64_t turns) const {  // a multiplication and an addition are two
    return 2 * lanes * static_cast<double>(kInstructionsPerTurn * turns);
  }
};

// 15 independent accumulators hide a latency of 5 cycles on two pipes. Register 15 is a factor,
// never a sum: as both it would make every turn wait for the one before.
#define MZ_TURNS(instruction)                                                                 \
  asm volatile("1:\n" instruction "0\n" instruction "1\n" instruction "2\n" instruction       \
               "3\n" instruction "4\n" instruction "5\n" instruction "6\n" instruction        \
               "7\n" instruction "8\n" instruction "9\n" instruction "10\n" instruction       \
               "11\n" instruction "12\n" instruction "13\n" instruction                       \
               "14\n"                                                                         \
               "dec %0\n"                                                                     \
               "jnz 1b\n"                                                                     \
               "vzeroupper\n"                                                                 \
               : "+r"(turns)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
                 "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "cc")

// The best instruction first.
inline constexpr PeakLoop kInt8DotLoops[] = {
    {"vpdpbusd zmm", Isa::kAvx512Vnni, 64,
     [](int64_t turns) { MZ_TURNS("vpdpbusd %%zmm31, %%zmm30, %%zmm"); }},
    {"vpmaddwd zmm", Isa::kAvx512, 32,
     [](int64_t turns) { MZ_TURNS("vpmaddwd %%zmm31, %%zmm30, %%zmm"); }},
    {"vpmaddwd ymm", Isa::kAvx2, 16,
     [](int64_t turns) { MZ_TURNS("vpmaddwd %%ymm15, %%ymm15, %%ymm"); }},
};
inline constexpr PeakLoop kBf16DotLoops[] = {
    {"vdpbf16ps zmm", Isa::kAvx512Bf16, 32,
     [](int64_t turns) { MZ_TURNS("vdpbf16ps %%zmm31, %%zmm30, %%zmm"); }},
};
inline constexpr PeakLoop kFmaLoops[] = {
    {"vfmadd231ps zmm", Isa::kAvx512, 16,
     [](int64_t turns) { MZ_TURNS("vfmadd231ps %%zmm31, %%zmm30, %%zmm"); }},
    {"vfmadd231ps ymm", Isa::kAvx2, 8,
     [](int64_t turns) { MZ_TURNS("vfmadd231ps %%ymm15, %%ymm15, %%ymm"); }},
};
#undef MZ_TURNS

// The best that a processor of `isa` runs, or null.
inline const PeakLoop* best_loop(std::span<const PeakLoop> loops, Isa isa) {
  for (const PeakLoop& loop : loops) {
    if (loop.isa <= isa) return &loop;
  }
  return nullptr;
}

}  // namespace mezzotint::bench
