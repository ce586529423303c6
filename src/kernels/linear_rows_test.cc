// Every row of kernels.inc against the reference row of its layout and form of x.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "kernels/layouts.h"
#include "kernels/linear_driver.h"
#include "kernels/test_data.h"
#include "kernels/weight_decode.h"

namespace mezzotint {
namespace {

using testing_data::as_type;
using testing_data::codes;
using testing_data::floats;
using testing_data::linear_row;

struct Size {
  int64_t m, n, k;
};

// Tails around every tile edge of every row: 12, 14, 112, 120 and 224 rows, panels of 32, tiles of
// 256, 512 and 1024 columns, steps of 4, 8, 16, 32 and 64, blocks of 256, 512 and 3072 k; groups of
// 64.
constexpr Size kSizes[] = {
    {1, 1, 1},      {1, 31, 33},    {2, 2, 2},      {3, 33, 17},   {4, 64, 127},   {5, 15, 63},
    {14, 32, 64},   {15, 65, 65},   {16, 127, 15},  {17, 16, 16},  {29, 17, 129},  {31, 129, 31},
    {33, 63, 128},  {63, 31, 1023}, {113, 33, 257}, {129, 257, 3}, {257, 1, 1040}, {1, 520, 1100},
    {121, 1030, 5}, {3, 33, 6177},  {226, 33, 513}, {2, 513, 24},  {3, 34, 1152},  {30, 70, 1152},
};

// What a problem's weights are, beside their element.
enum class Scales : uint8_t { kChannel, kGroups, kOffsets, kBlocks, kDualBlocks };

struct Problem {
  Size size;
  FloatType type;
  Element element;
  Scales scales = Scales::kChannel;
  std::vector<float> x_floats;
  std::vector<std::byte> x;
  std::vector<int8_t> xq;
  std::vector<float> x_scale;
  std::vector<int32_t> x_sum;
  std::vector<uint8_t> x_block_scale;
  std::vector<float> x_dual_scale;
  Buffer blob;
  int64_t w_group = 0;
  std::vector<float> w_scale;
  std::vector<float> w_offset;
  std::vector<uint8_t> w_block_scale;
  std::vector<float> w_dual_scale;
  std::vector<int32_t> acc_bias;
  std::vector<float> bias;
  std::vector<float> addend;    // rows of n
  std::vector<float> w_floats;  // as the layout holds them
  int64_t x_stride = 0;
};

constexpr int64_t kXPadding = 3;  // columns behind x and y that no kernel may touch
constexpr int64_t kYPadding = 5;

FloatType type_of(Element element) {
  if (element == Element::kBF16) return FloatType::kBF16;
  return element == Element::kF16 ? FloatType::kF16 : FloatType::kF32;
}

void make_mx_activations(Problem& p) {
  p.xq.resize(static_cast<size_t>(p.size.m * p.size.k));
  p.x_block_scale.resize(static_cast<size_t>(p.size.m * mx_blocks(p.size.k)));
  const bool dual = p.scales == Scales::kDualBlocks;
  p.x_dual_scale.resize(dual ? static_cast<size_t>(p.size.m * dual_blocks(p.size.k)) : 0);
  run_quantize_mx(choose_quantize_mx_kernel(Isa::kPortable),
                  {.x = p.x.data(),
                   .x_type = p.type,
                   .x_stride = p.x_stride,
                   .k = p.size.k,
                   .element = p.element,
                   .q = reinterpret_cast<uint8_t*>(p.xq.data()),
                   .block_scale = p.x_block_scale.data(),
                   .dual_scale = dual ? p.x_dual_scale.data() : nullptr},
                  p.size.m, ExecContext({.threads = 1}));
}

void make_activations(Problem& p, ActivationForm form, uint32_t seed) {
  p.x_stride = p.size.k + kXPadding;
  p.x_floats = floats(p.size.m * p.x_stride, seed);
  const auto row = [&](int64_t m) { return p.x_floats.begin() + m * p.x_stride; };
  *row(0) = 300.0f;  // meets the weight that ComparisonSeesOneCorruptedWeight changes
  if (p.size.m > 2) std::fill_n(row(1), p.size.k, 0.0f);
  if (p.size.m > 3) *row(2) = std::numeric_limits<float>::infinity();
  if (p.size.m > 4) *row(3) = std::numeric_limits<float>::quiet_NaN();
  p.x = as_type(p.x_floats, p.type);
  if (form == ActivationForm::kFloat) return;
  if (form == ActivationForm::kMxRows) {
    make_mx_activations(p);
    return;
  }
  const int64_t stride = padded_k(p.size.k);
  p.xq.resize(static_cast<size_t>(p.size.m * stride));
  p.x_scale.resize(static_cast<size_t>(p.size.m));
  p.x_sum.resize(static_cast<size_t>(p.size.m));
  run_quantize_rows(*testing_data::quantize_rows_row("quantize_rows/reference"),
                    {.x = p.x.data(),
                     .x_type = p.type,
                     .x_stride = p.x_stride,
                     .k = p.size.k,
                     .q = p.xq.data(),
                     .q_stride = stride,
                     .scale = p.x_scale.data(),
                     .sum = p.x_sum.data()},
                    p.size.m, ExecContext({.threads = 1}));
}

bool is_float_element(Element element) {
  return element == Element::kF32 || element == Element::kBF16 || element == Element::kF16;
}

void clear_nans(std::vector<int8_t>& e4m3) {
  for (int8_t& code : e4m3) {
    if ((code & 0x7f) == 0x7f) code = 0x7e;
  }
}

std::vector<float> small_floats(int64_t count, uint32_t seed) {
  std::vector<float> values = floats(count, seed);
  for (float& v : values) v *= 0.01f;  // binary16 outputs stay finite
  return values;
}

int64_t groups_of(int64_t k) {
  if (k % 64 == 0) return k / 64;
  return k % 3 == 0 ? 3 : 1;
}

void make_scales(Problem& p, uint32_t seed) {
  const auto [m, n, k] = p.size;
  if (p.scales == Scales::kBlocks || p.scales == Scales::kDualBlocks) {
    p.w_block_scale.resize(static_cast<size_t>(n * mx_blocks(k)));
    for (size_t i = 0; i < p.w_block_scale.size(); ++i) {
      p.w_block_scale[i] = static_cast<uint8_t>(118 + (i * 7) % 11);
    }
    if (p.scales == Scales::kDualBlocks) p.w_dual_scale = small_floats(n * dual_blocks(k), seed);
    return;
  }
  const int64_t groups = p.scales == Scales::kGroups ? groups_of(k) : 1;
  p.w_group = groups == 1 ? 0 : k / groups;
  p.w_scale = small_floats(n * groups, seed);
  if (p.scales == Scales::kOffsets) {
    p.w_offset.resize(static_cast<size_t>(n));
    for (size_t i = 0; i < p.w_offset.size(); ++i) p.w_offset[i] = static_cast<float>(i % 9) - 4;
  }
}

WeightView view_of(const Problem& p, const std::byte* codes) {
  const auto pointer = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
  return {.codes = codes,
          .element = p.element,
          .n = p.size.n,
          .k = p.size.k,
          .group = p.w_group,
          .scale = pointer(p.w_scale),
          .offset = pointer(p.w_offset),
          .block_scale = pointer(p.w_block_scale),
          .dual_scale = pointer(p.w_dual_scale)};
}

void fill_w_floats(Problem& p, const std::byte* codes) {
  p.w_floats.resize(static_cast<size_t>(p.size.n * p.size.k));
  for (int64_t n = 0; n < p.size.n; ++n) {
    decode_weights(view_of(p, codes), n, 0, p.size.k, p.w_floats.data() + n * p.size.k);
  }
}

void make_weights(Problem& p, LayoutId layout, uint32_t seed) {
  const int64_t count = p.size.n * p.size.k;
  WeightCodes w{p.element, p.size.n, p.size.k, nullptr};
  std::vector<int8_t> q;
  std::vector<std::byte> values;
  if (!is_float_element(p.element)) {
    q = codes(p.size.n * code_row_bytes(p.element, p.size.k), seed);
    if (p.element == Element::kE4M3) clear_nans(q);
    w.data = reinterpret_cast<const std::byte*>(q.data());
    make_scales(p, seed + 1);
    fill_w_floats(p, w.data);
  } else {
    p.w_floats = floats(count, seed);
    values = as_type(p.w_floats, type_of(p.element));
    for (int64_t i = 0; i < count; ++i) {
      p.w_floats[static_cast<size_t>(i)] = load_float(values.data(), type_of(p.element), i);
    }
    w.data = values.data();
  }
  p.blob = pack_weight(layout_row(layout), w, 0);
}

QuantScheme scheme_of(const Problem& p) {
  QuantScheme scheme{p.element, Granularity::kPerChannel, p.w_group, !p.w_offset.empty()};
  if (p.w_group != 0) scheme.granularity = Granularity::kPerGroup;
  if (!p.w_block_scale.empty()) scheme.granularity = Granularity::kMxBlock;
  if (!p.w_dual_scale.empty()) scheme.granularity = Granularity::kDualLevel;
  return scheme;
}

bool serves(const LinearKernel& row, const Problem& p) {
  return row.declines == nullptr ||
         row.declines({p.size.m, p.size.n, p.size.k, p.type, scheme_of(p)}) == nullptr;
}

// Integers times integers with one scale per row: every row gives the same bits.
bool is_exact(const LinearKernel& row, const Problem& p) {
  return row.activation == ActivationForm::kInt8Rows && p.w_group == 0 && p.w_offset.empty();
}

// The plainest scales that the row's weights have.
Scales plain_scales(const LinearKernel& row) {
  return row.activation == ActivationForm::kMxRows ? Scales::kBlocks : Scales::kChannel;
}

Problem make_problem(const LinearKernel& row, Size size, FloatType type, Element element,
                     bool has_bias, std::optional<Scales> scales = {}) {
  Problem p{};
  p.scales = scales.value_or(plain_scales(row));
  p.size = size;
  p.type = type;
  p.element = element;
  make_activations(p, row.activation, 11);
  make_weights(p, row.layout, 22);
  if (has_bias) p.bias = floats(size.n, 33);
  if (row.activation == ActivationForm::kFloat && size.k % 2 == 1) {
    p.addend = floats(size.m * size.n, 44);
  }
  if (is_exact(row, p) && size.n % 2 == 1) {
    for (int64_t n = 0; n < size.n; ++n) {
      p.acc_bias.push_back(static_cast<int32_t>(n * 37 - 1000));
    }
  }
  return p;
}

constexpr std::byte kUntouched{0x5a};

struct Output {
  std::vector<std::byte> bytes;
  FloatType type;
  int64_t stride;
  float at(int64_t m, int64_t n) const { return load_float(bytes.data(), type, m * stride + n); }
};

// y of `type`, in a frame of untouched columns.
Output run(const LinearKernel& row, const Problem& p, FloatType y_type, int threads = 1) {
  const int64_t stride = p.size.n + kYPadding;
  Output y{std::vector<std::byte>(static_cast<size_t>(p.size.m * stride * float_size(y_type)),
                                  kUntouched),
           y_type, stride};
  const auto pointer = [](const auto& v) { return v.empty() ? nullptr : v.data(); };
  const LinearTile call{.x = p.x.data(),
                        .x_type = p.type,
                        .x_stride = p.x_stride,
                        .xq = pointer(p.xq),
                        .xq_stride = p.x_block_scale.empty() ? padded_k(p.size.k) : p.size.k,
                        .x_scale = pointer(p.x_scale),
                        .x_sum = pointer(p.x_sum),
                        .x_element = p.element,
                        .x_block_scale = pointer(p.x_block_scale),
                        .x_dual_scale = pointer(p.x_dual_scale),
                        .w = packed_payload(p.blob),
                        .w_element = p.element,
                        .w_scale = pointer(p.w_scale),
                        .w_group = p.w_group,
                        .w_offset = pointer(p.w_offset),
                        .w_block_scale = pointer(p.w_block_scale),
                        .w_dual_scale = pointer(p.w_dual_scale),
                        .acc_bias = pointer(p.acc_bias),
                        .bias = pointer(p.bias),
                        .addend = pointer(p.addend),
                        .addend_stride = p.size.n,
                        .m = p.size.m,
                        .n = p.size.n,
                        .k = p.size.k,
                        .y = y.bytes.data(),
                        .y_type = y_type,
                        .y_stride = stride};
  run_linear(row, call, ExecContext({.threads = threads}));
  return y;
}

bool frame_untouched(const Output& y, Size size) {
  const int64_t bytes = float_size(y.type);
  for (int64_t m = 0; m < size.m; ++m) {
    for (int64_t i = (m * y.stride + size.n) * bytes; i < (m + 1) * y.stride * bytes; ++i) {
      if (y.bytes[static_cast<size_t>(i)] != kUntouched) return false;
    }
  }
  return true;
}

double amax_of_row(const Problem& p, int64_t m) {
  double amax = 0;
  for (int64_t k = 0; k < p.size.k; ++k) {
    const double x = load_float(p.x.data(), p.type, m * p.x_stride + k);
    if (std::isfinite(x)) amax = std::max(amax, std::fabs(x));
  }
  return amax;
}

double amax_of_weights(const Problem& p, int64_t n) {
  double amax = 0;
  for (int64_t k = 0; k < p.size.k; ++k) {
    amax = std::max<double>(amax, std::fabs(p.w_floats[static_cast<size_t>(n * p.size.k + k)]));
  }
  return amax;
}

// Sum over k of |x w|, the scale of the error of a float sum. Offsets count with their own
// magnitude: what they cancel has been rounded before.
double absolute_sum(const Problem& p, int64_t m, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < p.size.k; ++k) {
    const double x = load_float(p.x.data(), p.type, m * p.x_stride + k);
    double w = std::fabs(p.w_floats[static_cast<size_t>(n * p.size.k + k)]);
    if (!p.w_offset.empty()) {
      w += std::fabs(p.w_offset[static_cast<size_t>(n)] * p.w_scale[static_cast<size_t>(n)]);
    }
    sum += std::fabs(x) * w;
  }
  // Quantized x differ from x by up to one step of the row's scale.
  return p.xq.empty() ? sum : 2 * sum + amax_of_row(p, m) * amax_of_weights(p, n);
}

// Each of k products and sums rounds once (relative 2^-24 of the running sum of magnitudes), the
// scales (group or block, two levels) and the bias up to six times more; the output rounds by half
// an ulp of its type on both sides (relative 2^-8 bf16, 2^-11 binary16). What is below
// the normal range loses at most 2^-150 each; vdpbf16ps takes denormals for zero: 2^-126.
double bound(const LinearKernel& row, const Problem& p, int64_t m, int64_t n, double reference,
             FloatType y_type) {
  const double eps = std::ldexp(1.0, -24);
  double bias = p.bias.empty() ? 0 : std::fabs(p.bias[static_cast<size_t>(n)]);
  if (!p.addend.empty()) bias += std::fabs(p.addend[static_cast<size_t>(m * p.size.n + n)]);
  const auto k = static_cast<double>(p.size.k);
  const double factors = 1 + amax_of_row(p, m) + amax_of_weights(p, n);
  const double sum = (k + 6) * eps * (absolute_sum(p, m, n) + bias) +
                     k * factors * std::ldexp(1.0, row.isa == Isa::kAvx512Bf16 ? -126 : -149);
  switch (y_type) {
    case FloatType::kF32:
      return sum;
    case FloatType::kBF16:
      return sum * 1.01 + std::ldexp(std::fabs(reference), -7) + std::ldexp(1.0, -133);
    case FloatType::kF16:
      return sum * 1.01 + std::ldexp(std::fabs(reference), -10) + std::ldexp(1.0, -24);
  }
  return 0;
}

// The first output that differs by more than it may; nothing when all agree.
std::optional<std::string> difference(const Problem& p, const LinearKernel& row, const Output& y,
                                      const Output& reference) {
  for (int64_t m = 0; m < p.size.m; ++m) {
    for (int64_t n = 0; n < p.size.n; ++n) {
      const float got = y.at(m, n), want = reference.at(m, n);
      if (std::isnan(want) && std::isnan(got)) continue;
      const bool same_bits = std::bit_cast<uint32_t>(got) == std::bit_cast<uint32_t>(want);
      if (same_bits) continue;
      const bool exact = is_exact(row, p) || !std::isfinite(want);
      if (!exact &&
          std::fabs(static_cast<double>(got) - want) <= bound(row, p, m, n, want, y.type)) {
        continue;
      }
      return "y[" + std::to_string(m) + "," + std::to_string(n) + "] = " + std::to_string(got) +
             ", reference " + std::to_string(want);
    }
  }
  return std::nullopt;
}

const LinearKernel& reference_of(const LinearKernel& row) {
  for (const LinearKernel& other : linear_kernels()) {
    if (is_reference(other) && other.layout == row.layout && other.activation == row.activation) {
      return other;
    }
  }
  throw std::logic_error("no reference row");
}

std::vector<Element> elements_of(const LinearKernel& row) {
  switch (row.layout) {
    case LayoutId::kFloatRows:
      return {Element::kF32, Element::kBF16, Element::kF16};
    case LayoutId::kInt8Rows:
    case LayoutId::kInt8Vnni:
      return {Element::kInt8};
    case LayoutId::kNibbleRows:
    case LayoutId::kNibblePanels:
      return {row.activation == ActivationForm::kMxRows ? Element::kE2M1 : Element::kInt4};
    case LayoutId::kE4M3Rows:
      return {Element::kE4M3};
    case LayoutId::kBytePanels:
      return {row.activation == ActivationForm::kMxRows ? Element::kE4M3 : Element::kInt8};
    case LayoutId::kWordPanels:
      return {Element::kInt4};
    case LayoutId::kBf16Panels:
      return {Element::kBF16};
  }
  throw std::logic_error("no elements");
}

std::vector<Scales> scales_of(const LinearKernel& row) {
  if (row.layout == LayoutId::kBytePanels && row.activation == ActivationForm::kMxRows) {
    return {Scales::kBlocks};
  }
  if (row.activation == ActivationForm::kMxRows) return {Scales::kBlocks, Scales::kDualBlocks};
  if (row.weights == WeightForm::kChannel) return {Scales::kChannel};
  if (row.weights == WeightForm::kGrouped) return {Scales::kGroups, Scales::kOffsets};
  return {Scales::kChannel, Scales::kGroups, Scales::kOffsets};
}

class LinearRows : public testing::TestWithParam<const LinearKernel*> {
 protected:
  void SetUp() override {
    if (row().isa > active_isa()) {
      GTEST_SKIP() << row().name << " needs " << isa_name(row().isa);
    }
  }
  const LinearKernel& row() const { return *GetParam(); }
};

TEST_P(LinearRows, AgreesWithTheReferenceOnEveryTail) {
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
  return row.declines == nullptr || row.declines({131, 300, 100, type}) == nullptr ? 131 : 4;
}

// The rows that read one type of x read bf16.
FloatType accepted_type(const LinearKernel& row) {
  const bool all = row.declines == nullptr || row.declines({2, 2, 2}) == nullptr;
  return all ? FloatType::kF32 : FloatType::kBF16;
}

TEST_P(LinearRows, GivesTheSameBitsForAnyNumberOfThreads) {
  const FloatType type = accepted_type(row());
  const Size size{accepted_rows(row(), type), 300, 100};
  const Problem p = make_problem(row(), size, type, elements_of(row())[0], true);
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
    Problem p = make_problem(row(), {4, 33, 129}, type, elements_of(row())[0], false, scales);
    if (!serves(row(), p)) continue;
    const Output reference = run(reference_of(row()), p, type);
    ASSERT_EQ(difference(p, row(), run(row(), p, type), reference), std::nullopt);
    corrupt(row(), p);
    EXPECT_NE(difference(p, row(), run(row(), p, type), reference), std::nullopt);
  }
}

// The largest sums that the row accepts: every product at its extreme, all of one sign.
TEST_P(LinearRows, ExtremeCodesAtTheLongestKDoNotOverflow) {
  // Float sums do not overflow, and int4 codes are sixteen times smaller.
  if (row().activation != ActivationForm::kInt8Rows || elements_of(row())[0] == Element::kInt4 ||
      row().weights == WeightForm::kGrouped) {
    return;
  }
  constexpr int64_t kLongest = 132104;  // docs/numerics.md
  const bool all = row().declines == nullptr || row().declines({2, 2, kLongest}) == nullptr;
  const Size size{2, 2, all ? kLongest : 65793};
  for (int8_t code : {int8_t{127}, int8_t{-128}}) {
    Problem p = make_problem(row(), size, FloatType::kF32, Element::kInt8, false);
    for (int64_t m = 0; m < size.m; ++m) {  // what stands behind k is padding and stays 0
      std::fill_n(p.xq.begin() + m * padded_k(size.k), size.k, int8_t{127});
    }
    std::fill(p.x_sum.begin(), p.x_sum.end(), static_cast<int32_t>(127 * size.k));
    std::fill(p.x_scale.begin(), p.x_scale.end(), 1.0f);
    std::fill(p.w_scale.begin(), p.w_scale.end(), 1.0f);
    const std::vector<int8_t> w(static_cast<size_t>(size.n * size.k), code);
    p.blob = pack_weight(
        layout_row(row().layout),
        {Element::kInt8, size.n, size.k, reinterpret_cast<const std::byte*>(w.data())}, 0);
    const Output y = run(row(), p, FloatType::kF32);
    EXPECT_EQ(y.at(1, 1), static_cast<float>(int64_t{127} * code * size.k)) << size.k;
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

std::string test_name(const testing::TestParamInfo<const LinearKernel*>& info) {
  std::string name(info.param->name);
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Table, LinearRows, testing::ValuesIn(every_row()), test_name);

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
