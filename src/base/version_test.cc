#include "mezzotint/version.h"

#include <gtest/gtest.h>

#include <string>

namespace mezzotint {
namespace {

TEST(Version, IsMajorMinorPatch) {
  const std::string expected = std::to_string(MZ_VERSION_MAJOR) + "." +
                               std::to_string(MZ_VERSION_MINOR) + "." +
                               std::to_string(MZ_VERSION_PATCH);
  EXPECT_EQ(version(), expected);
}

}  // namespace
}  // namespace mezzotint
