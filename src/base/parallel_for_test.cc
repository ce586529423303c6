#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

using Chunks = std::multiset<std::pair<int64_t, int64_t>>;

Chunks chunks_of(const ExecContext& ctx, int64_t n, int64_t grain) {
  std::mutex mutex;
  Chunks chunks;
  parallel_for(ctx, n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    chunks.emplace(begin, end);
  });
  return chunks;
}

TEST(ParallelFor, CutsTheSameChunksForAnyNumberOfThreads) {
  for (const int64_t n : {0, 1, 63, 64, 65, 1000}) {
    for (const int64_t grain : {1, 7, 64, 5000}) {
      Chunks expected;
      for (int64_t b = 0; b < n; b += grain) expected.emplace(b, std::min(b + grain, n));
      for (const int threads : {1, 2, 3, 8}) {
        EXPECT_EQ(chunks_of(ExecContext({.threads = threads}), n, grain), expected)
            << n << " by " << grain << " on " << threads;
      }
    }
  }
}

TEST(ParallelFor, ChunksNearTheEndOfInt64DoNotOverflow) {
  constexpr int64_t kHuge = INT64_MAX;
  EXPECT_EQ(chunks_of(ExecContext({.threads = 2}), kHuge, kHuge - 1),
            (Chunks{{0, kHuge - 1}, {kHuge - 1, kHuge}}));
}

TEST(ParallelFor, UsesSeveralThreads) {
  const ExecContext ctx({.threads = 4});
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::atomic<int> arrived = 0;
  parallel_for(ctx, 2, 1, [&](int64_t, int64_t) {
    ++arrived;
    // Waits for the other chunk, which must therefore run on another thread.
    for (int i = 0; i < 20'000 && arrived < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(arrived, 2);
  EXPECT_EQ(ids.size(), 2u);
}

TEST(ParallelFor, RunsInlineWithOneThreadOrOneChunk) {
  const std::thread::id caller = std::this_thread::get_id();
  const auto check = [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); };
  parallel_for(ExecContext({.threads = 1}), 100, 1, check);
  parallel_for(ExecContext({.threads = 4}), 100, 100, check);
}

TEST(ParallelFor, CallsMayBeNested) {
  for (const int threads : {1, 2, 5}) {
    const ExecContext ctx({.threads = threads});
    std::vector<std::atomic<int>> hits(40 * 50);
    parallel_for(ctx, 40, 1, [&](int64_t b0, int64_t e0) {
      for (int64_t i = b0; i < e0; ++i) {
        parallel_for(ctx, 50, 3, [&, i](int64_t b1, int64_t e1) {
          for (int64_t j = b1; j < e1; ++j) ++hits[static_cast<size_t>(i * 50 + j)];
        });
      }
    });
    for (const std::atomic<int>& hit : hits) ASSERT_EQ(hit, 1);
  }
}

TEST(ParallelFor, InnerWaitDoesNotEnterAnotherOuterChunk) {
  const ExecContext ctx({.threads = 3});
  std::atomic<int> reentered = 0;
  parallel_for(ctx, 64, 1, [&](int64_t, int64_t) {
    static thread_local bool inside = false;
    if (inside) ++reentered;
    inside = true;
    std::atomic<int64_t> sum = 0;
    parallel_for(ctx, 64, 1, [&](int64_t b, int64_t) { sum += b; });
    EXPECT_EQ(sum, 64 * 63 / 2);
    inside = false;
  });
  EXPECT_EQ(reentered, 0);
}

TEST(ParallelFor, CarriesAnExceptionToTheCaller) {
  for (const int threads : {1, 3}) {
    const ExecContext ctx({.threads = threads});
    EXPECT_THROW(parallel_for(ctx, 100, 1,
                              [](int64_t begin, int64_t) {
                                if (begin == 57) throw Error(ErrorCode::kUsage, "chunk 57");
                              }),
                 Error);
    EXPECT_EQ(chunks_of(ctx, 10, 1).size(), 10u);  // and works afterwards
  }
}

TEST(ParallelFor, ServesSeveralCallersAtOnce) {
  const ExecContext ctx({.threads = 3});
  std::atomic<int64_t> total = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        parallel_for(ctx, 100, 9, [&](int64_t b, int64_t e) { total += e - b; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 50 * 100);
}

TEST(ParallelFor, RejectsANegativeSizeAndAZeroGrain) {
  const ExecContext ctx({.threads = 1});
  const auto nothing = [](int64_t, int64_t) {};
  EXPECT_THROW(parallel_for(ctx, -1, 1, nothing), Error);
  EXPECT_THROW(parallel_for(ctx, 1, 0, nothing), Error);
}

}  // namespace
}  // namespace mezzotint
