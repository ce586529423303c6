// Every case is run both ways: README.md.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>

namespace mezzotint::conformance {
namespace {

constexpr int kCases = 48;

// Numbers of the tests named CaseNN_ in a suite.
std::set<int> cases_of(std::string_view wanted) {
  std::set<int> numbers;
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  for (int i = 0; i < tests.total_test_suite_count(); ++i) {
    const testing::TestSuite& suite = *tests.GetTestSuite(i);
    if (suite.name() != wanted) continue;
    for (int j = 0; j < suite.total_test_count(); ++j) {
      const std::string name = suite.GetTestInfo(j)->name();
      EXPECT_TRUE(name.starts_with("Case") && name.at(6) == '_') << name;
      numbers.insert(std::stoi(name.substr(4, 2)));
    }
  }
  return numbers;
}

TEST(ConformanceNumbers, EveryCaseHasAnExpectationOfTheDefaultAndOneOfUpstream) {
  const std::set<int> ours = cases_of("Conformance");
  const std::set<int> upstreams = cases_of("ConformanceUpstream");
  const std::set<int> both = cases_of("ConformanceEitherWay");
  for (int number = 1; number <= kCases; ++number) {
    EXPECT_TRUE(both.contains(number) || ours.contains(number)) << number << " by default";
    EXPECT_TRUE(both.contains(number) || upstreams.contains(number)) << number << " of upstream";
  }
  for (const std::set<int>& numbers : {ours, upstreams, both}) {
    EXPECT_GE(*numbers.begin(), 1);
    EXPECT_LE(*numbers.rbegin(), kCases);
  }
}

}  // namespace
}  // namespace mezzotint::conformance
