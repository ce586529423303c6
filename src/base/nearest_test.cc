#include "base/nearest.h"

#include <gtest/gtest.h>

namespace mezzotint {
namespace {

using Names = std::vector<std::string>;

TEST(EditDistance, CountsInsertionsDeletionsAndReplacements) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("flaw", "lawn"), 2u);
  EXPECT_EQ(edit_distance("w8a8_dynamic", "W8A8_DYNAMIC"), 0u);
}

TEST(NearestNames, ComeByRisingDistanceAndAreLimited) {
  const Names names = {"w8a16", "w8a8_dynamic", "w4a4_dynamic", "w8a8", "float", "w8a8_timestep"};
  EXPECT_EQ(nearest_names("w8a8_dynamc", names, 2), (Names{"w8a8_dynamic", "w4a4_dynamic"}));
  EXPECT_EQ(nearest_names("w8a8", names).size(), 5u);
  EXPECT_EQ(nearest_names("w8a8", names).front(), "w8a8");
}

TEST(NearestNames, KeepTheGivenOrderAmongEquals) {
  const Names names = {"b1", "b2", "b3"};
  EXPECT_EQ(nearest_names("b", names, 3), names);
}

TEST(NearestNames, BearVeryLongNames) {
  const Names names = {std::string(1'000'000, 'x'), "abc"};
  EXPECT_EQ(nearest_names(std::string(1'000'000, 'y'), names, 1).size(), 1u);
}

TEST(DidYouMean, ListsOrIsEmpty) {
  EXPECT_EQ(did_you_mean(Names{"a", "b"}), "did you mean a, b?");
  EXPECT_EQ(did_you_mean({}), "");
}

}  // namespace
}  // namespace mezzotint
