#include "mezzotint/tensor.h"

#include <gtest/gtest.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

TEST(Tensor, DefaultIsEmpty) {
  const Tensor t;
  EXPECT_TRUE(t.empty());
  EXPECT_EQ(t.byte_size(), 0);
}

TEST(Tensor, CopiesValues) {
  const float values[] = {1, 2, 3, 4, 5, 6};
  const Tensor t = Tensor::copy_of<float>(values, {2, 3});
  EXPECT_EQ(t.dtype(), DType::kF32);
  EXPECT_EQ(t.dim(1), 3);
  EXPECT_EQ(t.data<float>()[5], 6);
  EXPECT_THROW(Tensor::copy_of<float>(values, {2, 2}), Error);
}

TEST(Tensor, ReadsOnlyAsItsOwnType) {
  const Tensor t = Tensor::allocate(DType::kBF16, {4});
  EXPECT_THROW(t.data<float>(), Error);
  EXPECT_NO_THROW(Tensor::allocate(DType::kI8, {4}).data<int8_t>());
}

TEST(Tensor, MustFillItsBuffer) {
  EXPECT_NO_THROW(Tensor(DType::kF32, {2, 2}, Buffer::allocate(16)));
  EXPECT_THROW(Tensor(DType::kF32, {2, 2}, Buffer::allocate(15)), Error);
  EXPECT_THROW(Tensor(DType::kF32, {2, 2}, Buffer::allocate(17)), Error);
}

TEST(Tensor, MustBeAlignedToItsElements) {
  const Buffer b = Buffer::allocate(64);
  EXPECT_THROW(Tensor(DType::kF32, {2}, b.slice(2, 8)), Error);
  EXPECT_NO_THROW(Tensor(DType::kBF16, {4}, b.slice(2, 8)));
}

TEST(Tensor, ReshapeSharesTheBytes) {
  const Tensor t = Tensor::allocate(DType::kU8, {6});
  EXPECT_EQ(t.reshaped({2, 3}).raw(), t.raw());
  EXPECT_THROW(t.reshaped({5}), Error);
}

}  // namespace
}  // namespace mezzotint
