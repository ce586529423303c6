#include "models/token_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "nn/linear_input.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

constexpr int64_t kBatch = 3, kTokens = 37, kHeadDim = 10, kWidth = 2 * kHeadDim;
constexpr int64_t kPadding = 7;  // elements before the first token, or between tokens
constexpr float kEps = 1e-6f;

enum class Order { kBatchMajor, kTokenMajor, kWithinWiderRows };

// [batch, tokens, width] somewhere in memory whose other elements must stay as they are.
class Tokens {
 public:
  Tokens(DType dtype, Order order, uint32_t seed) {
    const int64_t row = order == Order::kWithinWiderRows ? kWidth + kPadding : kWidth;
    const bool token_major = order == Order::kTokenMajor;
    const FloatType type = float_type_of(dtype);
    const int64_t size = kBatch * kTokens * row + kPadding;
    bytes_.resize(static_cast<size_t>(size * float_size(type)));
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < size; ++i) store_float(normal(random), bytes_.data(), type, i);
    view_ = {.data = offset_floats(bytes_.data(), type, kPadding),
             .dtype = dtype,
             .batch = kBatch,
             .tokens = kTokens,
             .width = kWidth,
             .batch_stride = token_major ? row : kTokens * row,
             .token_stride = token_major ? kBatch * row : row};
  }
  Tokens(const Tokens&) = delete;

  const TokensView& view() const { return view_; }
  double at(int64_t sample, int64_t token, int64_t i) const {
    const int64_t at = sample * view_.batch_stride + token * view_.token_stride + i;
    return load_float(view_.data, float_type_of(view_.dtype), at);
  }
  std::vector<double> token(int64_t sample, int64_t token) const {
    std::vector<double> values;
    for (int64_t i = 0; i < kWidth; ++i) values.push_back(at(sample, token, i));
    return values;
  }
  std::vector<std::byte> bytes() const { return bytes_; }
  // Bytes that belong to no token.
  int64_t changed_outside(const std::vector<std::byte>& before) const {
    std::vector<bool> inside(bytes_.size(), false);
    const int64_t size = float_size(float_type_of(view_.dtype));
    for (int64_t s = 0; s < kBatch; ++s) {
      for (int64_t t = 0; t < kTokens; ++t) {
        const int64_t first = kPadding + s * view_.batch_stride + t * view_.token_stride;
        std::fill_n(inside.begin() + first * size, kWidth * size, true);
      }
    }
    int64_t count = 0;
    for (size_t i = 0; i < bytes_.size(); ++i) count += !inside[i] && bytes_[i] != before[i];
    return count;
  }

 private:
  std::vector<std::byte> bytes_;
  TokensView view_;
};

std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(random);
  return values;
}

const ExecContext& context() {
  static const ExecContext ctx({.threads = 2});
  return ctx;
}

// Half an ulp of y, and the sums of a few dozen terms near 1 in f32.
double bound(DType dtype, double want) {
  const double unit = dtype == DType::kF32 ? 0x1p-24 : (dtype == DType::kBF16 ? 0x1p-8 : 0x1p-11);
  return unit * std::fabs(want) + 64 * 0x1p-24 * (1 + std::fabs(want));
}

using Expected = std::function<std::vector<double>(int64_t sample, int64_t token)>;

int64_t misses(const Tokens& y, const Expected& expected) {
  int64_t count = 0;
  for (int64_t s = 0; s < kBatch; ++s) {
    for (int64_t t = 0; t < kTokens; ++t) {
      const std::vector<double> want = expected(s, t);
      for (int64_t i = 0; i < kWidth; ++i) {
        const double w = want[static_cast<size_t>(i)];
        count += !(std::fabs(y.at(s, t, i) - w) <= bound(y.view().dtype, w));
      }
    }
  }
  return count;
}

class TokenOps : public testing::TestWithParam<std::tuple<DType, Order>> {
 protected:
  DType dtype() const { return std::get<0>(GetParam()); }
  Tokens make(uint32_t seed) const { return Tokens(dtype(), std::get<1>(GetParam()), seed); }
  // The other side of an op in the plainest order.
  Tokens plain(uint32_t seed) const { return Tokens(dtype(), Order::kBatchMajor, seed); }

  const std::vector<float> a_ = random_floats(kBatch * kWidth, 11);
  const std::vector<float> b_ = random_floats(kBatch * kWidth, 12);
};

TEST_P(TokenOps, ModulateIsLayerNormWithTheSamplesVectors) {
  const Tokens x = make(1), y = plain(2);
  modulate_tokens(x.view(), {a_.data(), kWidth}, {b_.data(), kWidth}, kEps, y.view(), context());
  const auto expected = [&](int64_t shift_of, int64_t s, int64_t t) {
    std::vector<double> v = x.token(s, t);
    double mean = 0, variance = 0;
    for (const double e : v) mean += e / kWidth;
    for (const double e : v) variance += (e - mean) * (e - mean) / kWidth;
    for (size_t i = 0; i < v.size(); ++i) {
      const size_t k = static_cast<size_t>(s * kWidth) + i;
      const double shift = b_[static_cast<size_t>(shift_of * kWidth) + i];
      v[i] = (v[i] - mean) / std::sqrt(variance + kEps) * (1.0 + a_[k]) + shift;
    }
    return v;
  };
  EXPECT_EQ(misses(y, [&](int64_t s, int64_t t) { return expected(s, s, t); }), 0);
  // The vectors of another sample are seen.
  EXPECT_GT(misses(y, [&](int64_t s, int64_t t) { return expected((s + 1) % kBatch, s, t); }),
            kBatch * kTokens * kWidth / 2);
}

TEST_P(TokenOps, GatedSumsInPlaceAndIntoOthersAreTheSame) {
  const Tokens x = make(1), y = make(2), out = plain(3);
  std::vector<std::vector<double>> want;
  for (int64_t s = 0; s < kBatch; ++s) {
    for (int64_t t = 0; t < kTokens; ++t) {
      std::vector<double> v = y.token(s, t);
      for (int64_t i = 0; i < kWidth; ++i) {
        v[static_cast<size_t>(i)] += a_[static_cast<size_t>(s * kWidth + i)] * x.at(s, t, i);
      }
      want.push_back(v);
    }
  }
  const Expected expected = [&](int64_t s, int64_t t) {
    return want[static_cast<size_t>(s * kTokens + t)];
  };
  const std::vector<std::byte> before = y.bytes();
  add_gated_tokens(x.view(), {a_.data(), kWidth}, y.view(), out.view(), context());
  EXPECT_EQ(misses(out, expected), 0);
  EXPECT_EQ(y.bytes(), before);
  EXPECT_GT(misses(y, expected), 0);
  add_gated_tokens(x.view(), {a_.data(), kWidth}, y.view(), y.view(), context());
  EXPECT_EQ(misses(y, expected), 0);
  EXPECT_EQ(y.changed_outside(before), 0);
}

TEST_P(TokenOps, GeluInPlaceLeavesWhatIsBetween) {
  const Tokens x = make(1), same = make(1);
  const std::vector<std::byte> before = x.bytes();
  gelu_tokens(x.view(), x.view(), context());
  EXPECT_EQ(misses(x,
                   [&](int64_t s, int64_t t) {
                     std::vector<double> v = same.token(s, t);
                     for (double& e : v) {
                       e *= 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (e + 0.044715 * e * e * e)));
                     }
                     return v;
                   }),
            0);
  EXPECT_EQ(x.changed_outside(before), 0);
}

TEST_P(TokenOps, HeadsAreNormalizedAndTurnedByTheirTokensAngles) {
  const Tokens x = make(1), y = plain(2);
  const std::vector<float> weight = random_floats(kHeadDim, 13);
  std::vector<float> cos, sin;
  for (int64_t i = 0; i < kTokens * kHeadDim / 2; ++i) {
    cos.push_back(std::cos(static_cast<float>(i)));
    sin.push_back(std::sin(static_cast<float>(i)));
  }
  rotate_head_tokens(x.view(), {weight.data(), kHeadDim, kEps, cos.data(), sin.data()}, y.view(),
                     context());
  const auto expected = [&](int64_t angles_of, int64_t s, int64_t t) {
    std::vector<double> v = x.token(s, t);
    for (int64_t head = 0; head < kWidth; head += kHeadDim) {
      double square = 0;
      for (int64_t i = 0; i < kHeadDim; ++i) {
        square += std::pow(v[static_cast<size_t>(head + i)], 2) / kHeadDim;
      }
      for (int64_t i = 0; i < kHeadDim; i += 2) {
        const auto at = static_cast<size_t>(head + i), in_head = static_cast<size_t>(i);
        const double x0 = v[at] / std::sqrt(square + kEps) * weight[in_head];
        const double x1 = v[at + 1] / std::sqrt(square + kEps) * weight[in_head + 1];
        const auto angle = static_cast<size_t>((angles_of * kHeadDim + i) / 2);
        v[at] = x0 * cos[angle] - x1 * sin[angle];
        v[at + 1] = x1 * cos[angle] + x0 * sin[angle];
      }
    }
    return v;
  };
  EXPECT_EQ(misses(y, [&](int64_t s, int64_t t) { return expected(t, s, t); }), 0);
  EXPECT_GT(misses(y, [&](int64_t s, int64_t t) { return expected((t + 1) % kTokens, s, t); }),
            kBatch * kTokens * kWidth / 2);
}

std::string name_of(const testing::TestParamInfo<std::tuple<DType, Order>>& info) {
  constexpr const char* kOrders[] = {"BatchMajor", "TokenMajor", "Wider"};
  const auto& [dtype, order] = info.param;
  return std::string(dtype_name(dtype)) + kOrders[static_cast<int>(order)];
}

INSTANTIATE_TEST_SUITE_P(All, TokenOps,
                         testing::Combine(testing::Values(DType::kF32, DType::kBF16, DType::kF16),
                                          testing::Values(Order::kBatchMajor, Order::kTokenMajor,
                                                          Order::kWithinWiderRows)),
                         name_of);

}  // namespace
}  // namespace mezzotint
