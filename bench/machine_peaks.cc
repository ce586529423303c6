#include "bench/machine_peaks.h"

#include <functional>
#include <map>
#include <span>
#include <vector>

#include "base/parallel_for.h"
#include "bench/stopwatch.h"
#include "mezzotint/context.h"

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

const ExecContext& context_of(int threads) {
  static std::map<int, ExecContext> contexts;
  return contexts.try_emplace(threads, ExecOptions{.threads = threads}).first->second;
}

// `amount` of `chunks` calls of `work`, per second. One thread is judged by its time on a
// processor. Several share the chunks as kernels share their tiles and are judged by the wall: what
// other jobs take from a kernel, they take from the peak it is compared with.
double rate_of(int threads, int64_t chunks, double amount,
               const std::function<void(int64_t chunk)>& work) {
  const ExecContext& ctx = context_of(threads);
  const auto now = [&] { return threads == 1 ? thread_seconds() : wall_seconds(); };
  const double start = now();
  parallel_for(ctx, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) work(chunk);
  });
  return amount / (now() - start);
}

double loop_rate(const Loop& loop, int threads) {
  constexpr int64_t kTurns = 20'000;  // 320,000 instructions: 0.1 ms
  // A millisecond on one thread; as long as several time slices on several.
  const int64_t chunks = threads == 1 ? 10 : 150 * threads;
  const double operations = 2 * loop.lanes * kInstructions * kTurns * static_cast<double>(chunks);
  return rate_of(threads, chunks, operations, [&](int64_t) { loop.run(kTurns); });
}

// Larger than any cache we know of, and never written after the start.
constexpr int64_t kReadBytesAThread = int64_t{256} << 20;
constexpr int64_t kReadChunk = int64_t{1} << 17;  // words: a megabyte

void read_words(const uint64_t* words) {
  uint64_t sums[4] = {};
  for (int64_t i = 0; i < kReadChunk; i += 4) {
    for (int64_t lane = 0; lane < 4; ++lane) sums[lane] += words[i + lane];
  }
  keep(sums[0] + sums[1] + sums[2] + sums[3]);
}

double memory_rate(int threads) {
  const int64_t bytes = kReadBytesAThread * threads;
  const auto words = static_cast<size_t>(bytes) / sizeof(uint64_t);
  static std::vector<uint64_t> memory;
  if (memory.size() < words) memory.assign(words, 1);
  const auto chunks = static_cast<int64_t>(words) / kReadChunk;
  return rate_of(threads, chunks, static_cast<double>(bytes),
                 [](int64_t chunk) { read_words(memory.data() + chunk * kReadChunk); });
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
  return loop_rate(*loop, threads);
}

}  // namespace mezzotint::bench
