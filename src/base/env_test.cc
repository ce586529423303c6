#include "base/env.h"

#include <gtest/gtest.h>

#include "base/scoped_env.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(Env, TreatsEmptyAsUnset) {
  const ScopedEnv guard("MEZZOTINT_TEST", "");
  EXPECT_EQ(env("MEZZOTINT_TEST"), std::nullopt);
  const ScopedEnv set("MEZZOTINT_TEST", "x");
  EXPECT_EQ(env("MEZZOTINT_TEST"), "x");
}

TEST(EnvThreads, ReadsAPositiveInteger) {
  const ScopedEnv guard("MEZZOTINT_NUM_THREADS", "3");
  EXPECT_EQ(env_threads(), 3);
  const ScopedEnv unset("MEZZOTINT_NUM_THREADS", nullptr);
  EXPECT_EQ(env_threads(), std::nullopt);
}

TEST(EnvThreads, RejectsEverythingElse) {
  for (const char* text : {"0", "-1", "2x", " 2", "many", "99999999999999999999"}) {
    const ScopedEnv guard("MEZZOTINT_NUM_THREADS", text);
    try {
      env_threads();
      FAIL() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUsage);
      const std::string what = e.what();
      EXPECT_NE(what.find("MEZZOTINT_NUM_THREADS"), std::string::npos) << what;
      EXPECT_NE(what.find('"' + std::string(text) + '"'), std::string::npos) << what;
    }
  }
}

class EnvRank : public testing::Test {
  const ScopedEnv guards_[6] = {{"OMPI_COMM_WORLD_RANK", nullptr},
                                {"OMPI_COMM_WORLD_SIZE", nullptr},
                                {"PMI_RANK", nullptr},
                                {"PMI_SIZE", nullptr},
                                {"RANK", nullptr},
                                {"WORLD_SIZE", nullptr}};
};

TEST_F(EnvRank, IsAbsentWithoutAWorld) {
  EXPECT_EQ(env_rank(), std::nullopt);
  const ScopedEnv rank("RANK", "3");
  EXPECT_EQ(env_rank(), std::nullopt);
}

TEST_F(EnvRank, CountsOnlyInAWorldOfSeveral) {
  const ScopedEnv rank("RANK", "0");
  const ScopedEnv one("WORLD_SIZE", "1");
  EXPECT_EQ(env_rank(), std::nullopt);
  const ScopedEnv two("WORLD_SIZE", "2");
  EXPECT_EQ(env_rank(), 0);
}

TEST_F(EnvRank, PrefersOpenMpiThenPmi) {
  const ScopedEnv a("RANK", "1");
  const ScopedEnv b("WORLD_SIZE", "8");
  const ScopedEnv c("PMI_RANK", "2");
  const ScopedEnv d("PMI_SIZE", "8");
  EXPECT_EQ(env_rank(), 2);
  const ScopedEnv e("OMPI_COMM_WORLD_RANK", "5");
  const ScopedEnv f("OMPI_COMM_WORLD_SIZE", "8");
  EXPECT_EQ(env_rank(), 5);
}

TEST_F(EnvRank, ALaunchIsWhatMpirunSays) {
  const ScopedEnv a("RANK", "1");
  const ScopedEnv b("WORLD_SIZE", "8");
  EXPECT_FALSE(env_launch().has_value()) << "other tools set these for good";
  const ScopedEnv c("PMI_RANK", "2");
  const ScopedEnv d("PMI_SIZE", "4");
  EXPECT_EQ(env_launch()->rank, 2);
  EXPECT_EQ(env_launch()->world, 4);
  const ScopedEnv alone("PMI_SIZE", "1");
  EXPECT_FALSE(env_launch().has_value());
}

TEST_F(EnvRank, RejectsARankOutsideTheWorld) {
  const ScopedEnv rank("RANK", "8");
  const ScopedEnv size("WORLD_SIZE", "8");
  EXPECT_THROW(env_rank(), Error);
}

}  // namespace
}  // namespace mezzotint
