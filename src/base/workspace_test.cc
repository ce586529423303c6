#include "base/workspace.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(Workspace, GivesAlignedMemoryOfAtLeastTheSizeAskedFor) {
  Workspace workspace;
  for (const int64_t bytes : {0, 1, 64, 4097, 3 << 20}) {
    const Scratch scratch = workspace.take(bytes);
    EXPECT_GE(scratch.size(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch.as<char>()) % 64, 0u);
    std::memset(scratch.as<char>(), 0x5a, static_cast<size_t>(bytes));
  }
}

TEST(Workspace, GivesTheSameMemoryAgain) {
  Workspace workspace;
  const void* first = nullptr;
  {
    const Scratch scratch = workspace.take(100'000);
    first = scratch.as<char>();
  }
  EXPECT_EQ(workspace.take(90'000).as<char>(), first);
}

TEST(Workspace, TakesTheSmallestBufferThatFits) {
  Workspace workspace;
  const void* small = nullptr;
  {
    const Scratch a = workspace.take(200'000);
    const Scratch b = workspace.take(100'000);
    small = b.as<char>();
  }
  EXPECT_EQ(workspace.take(100'000).as<char>(), small);
}

TEST(Workspace, DoesNotSpendALargeBufferOnASmallRequest) {
  Workspace workspace;
  const void* large = nullptr;
  {
    const Scratch scratch = workspace.take(1 << 20);
    large = scratch.as<char>();
  }
  const Scratch small = workspace.take(100);
  EXPECT_NE(small.as<char>(), large);
  EXPECT_EQ(workspace.take(1 << 20).as<char>(), large);
}

TEST(Workspace, TwoPiecesInUseDoNotOverlap) {
  Workspace workspace;
  const Scratch a = workspace.take(4096);
  const Scratch b = workspace.take(4096);
  EXPECT_GE(std::abs(a.as<char>() - b.as<char>()), 4096);
}

TEST(Workspace, AMovedScratchIsGivenBackOnce) {
  Workspace workspace;
  const void* data = nullptr;
  {
    Scratch a = workspace.take(4096);
    data = a.as<char>();
    const Scratch b = std::move(a);
    EXPECT_EQ(b.as<char>(), data);
  }
  const Scratch c = workspace.take(4096);
  const Scratch d = workspace.take(4096);
  EXPECT_EQ(c.as<char>(), data);
  EXPECT_NE(d.as<char>(), data);
}

TEST(Workspace, ServesSeveralThreads) {
  Workspace workspace;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&workspace, t] {
      for (int i = 0; i < 500; ++i) {
        const Scratch scratch = workspace.take(1000 * (1 + (i + t) % 7));
        std::memset(scratch.as<char>(), t, 1000);
        for (int j = 0; j < 1000; ++j) ASSERT_EQ(scratch.as<char>()[j], t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Workspace, SaysSoWhenMemoryIsOut) {
  Workspace workspace;
  try {
    workspace.take(int64_t{1} << 60);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kResources);
  }
}

}  // namespace
}  // namespace mezzotint
