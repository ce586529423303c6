#include "numerics/e8m0.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>

#include "numerics/golden_testing.h"

namespace mezzotint {
namespace {

TEST(E8M0, EveryByteHasTheLibrarysValue) {
  const GoldenJson values =
      read_numerics_golden(MZ_SOURCE_DIR, "elements.json").at("e8m0").at("values");
  int count = 0;
  for (int byte = 0; byte < 256; ++byte, ++count) {
    const float value = e8m0_to_float(static_cast<uint8_t>(byte));
    if (byte == kE8M0NaN) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(values.at(255).is_string());
    } else {
      EXPECT_EQ(value, std::ldexp(1.0, byte - kE8M0Bias)) << byte;
      EXPECT_EQ(std::bit_cast<uint32_t>(value), values.at(static_cast<size_t>(byte))) << byte;
    }
  }
  EXPECT_EQ(count, 256);
}

}  // namespace
}  // namespace mezzotint
