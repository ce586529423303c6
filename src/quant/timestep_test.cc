#include "mezzotint/timestep.h"

#include <gtest/gtest.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(TimestepPolicy, LaterCallsWinAndOtherStepsKeepTheDefault) {
  TimestepPolicy policy;
  policy.set(0, 2, StepMode::kStatic);
  policy.set(1, 1, StepMode::kDynamic);
  EXPECT_EQ(policy.at(0), StepMode::kStatic);
  EXPECT_EQ(policy.at(1), StepMode::kDynamic);
  EXPECT_EQ(policy.at(2), StepMode::kStatic);
  EXPECT_EQ(policy.at(3), StepMode::kDynamic);
  EXPECT_EQ(policy.at(-1), StepMode::kDynamic);
  EXPECT_EQ(TimestepPolicy(StepMode::kStatic).at(7), StepMode::kStatic);
}

TEST(TimestepPolicy, TextGivesThePolicyBack) {
  TimestepPolicy policy;
  EXPECT_EQ(policy.text(), "dynamic");
  policy.set(25, 49, StepMode::kStatic);
  EXPECT_EQ(policy.text(), "static 25-49");
  policy.set(0, 3, StepMode::kStatic);
  policy.set(30, 30, StepMode::kDynamic);
  EXPECT_EQ(policy.text(), "static 0-3,25-29,31-49");
  for (const char* text : {"static 0-3,25-29,31-49", "dynamic 0-24", "static", "static 7-7"}) {
    const TimestepPolicy read = TimestepPolicy::parse(text);
    EXPECT_EQ(read.text(), text);
  }
  EXPECT_EQ(TimestepPolicy::parse("dynamic 0-24").at(24), StepMode::kDynamic);
  EXPECT_EQ(TimestepPolicy::parse("dynamic 0-24").at(25), StepMode::kStatic);
}

TEST(TimestepPolicy, WhatCannotBeMeantIsRefused) {
  for (const char* text : {"", "fixed", "static x", "static 3-1", "static 1,", "static -1",
                           "static 99999999999", "Static 1"}) {
    EXPECT_THROW(TimestepPolicy::parse(text), Error) << text;
  }
  TimestepPolicy policy;
  EXPECT_THROW(policy.set(-1, 2, StepMode::kStatic), Error);
  EXPECT_THROW(policy.set(3, 2, StepMode::kStatic), Error);
}

}  // namespace
}  // namespace mezzotint
