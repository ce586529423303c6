// Every row of kernels.inc against the reference row of its layout and form of x.

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "kernels/linear_comparison.h"
#include "kernels/panel_layout.h"
#include "numerics/e8m0.h"
#include "numerics/int8.h"

namespace mezzotint {
namespace {

using namespace linear_problem;  // NOLINT(google-build-using-namespace): this file is about it
using testing_data::linear_row;

// Tails around every tile edge of every row: 12, 14, 112, 120 and 224 rows, panels of 32, tiles of
// 256, 512 and 1024 columns, steps of 4, 8, 16, 32 and 64, blocks of 256, 512 and 3072 k; groups of
// 64.
constexpr Size kSizes[] = {
    {1, 1, 1},      {1, 31, 33},    {2, 2, 2},      {3, 33, 17},   {4, 64, 127},   {5, 15, 63},
    {14, 32, 64},   {15, 65, 65},   {16, 127, 15},  {17, 16, 16},  {29, 17, 129},  {31, 129, 31},
    {33, 63, 128},  {63, 31, 1023}, {113, 33, 257}, {129, 257, 3}, {257, 1, 1040}, {1, 520, 1100},
    {121, 1030, 5}, {3, 33, 6177},  {226, 33, 513}, {2, 513, 24},  {3, 34, 1152},  {30, 70, 1152},
    {16, 70, 1152}, {9, 33, 2113},  {1, 70, 1152},  {1, 45, 2113},
};

class LinearRows : public testing::TestWithParam<const LinearKernel*> {
 protected:
  void SetUp() override {
    if (row().isa > active_isa()) {
      GTEST_SKIP() << row().name << " needs " << isa_name(row().isa);
    }
  }
  const LinearKernel& row() const { return *GetParam(); }
};

// What is no reference row itself.
class ComparedRows : public LinearRows {};

TEST_P(ComparedRows, AgreeWithTheReferenceOnEveryTail) {
  int served = 0;
  for (const Size& size : kSizes) {
    for (Element element : elements_of(row())) {
      for (FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
        for (Scales scales : scales_of(row())) {
          SCOPED_TRACE(testing::Message()
                       << size.m << "x" << size.n << "x" << size.k << " element "
                       << static_cast<int>(element) << " type " << static_cast<int>(type)
                       << " scales " << static_cast<int>(scales));
          const bool has_bias = size.m % 2 == 1;
          const Problem p = make_problem(row(), size, type, element, has_bias, scales);
          if (row().weights == WeightForm::kGrouped && is_exact(row(), p)) continue;  // one group
          if (!serves(row(), p)) continue;
          ++served;
          const Output y = run(row(), p, type);
          const Output reference = run(reference_of(row()), p, type);
          EXPECT_EQ(difference(p, row(), y, reference), std::nullopt);
          EXPECT_TRUE(frame_untouched(y, size));
        }
      }
    }
  }
  EXPECT_GE(served, 8);
}

// The row's own largest m, up to 131.
int64_t accepted_rows(const LinearKernel& row, FloatType type) {
  for (int64_t m : {131, 16}) {
    if (row.declines == nullptr || row.declines({m, 300, 192, type}) == nullptr) return m;
  }
  return 4;
}

// The rows that read one type of x read bf16.
FloatType accepted_type(const LinearKernel& row) {
  const bool all = row.declines == nullptr || row.declines({2, 2, 2}) == nullptr;
  return all ? FloatType::kF32 : FloatType::kBF16;
}

TEST_P(LinearRows, GivesTheSameBitsForAnyNumberOfThreads) {
  const FloatType type = accepted_type(row());
  const Size size{accepted_rows(row(), type), 300, 192};
  const Scales scales = scales_of(row()).front();
  const Problem p = make_problem(row(), size, type, elements_of(row())[0], true, scales);
  const Output one = run(row(), p, FloatType::kF32, 1);
  for (int threads : {2, 7}) {
    EXPECT_EQ(run(row(), p, FloatType::kF32, threads).bytes, one.bytes) << threads;
  }
}

// A high bit of w[0,0]. One MX code is small beside the outliers of x: a row of zeros is not.
void corrupt(const LinearKernel& row, Problem& p) {
  std::byte* payload = p.blob.mutable_data() + sizeof(PackedHeader);
  if (row.activation == ActivationForm::kMxRows) {  // all layouts begin with codes of w[0, ...]
    const Buffer& blob = p.blob;
    std::fill_n(payload, std::min<int64_t>(packed_header(blob).payload_bytes, 512), std::byte{0});
  } else if (p.element == Element::kInt4) {
    payload[0] ^= std::byte{0x04};
  } else {
    const int64_t last_byte = dtype_size(element_dtype(p.element)) - 1;
    payload[last_byte] ^= std::byte{0x40};
  }
}

TEST_P(LinearRows, ComparisonSeesOneCorruptedWeight) {
  for (FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
    const Scales scales = scales_of(row()).front();
    Problem p = make_problem(row(), {4, 33, 192}, type, elements_of(row())[0], false, scales);
    if (!serves(row(), p)) continue;
    const Output reference = run(reference_of(row()), p, type);
    ASSERT_EQ(difference(p, row(), run(row(), p, type), reference), std::nullopt);
    corrupt(row(), p);
    EXPECT_NE(difference(p, row(), run(row(), p, type), reference), std::nullopt);
  }
}

// The largest sums there are: every product at its extreme, all of one sign.
TEST_P(LinearRows, ExtremeCodesAtTheLongestKDoNotOverflow) {
  // Float sums do not overflow, and int4 codes are sixteen times smaller.
  if (row().activation != ActivationForm::kInt8Rows || elements_of(row())[0] == Element::kInt4 ||
      row().weights == WeightForm::kGrouped) {
    return;
  }
  for (const auto& [m, code] : {std::pair{1, int8_t{127}}, std::pair{1, int8_t{-128}},
                                std::pair{2, int8_t{127}}, std::pair{2, int8_t{-128}}}) {
    const Size size{m, 2, kIntegerSumMaxK};
    Problem p = make_problem(row(), size, FloatType::kF32, Element::kInt8, false);
    for (int64_t i = 0; i < size.m; ++i) {  // what stands behind k is padding and stays 0
      std::fill_n(p.xq.begin() + i * padded_k(size.k), size.k, int8_t{127});
    }
    std::fill(p.x_sum.begin(), p.x_sum.end(), static_cast<int32_t>(127 * size.k));
    std::fill(p.x_scale.begin(), p.x_scale.end(), 1.0f);
    std::fill(p.w_scale.begin(), p.w_scale.end(), 1.0f);
    const std::vector<int8_t> w(static_cast<size_t>(size.n * size.k), code);
    p.blob = pack_weight(
        layout_row(row().layout),
        {Element::kInt8, size.n, size.k, reinterpret_cast<const std::byte*>(w.data())}, 0);
    const Output y = run(row(), p, FloatType::kF32);
    EXPECT_EQ(y.at(m - 1, 1), static_cast<float>(int64_t{127} * code * size.k)) << m;
  }
}

// Groups around the blocks of k that tiles walk in.
TEST_P(LinearRows, LongGroupsAgreeWithTheReference) {
  const std::vector<Scales> scales = scales_of(row());
  if (std::find(scales.begin(), scales.end(), Scales::kGroups) == scales.end()) return;
  for (const int64_t m : {3, 40}) {
    for (const int64_t group : {192, 544, 1056}) {
      const Size size{m, 40, 2 * group};
      const Problem p = make_problem(row(), size, FloatType::kBF16, elements_of(row())[0], true,
                                     Scales::kGroups, 2);
      if (!serves(row(), p)) continue;
      const Output y = run(row(), p, FloatType::kF32);
      const Output reference = run(reference_of(row()), p, FloatType::kF32);
      EXPECT_EQ(difference(p, row(), y, reference), std::nullopt) << m << " " << group;
    }
  }
}

// Codes of x whose pairs exceed what 16 bits hold of a sum of two products: in no row, in some
// steps, and in so many that a row which treats them apart has to give up, with every mixture of
// signs.
TEST_P(LinearRows, LargePairsOfCodesAreExact) {
  if (row().activation != ActivationForm::kInt8Rows || elements_of(row())[0] == Element::kInt4 ||
      row().weights == WeightForm::kGrouped) {
    return;
  }
  constexpr int8_t kPairs[][2] = {{127, 127}, {-128, -128}, {-128, 127}, {64, 65},   {-64, -65},
                                  {64, 64},   {-127, -1},   {1, 127},    {127, 2},   {-128, -1},
                                  {0, -128},  {100, 100},   {-90, -80},  {127, -128}};
  for (const int64_t m : {2, 5, 23}) {
    for (const int64_t every : {1, 7, 20, 50}) {  // pairs
      const Size size{m, 65, 803};
      Problem p = make_problem(row(), size, FloatType::kF32, Element::kInt8, true);
      for (int64_t i = 0; i < m; ++i) {
        int8_t* codes = p.xq.data() + i * padded_k(size.k);
        for (int64_t k = 0; k + 1 < size.k; k += 2) {
          const bool large = (k / 2 + i) % every == 0;
          const auto& pair = kPairs[static_cast<size_t>(k / 2 / every + i) % std::size(kPairs)];
          codes[k] = large ? pair[0] : static_cast<int8_t>(k % 61 - 30);
          codes[k + 1] = large ? pair[1] : static_cast<int8_t>(k % 37 - 18);
        }
        int32_t sum = 0;
        for (int64_t k = 0; k < size.k; ++k) sum += codes[k];
        p.x_sum[static_cast<size_t>(i)] = sum;
        p.x_scale[static_cast<size_t>(i)] = 1.0f;
      }
      const Output reference = run(reference_of(row()), p, FloatType::kF32);
      EXPECT_EQ(run(row(), p, FloatType::kF32).bytes, reference.bytes) << m << " " << every;
    }
  }
}

// Block scales far apart whose product is 1: only the product may be limited by the floats.
TEST_P(LinearRows, ExtremeBlockScalesCancel) {
  const Element element = elements_of(row())[0];
  if (element != Element::kE2M1 && element != Element::kE4M3) return;
  // The largest element times 2^far is a float, of e4m3 sums of products as well, which some rows
  // scale behind; byte 0 is 2^-127.
  constexpr int kOne = 127;
  const int far = element == Element::kE2M1 ? 125 : 100;
  for (const int64_t m : {1, 6}) {
    Problem p = make_problem(row(), {m, 40, 160}, FloatType::kF32, element, false);
    if (!serves(row(), p)) continue;
    const auto run_with = [&](int x, int w) {
      std::fill(p.x_block_scale.begin(), p.x_block_scale.end(), static_cast<uint8_t>(x));
      std::fill(p.w_block_scale.begin(), p.w_block_scale.end(), static_cast<uint8_t>(w));
      return run(row(), p, FloatType::kF32).bytes;
    };
    const std::vector<std::byte> plain = run_with(kOne, kOne);
    EXPECT_EQ(run_with(kOne - far, kOne + far), plain) << m;
    EXPECT_EQ(run_with(kOne + far, kOne - far), plain) << m;
    EXPECT_NE(run_with(kOne, kOne + 1), plain);
    if (element != Element::kE2M1) continue;
    for (const int w : {0, 1, 2}) {
      EXPECT_EQ(run_with(kOne + far, w), run_with(kOne, w + far)) << m << " " << w;
    }
  }
}

// A scale, or an e4m3 code, that is no number spoils its output and no other.
TEST_P(LinearRows, NansOfWeightsSpoilTheirOutputsAlone) {
  const Element element = elements_of(row())[0];
  if (row().activation != ActivationForm::kMxRows) return;
  constexpr int64_t kBadCode = 3, kBadScale = 21, kAt = 70;
  for (const int64_t m : {1, 6}) {
    Problem p = make_problem(row(), {m, 40, 160}, FloatType::kF32, element, false);
    if (!serves(row(), p)) continue;
    const Output good = run(row(), p, FloatType::kF32);
    p.w_block_scale[kBadScale * mx_blocks(p.size.k) + 1] = kE8M0NaN;
    if (element == Element::kE4M3) {
      const int64_t place = row().layout == LayoutId::kE4M3Rows
                                ? kBadCode * p.size.k + kAt
                                : byte_panel_offset(kBadCode, kAt, p.size.k);
      p.blob.mutable_data()[static_cast<int64_t>(sizeof(PackedHeader)) + place] = std::byte{0xff};
    }
    const Output bad = run(row(), p, FloatType::kF32);
    for (int64_t n = 0; n < p.size.n; ++n) {
      const bool spoilt = n == kBadScale || (n == kBadCode && element == Element::kE4M3);
      EXPECT_EQ(std::isnan(bad.at(0, n)), spoilt) << m << " " << n;
      if (!spoilt) {
        EXPECT_EQ(bad.at(0, n), good.at(0, n)) << m << " " << n;
      }
    }
  }
}

// Scales of the groups of an output: near each other but all different and of both signs, alike in
// turns, far apart, zero (some, all), NaN, and near each other but beyond all measure.
constexpr int kScaleKinds = 7;
float scale_of_kind(int64_t kind, int64_t n, int64_t group) {
  switch (kind) {
    case 0:
      return static_cast<float>((n + group) % 3 == 0 ? -1 - (n * 7 + group * 13) % 29
                                                     : 1 + (n * 7 + group * 13) % 29) /
             16.0f;
    case 1:
      return group % 2 == 0 ? 0x1p-3f : 0x1p4f;
    case 2:
      return group % 2 == 0 ? 0x1p-20f : 0x1p10f;
    case 3:
      return group == 3 ? 0.0f : 1.0f;
    case 4:
      return 0.0f;
    case 5:
      return group == 2 ? std::nanf("") : 1.0f;
    default:
      return group % 2 == 0 ? 0x1p101f : 0x1p102f;
  }
}

// Kinds in panels of their own and beside each other.
TEST_P(ComparedRows, ScalesOfGroupsMayBeFarApart) {
  if (std::ranges::count(scales_of(row()), Scales::kGroups) == 0) return;
  for (const int64_t m : {1, 6, 30}) {
    for (const int64_t width : {32, 1}) {  // outputs of one kind
      constexpr int64_t kPanel = 32, kTail = 6;
      Problem p = make_problem(row(), {m, kScaleKinds * kPanel + kTail, 640}, accepted_type(row()),
                               elements_of(row())[0], true, Scales::kGroups);
      if (!serves(row(), p)) continue;
      const int64_t groups = p.size.k / p.w_group;
      for (int64_t i = 0; i < p.size.n * groups; ++i) {
        const int64_t n = i / groups, group = i % groups;
        const float scale = scale_of_kind(n / width % kScaleKinds, n, group);
        p.w_scale[static_cast<size_t>(i)] = 0.01f * scale;
        for (int64_t k = group * p.w_group; k < (group + 1) * p.w_group; ++k) {
          // At least what the weight is: a code is at most 127.
          p.w_floats[static_cast<size_t>(n * p.size.k + k)] = 1.27f * scale;
        }
      }
      const Output reference = run(reference_of(row()), p, FloatType::kF32);
      EXPECT_EQ(difference(p, row(), run(row(), p, FloatType::kF32), reference), std::nullopt)
          << m << " width " << width;
    }
  }
}

// What random sums hardly meet: ties to even and to odd, NaN whose rounding would carry into the
// sign, values beyond the largest of 16 bits, denormals. With an x of zeros y is the bias.
TEST_P(LinearRows, OutputsAreRoundedAsNumericsDoes) {
  constexpr uint32_t kBits[] = {0x3f808000, 0x3f818000, 0xbf808000, 0xc0818000, 0x7fffffff,
                                0xffffffff, 0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff,
                                0xff7fffff, 0x00008000, 0x80018000, 0x3f801000, 0x3f803000,
                                0x477fefff, 0x477ff000, 0x33000000, 0x33000001};
  const FloatType type = accepted_type(row());
  for (const int64_t m : {1, 3, 16}) {
    const Scales scales = scales_of(row()).front();
    Problem p = make_problem(row(), {m, 70, 192}, type, elements_of(row())[0], true, scales);
    if (!serves(row(), p)) continue;
    std::fill(p.x_floats.begin(), p.x_floats.end(), 0.0f);
    fill_activations(p, row().activation);
    for (size_t n = 0; n < p.bias.size(); ++n) {
      p.bias[n] = std::bit_cast<float>(kBits[n % std::size(kBits)]);
    }
    for (const FloatType y_type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
      const Output y = run(row(), p, y_type);
      for (int64_t i = 0; i < m * p.size.n; ++i) {
        const float exact = p.bias[static_cast<size_t>(i % p.size.n)];
        uint32_t stored = 0;
        store_float(exact, &stored, y_type, 0);
        const float want = load_float(&stored, y_type, 0), got = y.at(i / p.size.n, i % p.size.n);
        if (std::isnan(want) && std::isnan(got)) continue;
        ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want))
            << std::hexfloat << exact << " m " << m << " type " << static_cast<int>(y_type);
      }
    }
  }
}

TEST_P(LinearRows, EmptyCallsWriteNothing) {
  Problem p = make_problem(row(), {1, 8, 16}, FloatType::kF32, elements_of(row())[0], false);
  p.size.m = 0;
  EXPECT_TRUE(run(row(), p, FloatType::kF32).bytes.empty());
}

std::vector<const LinearKernel*> every_row() {
  std::vector<const LinearKernel*> rows;
  for (const LinearKernel& row : linear_kernels()) rows.push_back(&row);
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Table, LinearRows, testing::ValuesIn(every_row()),
                         [](const auto& info) { return row_test_name(*info.param); });
INSTANTIATE_TEST_SUITE_P(Table, ComparedRows, testing::ValuesIn(rows_to_compare()),
                         [](const auto& info) { return row_test_name(*info.param); });

TEST(LinearDriver, RunsTheRowItIsGiven) {
  // A row that only counts: nothing else may be called in its place.
  static int calls = 0;
  calls = 0;
  LinearKernel counting = *linear_row("float/reference");
  counting.m_tile = 2;
  counting.n_tile = 3;
  counting.run = [](const LinearTile& tile) noexcept {
    ++calls;
    EXPECT_LE(tile.m_end - tile.m_begin, 2);
    EXPECT_LE(tile.n_end - tile.n_begin, 3);
  };
  run_linear(counting, {.m = 5, .n = 7, .k = 1}, ExecContext({.threads = 1}));
  EXPECT_EQ(calls, 3 * 3);
}

}  // namespace
}  // namespace mezzotint
