#include "solve/assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

namespace mezzotint {
namespace {

// Layers of several sizes; option 0 is float, the others are smaller and worse.
AssignmentMenu random_layers(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> factor(0.2, 5.0);
  AssignmentMenu menu;
  for (size_t i = 0; i < count; ++i) {
    const int64_t elements = 1000 * (1 + static_cast<int64_t>(random() % 40));
    const double sensitivity = factor(random) * factor(random);
    menu.push_back({{2 * elements, 0.0},
                    {elements, 1e-4 * sensitivity},
                    {elements / 2, 1e-2 * sensitivity * factor(random)}});
  }
  return menu;
}

std::vector<Assignment> uniform(const AssignmentMenu& menu) {
  std::vector<Assignment> starts;
  for (size_t i = 0; i < menu.front().size(); ++i) starts.emplace_back(menu.size(), i);
  return starts;
}

double least_error(const AssignmentMenu& menu, int64_t budget) {
  double least = std::numeric_limits<double>::infinity();
  Assignment chosen(menu.size(), 0);
  while (true) {
    if (assigned_bytes(menu, chosen) <= budget) {
      least = std::min(least, assigned_error(menu, chosen));
    }
    size_t i = 0;
    while (i < chosen.size() && ++chosen[i] == menu[i].size()) chosen[i++] = 0;
    if (i == chosen.size()) return least;
  }
}

TEST(Assignment, IsCloseToTheBestOfAllChoices) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const AssignmentMenu menu = random_layers(8, seed);
    const int64_t all = assigned_bytes(menu, Assignment(8, 0));
    const int64_t budget = all * (35 + static_cast<int64_t>(seed) * 2) / 100;
    const Assignment chosen = assign_options(menu, budget, {});
    ASSERT_EQ(chosen.size(), 8u);
    EXPECT_LE(assigned_bytes(menu, chosen), budget);
    EXPECT_LE(assigned_error(menu, chosen), 1.05 * least_error(menu, budget)) << seed;
  }
}

TEST(Assignment, FillsTheBudgetOfManyLayersAndIsNoWorseThanAnyUniformOne) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const AssignmentMenu menu = random_layers(60, 100 + seed);
    const int64_t all = assigned_bytes(menu, Assignment(60, 0));
    for (const int64_t percent : {26, 40, 50, 70, 90}) {
      const int64_t budget = all * percent / 100;
      const Assignment chosen = assign_options(menu, budget, uniform(menu));
      EXPECT_LE(assigned_bytes(menu, chosen), budget);
      EXPECT_GE(assigned_bytes(menu, chosen), budget * 98 / 100) << seed << " " << percent;
      for (const Assignment& same : uniform(menu)) {
        if (assigned_bytes(menu, same) > budget) continue;
        EXPECT_LE(assigned_error(menu, chosen), assigned_error(menu, same));
      }
    }
  }
}

TEST(Assignment, IsNeverWorseThanAStart) {
  // The step of most gain per byte leaves no room for the one that matters.
  const AssignmentMenu menu = {{{0, 1.0}, {6, 0.3}}, {{0, 2.0}, {10, 0.9}}};
  EXPECT_EQ(assign_options(menu, 10, {}), (Assignment{0, 1}));
  EXPECT_EQ(assign_options(menu, 10, {{0, 1}}), (Assignment{0, 1}));
}

TEST(Assignment, LeavesNoStepThatFits) {
  const AssignmentMenu menu = {{{10, 1.0}, {5, 3.0}}, {{10, 1.0}, {5, 2.0}}};
  EXPECT_EQ(assign_options(menu, 10, {}), (Assignment{1, 1}));
  EXPECT_EQ(assign_options(menu, 15, {}), (Assignment{0, 1}));
  EXPECT_EQ(assign_options(menu, 100, {}), (Assignment{0, 0}));
}

TEST(Assignment, IsEmptyWhereNothingFits) {
  EXPECT_TRUE(assign_options({{{10, 0.0}}, {{5, 1.0}}}, 14, {}).empty());
  EXPECT_TRUE(assign_options({}, 14, {}).empty());
  EXPECT_EQ(assign_options({{{0, 1.0}, {3, 0.0}}}, 0, {}), Assignment{0});
}

}  // namespace
}  // namespace mezzotint
