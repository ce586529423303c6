#include "solve/widen.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace mezzotint {
namespace {

std::vector<float> floats(const Tensor& t) {
  std::vector<float> values(static_cast<size_t>(t.size()));
  widen_into(t, values);
  return values;
}

// All 65,536 values of both halves return; NaNs return as NaNs.
TEST(Widen, ExhaustiveHalvesGoThereAndBack) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    std::vector<uint16_t> bits;
    for (uint32_t b = 0; b < 65536; ++b) bits.push_back(static_cast<uint16_t>(b));
    const Tensor t(dtype, {65536}, Buffer::borrow_const(bits.data(), 2 * 65536));
    const Tensor back = Tensor::allocate(dtype, {65536});
    const std::vector<float> values = floats(t);
    narrow_range(values, back, 0);
    int64_t checked = 0;
    for (size_t i = 0; i < bits.size(); ++i) {
      uint16_t got = 0;
      std::memcpy(&got, back.raw() + 2 * i, 2);
      ASSERT_TRUE(got == bits[i] || std::isnan(values[i])) << i;
      ++checked;
    }
    EXPECT_EQ(checked, 65536);
    EXPECT_TRUE(std::isnan(floats(back)[0xffff]));
  }
}

TEST(Widen, RoundsDoublesOnce) {
  const std::vector<double> values = {1.0 / 3.0, -2.5, 1e300};
  const Tensor t = Tensor::copy_of<double>(values, {3});
  EXPECT_EQ(floats(t)[0], static_cast<float>(1.0 / 3.0));
  EXPECT_EQ(floats(t)[1], -2.5f);
  EXPECT_TRUE(std::isinf(floats(t)[2]));
}

TEST(Widen, TakesARange) {
  const std::vector<float> values = {1, 2, 3, 4};
  const Tensor t = Tensor::copy_of<float>(values, {4});
  std::vector<float> middle(2);
  widen_range(t, 1, middle);
  EXPECT_EQ(middle, (std::vector<float>{2, 3}));
  const Tensor out = Tensor::copy_of<float>(values, {4});
  narrow_range(middle, out, 2);
  EXPECT_EQ(floats(out), (std::vector<float>{1, 2, 2, 3}));
}

}  // namespace
}  // namespace mezzotint
