// NVIDIA's conversions (cuda_fp8.h, cuda_fp4.h: host code, plain C++) against ours, where
// cmake/tests.cmake found the headers of CUDA 12.8 or later.

#include <gtest/gtest.h>

#if __has_include(<cuda_fp4.h>)
#include <cuda_fp4.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

#include "numerics/e2m1.h"
#include "numerics/e4m3.h"
#include "numerics/e5m2.h"
#include "numerics/f16.h"
#include "numerics/mx.h"

namespace mezzotint {
namespace {

constexpr Rounding kEven = Rounding::kHalfEven;

// NaN is 0 in our e2m1 and the largest in theirs; returns whether all three formats agree.
bool agrees(float x) {
  const uint8_t fp4 = __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest);
  return e4m3_from_float(x, kEven) == __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3) &&
         e5m2_from_float(x, kEven) == __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E5M2) &&
         (is_nan(x) || e2m1_from_float(x, kEven) == fp4);
}

TEST(CudaOracle, AgreesOnEveryBf16) {
  int count = 0;
  for (uint32_t upper = 0; upper < 0x10000; ++upper, ++count) {
    ASSERT_TRUE(agrees(std::bit_cast<float>(upper << 16))) << upper;
  }
  EXPECT_EQ(count, 65536);
}

TEST(CudaOracle, AgreesOnFourMillionRandomFloats) {
  std::mt19937 rng(53);
  for (int i = 0; i < 4000000; ++i) {
    // Half of them of exponents that the formats have.
    const auto any = static_cast<uint32_t>(rng());
    const uint32_t near = (any & 0x83ffffffu) + 0x37000000u + (any >> 26 & 7u) * 0x02000000u;
    const uint32_t bits = i % 2 == 0 ? any : near;
    ASSERT_TRUE(agrees(std::bit_cast<float>(bits))) << bits;
  }
}

// Every tie of formats with so few bits is a bf16: these are the floats beside it.
TEST(CudaOracle, AgreesNextToEveryBf16) {
  for (uint32_t upper = 0; upper < 0x10000; ++upper) {
    ASSERT_TRUE(agrees(std::bit_cast<float>((upper << 16) + 1))) << upper;
    ASSERT_TRUE(agrees(std::bit_cast<float>((upper << 16) - 1))) << upper;
  }
}

TEST(CudaOracle, EveryCodeHasTheirValue) {
  for (unsigned code = 0; code < 256; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    const float e4m3 = f16_to_float(__nv_cvt_fp8_to_halfraw(byte, __NV_E4M3).x);
    const float e5m2 = f16_to_float(__nv_cvt_fp8_to_halfraw(byte, __NV_E5M2).x);
    EXPECT_EQ(std::isnan(e4m3), std::isnan(e4m3_to_float(byte))) << code;
    EXPECT_EQ(std::isnan(e5m2), std::isnan(e5m2_to_float(byte))) << code;
    if (!std::isnan(e4m3)) {
      EXPECT_EQ(e4m3, e4m3_to_float(byte)) << code;
    }
    if (!std::isnan(e5m2)) {
      EXPECT_EQ(e5m2, e5m2_to_float(byte)) << code;
    }
    if (code < 16) {
      const float e2m1 = f16_to_float(__nv_cvt_fp4_to_halfraw(byte, __NV_E2M1).x);
      EXPECT_EQ(e2m1, e2m1_to_float(byte)) << code;
    }
  }
}

// RCEIL is their upward cast of amax * f32(1/max); FLOOR their downward one, moved by emax.
TEST(CudaOracle, ScaleBytesAreTheirE8m0Casts) {
  std::mt19937 rng(59);
  for (int i = 0; i < 1000000; ++i) {
    const uint32_t random = static_cast<uint32_t>(rng()) & 0x7fffffffu;
    const float amax = std::bit_cast<float>(i < 0x7f80 ? static_cast<uint32_t>(i) << 16 : random);
    if (!is_finite(amax)) continue;
    for (const Element element : {Element::kE4M3, Element::kE5M2, Element::kE2M1}) {
      const float product = amax * (1.0f / element_max(element));
      const int ceil = __nv_cvt_float_to_e8m0(product, __NV_SATFINITE, cudaRoundPosInf);
      ASSERT_EQ(mx_scale_byte(amax, element, MxScaleRule::kRceil, 0), ceil) << amax;
      const int floor = __nv_cvt_float_to_e8m0(amax, __NV_SATFINITE, cudaRoundZero);
      ASSERT_EQ(mx_scale_byte(amax, element, MxScaleRule::kFloor, 0),
                std::max(floor - element_emax(element), 0))
          << amax;
    }
  }
}

}  // namespace
}  // namespace mezzotint

#else

TEST(CudaOracle, IsPartOfTheCudaToolkit) {
  GTEST_SKIP() << "cuda_fp4.h of CUDA 12.8 or later was not found when this was configured";
}

#endif
