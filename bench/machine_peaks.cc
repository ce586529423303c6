#include "bench/machine_peaks.h"

#include <functional>
#include <map>
#include <vector>

#include "base/parallel_for.h"
#include "bench/stopwatch.h"
#include "kernels/peak_loops.h"
#include "mezzotint/context.h"

namespace mezzotint::bench {
namespace {

// Without an instruction for bf16 its products are made by FMA.
const PeakLoop* find_loop(Peak peak, Isa isa) {
  switch (peak) {
    case Peak::kInt8Dot:
      return best_loop(Arithmetic::kInt8Dot, isa);
    case Peak::kBf16Dot:
      if (const PeakLoop* loop = best_loop(Arithmetic::kBf16Dot, isa)) return loop;
      return best_loop(Arithmetic::kFloat, isa);
    case Peak::kFma:
      return best_loop(Arithmetic::kFloat, isa);
    case Peak::kMemoryRead:
      return nullptr;
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

double loop_rate(const PeakLoop& loop, int threads) {
  // A millisecond on one thread; as long as several time slices on several.
  const int64_t chunks = threads == 1 ? 10 : 150 * threads;
  return rate_of(threads, chunks, loop.operations(kPeakTurns * chunks),
                 [&](int64_t) { loop.run(kPeakTurns); });
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
  const PeakLoop* loop = find_loop(peak, isa);
  return loop == nullptr ? std::string_view() : loop->name;
}

double instructions_a_cycle(Peak peak, Isa isa) {
  const PeakLoop* loop = find_loop(peak, isa);
  return loop == nullptr ? 0 : instructions_a_cycle(*loop);
}

double measure_peak(Peak peak, Isa isa, int threads) {
  if (peak == Peak::kMemoryRead) return memory_rate(threads);
  const PeakLoop* loop = find_loop(peak, isa);
  if (loop == nullptr) return 0;
  return loop_rate(*loop, threads);
}

}  // namespace mezzotint::bench
