#include <gtest/gtest.h>

#include "mezzotint/tensor.h"

namespace mezzotint {
namespace {

TEST(DType, NamesAreThoseOfSafetensorsAndRoundTrip) {
  int count = 0;
  for (int i = 0; i <= static_cast<int>(DType::kF8E8M0); ++i, ++count) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(dtype_name(dtype)), dtype);
  }
  EXPECT_EQ(count, 16);
  EXPECT_EQ(dtype_name(DType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(dtype_from_name("bf16"), std::nullopt);
  EXPECT_EQ(dtype_from_name(""), std::nullopt);
}

TEST(DType, SizesAreThoseOfTheElements) {
  EXPECT_EQ(dtype_size(DType::kBool), 1);
  EXPECT_EQ(dtype_size(DType::kBF16), 2);
  EXPECT_EQ(dtype_size(DType::kF32), 4);
  EXPECT_EQ(dtype_size(DType::kI64), 8);
  EXPECT_EQ(dtype_size(DType::kF8E8M0), 1);
}

TEST(DType, EightBitFormatsDoNotCountAsFloating) {
  EXPECT_TRUE(is_floating(DType::kF16));
  EXPECT_TRUE(is_floating(DType::kBF16));
  EXPECT_TRUE(is_floating(DType::kF64));
  EXPECT_FALSE(is_floating(DType::kF8E4M3));
  EXPECT_FALSE(is_floating(DType::kI32));
}

}  // namespace
}  // namespace mezzotint
