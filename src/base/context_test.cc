#include "mezzotint/context.h"

#include <gtest/gtest.h>
#include <sched.h>

#include "base/scoped_env.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(ExecContext, TakesThreadsFromOptionThenEnvironmentThenAffinity) {
  const ScopedEnv env("MEZZOTINT_NUM_THREADS", "3");
  EXPECT_EQ(ExecContext({.threads = 5}).threads(), 5);
  EXPECT_EQ(ExecContext().threads(), 3);
  const ScopedEnv unset("MEZZOTINT_NUM_THREADS", nullptr);
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(ExecContext().threads(), CPU_COUNT(&set));
}

TEST(ExecContext, RespectsANarrowerAffinity) {
  const ScopedEnv unset("MEZZOTINT_NUM_THREADS", nullptr);
  cpu_set_t old;
  ASSERT_EQ(sched_getaffinity(0, sizeof(old), &old), 0);
  int first = 0;
  while (!CPU_ISSET(first, &old)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(ExecContext().threads(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(old), &old), 0);
}

TEST(ExecContext, RejectsANegativeNumberOfThreads) {
  EXPECT_THROW(ExecContext({.threads = -1}), Error);
}

TEST(ExecContext, CopiesShareMemoryAndCarryTheirOwnStepAndTap) {
  const ExecContext ctx({.threads = 2});
  EXPECT_EQ(ctx.step(), -1);
  const Tap tap;
  const ExecContext other = ctx.at_step(7).with_tap(&tap);
  EXPECT_EQ(other.step(), 7);
  EXPECT_EQ(other.tap(), &tap);
  EXPECT_EQ(ctx.step(), -1);
  EXPECT_EQ(ctx.tap(), nullptr);
  EXPECT_EQ(&other.workspace(), &ctx.workspace());
  EXPECT_EQ(other.threads(), 2);
}

}  // namespace
}  // namespace mezzotint
