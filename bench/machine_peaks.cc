#include "bench/machine_peaks.h"

#include <atomic>
#include <functional>
#include <span>
#include <thread>
#include <vector>

#include "bench/stopwatch.h"

namespace mezzotint::bench {
namespace {

// 16 independent accumulators hide a latency of 5 cycles on two pipes.
#define MZ_TURNS(instruction)                                                                 \
  asm volatile("1:\n" instruction "0\n" instruction "1\n" instruction "2\n" instruction       \
               "3\n" instruction "4\n" instruction "5\n" instruction "6\n" instruction        \
               "7\n" instruction "8\n" instruction "9\n" instruction "10\n" instruction       \
               "11\n" instruction "12\n" instruction "13\n" instruction "14\n" instruction    \
               "15\n"                                                                         \
               "dec %0\n"                                                                     \
               "jnz 1b\n"                                                                     \
               "vzeroupper\n"                                                                 \
               : "+r"(turns)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
                 "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc")

constexpr int64_t kInstructions = 16;  // per turn

struct Loop {
  std::string_view name;
  Isa isa;
  double lanes;  // products of one instruction
  void (*run)(int64_t turns);
};

constexpr Loop kInt8Loops[] = {
    {"vpdpbusd zmm", Isa::kAvx512Vnni, 64,
     [](int64_t turns) { MZ_TURNS("vpdpbusd %%zmm31, %%zmm30, %%zmm"); }},
    {"vpmaddwd zmm", Isa::kAvx512, 32,
     [](int64_t turns) { MZ_TURNS("vpmaddwd %%zmm31, %%zmm30, %%zmm"); }},
    {"vpmaddwd ymm", Isa::kAvx2, 16,
     [](int64_t turns) { MZ_TURNS("vpmaddwd %%ymm15, %%ymm15, %%ymm"); }},
};
constexpr Loop kBf16Loops[] = {
    {"vdpbf16ps zmm", Isa::kAvx512Bf16, 32,
     [](int64_t turns) { MZ_TURNS("vdpbf16ps %%zmm31, %%zmm30, %%zmm"); }},
    {"vfmadd231ps zmm", Isa::kAvx512, 16,
     [](int64_t turns) { MZ_TURNS("vfmadd231ps %%zmm31, %%zmm30, %%zmm"); }},
    {"vfmadd231ps ymm", Isa::kAvx2, 8,
     [](int64_t turns) { MZ_TURNS("vfmadd231ps %%ymm15, %%ymm15, %%ymm"); }},
};
#undef MZ_TURNS

const Loop* find_loop(Peak peak, Isa isa) {
  if (peak == Peak::kMemoryRead) return nullptr;
  const std::span<const Loop> all = peak == Peak::kInt8Dot ? std::span<const Loop>(kInt8Loops)
                                                           : std::span<const Loop>(kBf16Loops);
  for (const Loop& loop : all) {
    const bool is_bf16 = loop.isa == Isa::kAvx512Bf16;
    if (loop.isa <= isa && !(peak == Peak::kFma && is_bf16)) return &loop;
  }
  return nullptr;
}

// Runs `work(thread)` on every thread at once; each returns what it did per second of its own.
double sum_of_rates(int threads, const std::function<double(int)>& work) {
  std::atomic<int> ready = 0;
  std::vector<double> rates(static_cast<size_t>(threads));
  const auto run = [&](int thread) {
    ++ready;
    while (ready.load() < threads) {
    }
    rates[static_cast<size_t>(thread)] = work(thread);
  };
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  others.clear();  // joins
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

double loop_rate(const Loop& loop) {
  constexpr int64_t kTurns = 200'000;  // 3.2 M instructions: a millisecond
  const double start = thread_seconds();
  loop.run(kTurns);
  const double seconds = thread_seconds() - start;
  return 2 * loop.lanes * kInstructions * kTurns / seconds;
}

// Larger than any cache we know of, and never written after the start.
constexpr size_t kReadBytesAThread = size_t{256} << 20;

double read_rate(const std::vector<uint64_t>& words, size_t begin, size_t end) {
  uint64_t sums[4] = {};
  const double start = wall_seconds();
  for (size_t i = begin; i < end; i += 4) {
    for (size_t lane = 0; lane < 4; ++lane) sums[lane] += words[i + lane];
  }
  const double seconds = wall_seconds() - start;
  keep(sums[0] + sums[1] + sums[2] + sums[3]);
  return static_cast<double>((end - begin) * sizeof(uint64_t)) / seconds;
}

double memory_rate(int threads) {
  constexpr size_t kWords = kReadBytesAThread / sizeof(uint64_t);
  static std::vector<uint64_t> words;
  if (words.size() < kWords * static_cast<size_t>(threads)) {
    words.assign(kWords * static_cast<size_t>(threads), 1);
  }
  return sum_of_rates(threads, [&](int thread) {
    const size_t begin = kWords * static_cast<size_t>(thread);
    return read_rate(words, begin, begin + kWords);
  });
}

}  // namespace

std::string_view peak_instruction(Peak peak, Isa isa) {
  if (peak == Peak::kMemoryRead) return "64-bit loads";
  const Loop* loop = find_loop(peak, isa);
  return loop == nullptr ? std::string_view() : loop->name;
}

double measure_peak(Peak peak, Isa isa, int threads) {
  if (peak == Peak::kMemoryRead) return memory_rate(threads);
  const Loop* loop = find_loop(peak, isa);
  if (loop == nullptr) return 0;
  return sum_of_rates(threads, [&](int) { return loop_rate(*loop); });
}

}  // namespace mezzotint::bench
