#include "base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread_arena.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

using Chunks = std::multiset<std::pair<int64_t, int64_t>>;

enum class Threads { kArena, kTeam };

// A team as a caller might have one: threads that live for one call.
void run_on_new_threads(int threads, const std::function<void()>& body) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(body);
  body();
  for (std::thread& other : others) other.join();
}

class ParallelFor : public testing::TestWithParam<Threads> {
 protected:
  static ExecContext context(int threads) {
    ExecContext ctx({.threads = threads});
    if (GetParam() == Threads::kTeam) ctx.arena().bring(run_on_new_threads);
    return ctx;
  }
};

INSTANTIATE_TEST_SUITE_P(On, ParallelFor, testing::Values(Threads::kArena, Threads::kTeam),
                         [](const auto& param) {
                           return param.param == Threads::kArena ? "Arena" : "Team";
                         });

Chunks chunks_of(const ExecContext& ctx, int64_t n, int64_t grain) {
  std::mutex mutex;
  Chunks chunks;
  parallel_for(ctx, n, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard lock(mutex);
    chunks.emplace(begin, end);
  });
  return chunks;
}

TEST_P(ParallelFor, CutsTheSameChunksForAnyNumberOfThreads) {
  for (const int64_t n : {0, 1, 63, 64, 65, 1000}) {
    for (const int64_t grain : {1, 7, 64, 5000}) {
      Chunks expected;
      for (int64_t b = 0; b < n; b += grain) expected.emplace(b, std::min(b + grain, n));
      for (const int threads : {1, 2, 3, 8}) {
        EXPECT_EQ(chunks_of(context(threads), n, grain), expected)
            << n << " by " << grain << " on " << threads;
      }
    }
  }
}

TEST_P(ParallelFor, ChunksNearTheEndOfInt64DoNotOverflow) {
  constexpr int64_t kHuge = INT64_MAX;
  EXPECT_EQ(chunks_of(context(2), kHuge, kHuge - 1), (Chunks{{0, kHuge - 1}, {kHuge - 1, kHuge}}));
}

TEST_P(ParallelFor, UsesSeveralThreads) {
  const ExecContext ctx = context(4);
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

TEST_P(ParallelFor, RunsInlineWithOneThreadOrOneChunk) {
  const std::thread::id caller = std::this_thread::get_id();
  const auto check = [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); };
  parallel_for(context(1), 100, 1, check);
  parallel_for(context(4), 100, 100, check);
}

TEST_P(ParallelFor, CallsMayBeNested) {
  for (const int threads : {1, 2, 5}) {
    const ExecContext ctx = context(threads);
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

TEST_P(ParallelFor, InnerWaitDoesNotEnterAnotherOuterChunk) {
  const ExecContext ctx = context(3);
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

TEST_P(ParallelFor, CarriesAnExceptionToTheCaller) {
  for (const int threads : {1, 3}) {
    const ExecContext ctx = context(threads);
    EXPECT_THROW(parallel_for(ctx, 100, 1,
                              [](int64_t begin, int64_t) {
                                if (begin == 57) throw Error(ErrorCode::kUsage, "chunk 57");
                              }),
                 Error);
    EXPECT_EQ(chunks_of(ctx, 10, 1).size(), 10u);  // and works afterwards
  }
}

TEST_P(ParallelFor, BeginsNoChunkAfterAnException) {
  const ExecContext ctx = context(2);
  std::atomic<int> begun = 0;
  EXPECT_THROW(parallel_for(ctx, 1'000'000, 1,
                            [&](int64_t, int64_t) {
                              ++begun;
                              throw Error(ErrorCode::kUsage, "at once");
                            }),
               Error);
  EXPECT_LT(begun, 1000);
}

TEST_P(ParallelFor, ServesSeveralCallersAtOnce) {
  const ExecContext ctx = context(3);
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

TEST_P(ParallelFor, RejectsANegativeSizeAndAZeroGrain) {
  const ExecContext ctx = context(1);
  const auto nothing = [](int64_t, int64_t) {};
  EXPECT_THROW(parallel_for(ctx, -1, 1, nothing), Error);
  EXPECT_THROW(parallel_for(ctx, 1, 0, nothing), Error);
}

}  // namespace
}  // namespace mezzotint
