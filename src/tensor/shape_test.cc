#include <gtest/gtest.h>

#include "mezzotint/error.h"
#include "mezzotint/tensor.h"

namespace mezzotint {
namespace {

TEST(Shape, CountsElementsAndBytes) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({3, 0, 5}), 0);
  EXPECT_EQ(element_count({3072, 64}), 196608);
  EXPECT_EQ(byte_count(DType::kBF16, {3, 5}), 30);
  EXPECT_EQ(to_string(Shape{3072, 1}), "[3072,1]");
  EXPECT_EQ(to_string(Shape{}), "[]");
}

TEST(Shape, RejectsOverflowAndNegativeDimensions) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  EXPECT_THROW(element_count({kHuge, 2}), Error);
  EXPECT_NO_THROW(element_count({kHuge}));
  EXPECT_THROW(byte_count(DType::kU16, {kHuge}), Error);
  EXPECT_NO_THROW(byte_count(DType::kU8, {kHuge}));
  EXPECT_THROW(element_count({2, -1}), Error);
}

}  // namespace
}  // namespace mezzotint
