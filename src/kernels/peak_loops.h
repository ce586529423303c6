// Loops of one arithmetic instruction and nothing else: what a processor can do at most, in one
// place for bench/ and for the benchmarks beside the code. Benchmarks only.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu_features.h"

namespace mezzotint::bench {

// Independent: 15 sums hide a latency of 5 cycles on two pipes.
inline constexpr int kSumsOfLoop = 15;
// 300,000 instructions: 0.1 ms, shorter than a time slice.
inline constexpr int64_t kPeakTurns = 20'000;

struct PeakLoop {
  std::string_view name;
  Isa isa;
  double lanes;  // products of one instruction
  void (*run)(int64_t turns);
  double instructions(int64_t turns) const { return static_cast<double>(kSumsOfLoop * turns); }
  double operations(int64_t turns) const {  // a multiplication and an addition are two
    return 2 * lanes * instructions(turns);
  }
};

// Whether no register that `instruction` names is one of the sums: a factor that is one, too, would
// make every turn wait for the one before (and did: 80 % of the peak on ymm registers).
consteval bool has_factors_beside_sums(std::string_view instruction) {
  constexpr std::string_view kRegister = "mm";
  int factors = 0;
  for (size_t at = instruction.find(kRegister); at != std::string_view::npos;
       at = instruction.find(kRegister, at + 1)) {
    int number = 0;
    size_t digit = at + kRegister.size();
    if (digit == instruction.size()) break;  // the sum, whose number follows
    for (; digit < instruction.size() && instruction[digit] >= '0' && instruction[digit] <= '9';
         ++digit) {
      number = 10 * number + instruction[digit] - '0';
    }
    if (number < kSumsOfLoop) return false;
    ++factors;
  }
  return factors == 2;
}
static_assert(has_factors_beside_sums("vpmaddwd %%ymm15, %%ymm15, %%ymm"));
static_assert(!has_factors_beside_sums("vpmaddwd %%ymm14, %%ymm15, %%ymm"));
static_assert(!has_factors_beside_sums("vpmaddwd %%ymm15, %%ymm"));

#define MZ_TURNS(instruction)                                                                 \
  static_assert(has_factors_beside_sums(instruction));                                        \
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

enum class Arithmetic : uint8_t { kInt8Dot, kBf16Dot, kFloat };

constexpr std::span<const PeakLoop> loops_of(Arithmetic arithmetic) {
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

// The best that a processor of `isa` runs, or null.
inline const PeakLoop* best_loop(Arithmetic arithmetic, Isa isa) {
  for (const PeakLoop& loop : loops_of(arithmetic)) {
    if (loop.isa <= isa) return &loop;
  }
  return nullptr;
}

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// 64 additions a turn, each of which waits for the one before: a clock of core cycles, which the
// time stamp counter is not.
inline void run_cycles(int64_t turns) {
  uint64_t value = 1;
  asm volatile(
      "1:\n"
      ".rept 64\n"
      "add %1, %1\n"
      ".endr\n"
      "dec %0\n"
      "jnz 1b\n"
      : "+r"(turns), "+r"(value)::"cc");
}

// How many of the loop's instructions a core cycle takes: 1 or 2, the number of pipes, unless the
// loop waits for itself or another hardware thread shares the core. The best of many samples of 10
// us, in turns, so that no time slice is ever needed whole.
inline double instructions_a_cycle(const PeakLoop& loop) {
  constexpr int kSamples = 1000;
  constexpr int64_t kTurns = 2'000, kClockTurns = 500;
  constexpr double kCycles = 64.0 * kClockTurns;
  double loop_seconds = 1e30, clock_seconds = 1e30;
  const auto shorten = [](double& best, double since) {
    const double seconds = seconds_now() - since;
    best = seconds < best ? seconds : best;
  };
  for (int i = 0; i < kSamples; ++i) {
    const double start = seconds_now();
    loop.run(kTurns);
    shorten(loop_seconds, start);
    const double second = seconds_now();
    run_cycles(kClockTurns);
    shorten(clock_seconds, second);
  }
  return loop.instructions(kTurns) / loop_seconds / (kCycles / clock_seconds);
}

}  // namespace mezzotint::bench
