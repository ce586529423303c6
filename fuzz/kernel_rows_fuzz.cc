// Whatever an input makes of shape, scheme and data, every kernel row that this processor runs
// agrees with its reference: codes, scales and exact sums bit for bit, float sums within the bound
// of kernels/linear_comparison.h, and nothing beside the output is written.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "fuzz/input.h"
#include "kernels/linear_comparison.h"
#include "kernels/weight_ops.h"

namespace {

using namespace mezzotint;                  // NOLINT(google-build-using-namespace)
using namespace mezzotint::fuzz;            // NOLINT(google-build-using-namespace)
using namespace mezzotint::linear_problem;  // NOLINT(google-build-using-namespace)

constexpr int64_t kMostProducts = 150'000;  // m n k of one input: the reference takes a millisecond
constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kBF16, FloatType::kF16};

// --- quantizers ----------------------------------------------------------------------------------

struct Rows {
  int64_t m, k, stride;
  FloatType type;
  std::vector<std::byte> x;
  std::vector<float> mul;
};

Rows rows_of(Input& in) {
  Rows r{};
  r.m = 1 + in.below(5);
  r.k = 1 + in.below(in.byte() % 2 == 0 ? 80 : 1100);
  r.stride = r.k + in.below(4);
  r.type = in.one_of<FloatType>(kTypes);
  const bool any = in.byte() % 2 == 0;
  r.x = as_type(many(r.m * r.stride, [&] { return any ? in.any_float() : in.moderate_number(); }),
                r.type);
  if (in.byte() % 3 == 0) r.mul = many(r.k, [&] { return in.moderate(); });
  return r;
}

struct Quantized {
  std::vector<uint8_t> q, block_scale;
  std::vector<float> scale;
  std::vector<int32_t> sum;
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y) ||
           (std::isnan(x) && std::isnan(y));
  });
}
bool operator==(const Quantized& a, const Quantized& b) {
  return a.q == b.q && a.block_scale == b.block_scale && a.sum == b.sum && same(a.scale, b.scale);
}

void quantize_rows(Input& in) {
  const Rows r = rows_of(in);
  const bool is_fixed = in.byte() % 3 == 0;
  const StaticScale fixed = {.scale = in.scale(),
                             .zero_point = static_cast<float>(in.below(255)) - 127};
  const Element element = !is_fixed && in.byte() % 2 == 0 ? Element::kInt4 : Element::kInt8;
  const auto run = [&](const QuantizeRowsKernel& row) {
    Quantized out;
    out.q.resize(static_cast<size_t>(r.m * padded_k(r.k)), 99);
    out.scale.resize(static_cast<size_t>(r.m));
    out.sum.resize(static_cast<size_t>(r.m));
    row.run({.x = r.x.data(),
             .x_type = r.type,
             .x_stride = r.stride,
             .mul = r.mul.empty() ? nullptr : r.mul.data(),
             .k = r.k,
             .element = element,
             .fixed = is_fixed ? &fixed : nullptr,
             .q = reinterpret_cast<int8_t*>(out.q.data()),
             .q_stride = padded_k(r.k),
             .scale = out.scale.data(),
             .sum = out.sum.data(),
             .m_end = r.m});
    return out;
  };
  const Quantized expected = run(quantize_rows_kernels().back());
  for (const QuantizeRowsKernel& row : quantize_rows_kernels()) {
    if (row.isa <= active_isa()) require(run(row) == expected, row.name);
  }
}

void quantize_mx(Input& in) {
  const Rows r = rows_of(in);
  const bool dual = in.byte() % 3 == 0;
  const Element element = in.byte() % 2 == 0 ? Element::kE2M1 : Element::kE4M3;
  const auto run = [&](const QuantizeMxKernel& row) {
    Quantized out;
    out.q.resize(static_cast<size_t>(r.m * r.k + 1), 99);
    out.block_scale.resize(static_cast<size_t>(r.m * mx_blocks(r.k) + 1), 99);
    out.scale.resize(static_cast<size_t>(dual ? r.m * dual_blocks(r.k) : 0));
    row.run({.x = r.x.data(),
             .x_type = r.type,
             .x_stride = r.stride,
             .mul = r.mul.empty() ? nullptr : r.mul.data(),
             .k = r.k,
             .element = element,
             .q = out.q.data(),
             .block_scale = out.block_scale.data(),
             .dual_scale = dual ? out.scale.data() : nullptr,
             .m_end = r.m});
    return out;
  };
  const Quantized expected = run(quantize_mx_kernels().back());
  for (const QuantizeMxKernel& row : quantize_mx_kernels()) {
    if (row.isa <= active_isa()) require(run(row) == expected, row.name);
  }
}

// The tables of weight_ops.h give the same bits.
void quantize_weights(Input& in) {
  const int64_t n = 1 + in.below(300);
  const bool any = in.byte() % 2 == 0;
  const std::vector<float> w = many(n, [&] {
    const float value = any ? in.any_float() : in.moderate();
    return std::isfinite(value) ? value : 1.0f;
  });
  const IntegerGrid grid = {.scale = in.scale(),
                            .zero = in.byte() % 2 == 0 ? 0.0f : 3.0f,
                            .low = -127.0f,
                            .high = 127.0f};
  const Element element = in.byte() % 2 == 0 ? Element::kE2M1 : Element::kE4M3;
  const float outer = in.byte() % 2 == 0 ? 1.0f : in.scale();
  struct Result {
    std::vector<int8_t> integers;
    std::vector<uint8_t> codes, scales;
    uint64_t error;
    bool operator==(const Result&) const = default;
  };
  const auto run = [&](Isa isa) {
    Result r{.integers = std::vector<int8_t>(w.size()),
             .codes = std::vector<uint8_t>(w.size() + 1, 99),
             .scales = std::vector<uint8_t>(static_cast<size_t>(mx_blocks(n)) + 1, 99),
             .error = 0};
    const WeightOps& ops = weight_ops(isa);
    ops.integer_codes(w.data(), grid, r.integers.data(), n);
    ops.mx_codes(w.data(), element, outer, r.codes.data(), r.scales.data(), n);
    r.error = std::bit_cast<uint64_t>(ops.mx_error(w.data(), element, outer, n));
    return r;
  };
  const Result expected = run(Isa::kPortable);
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= active_isa()) require(run(isa) == expected, isa_name(isa));
  }
}

// --- linears -------------------------------------------------------------------------------------

std::vector<const LinearKernel*> reference_rows() {
  std::vector<const LinearKernel*> rows;
  for (const LinearKernel& row : linear_kernels()) {
    if (is_reference(row)) rows.push_back(&row);
  }
  return rows;
}

// Every sort of scales that a row of this layout and form serves.
std::vector<Scales> scales_of_layout(const LinearKernel& reference) {
  if (is_float_element(elements_of(reference).front())) return {Scales::kChannel};
  return scales_of(reference);
}

Size size_of(Input& in, int64_t groups) {
  constexpr int64_t kRows[] = {1, 4, 16, 20, 140};
  constexpr int64_t kOutputs[] = {1, 16, 33, 70};
  constexpr int64_t kDepths[] = {16, 40, 130, 600};
  constexpr int64_t kGroups[] = {1, 8, 24, 32, 64};
  Size size{};
  size.m = 1 + in.below(in.one_of<int64_t>(kRows));
  size.n = 1 + in.below(in.one_of<int64_t>(kOutputs));
  size.k =
      groups > 0 ? groups * in.one_of<int64_t>(kGroups) : 1 + in.below(in.one_of<int64_t>(kDepths));
  size.n = std::max<int64_t>(1, std::min(size.n, kMostProducts / (size.m * size.k)));
  return size;
}

void fill_scales(Problem& p, Input& in) {
  const auto [m, n, k] = p.size;
  if (is_float_element(p.element)) return;
  if (p.scales == Scales::kBlocks || p.scales == Scales::kDualBlocks) {
    p.w_block_scale =
        many(n * mx_blocks(k), [&] { return static_cast<uint8_t>(107 + in.byte() % 41); });
    if (p.scales == Scales::kDualBlocks)
      p.w_dual_scale = many(n * dual_blocks(k), [&] { return in.scale(); });
    return;
  }
  const int64_t groups = p.scales == Scales::kGroups ? p.groups : 1;
  p.w_group = groups == 1 ? 0 : k / groups;
  p.w_scale = many(n * groups, [&] { return in.scale(); });
  if (p.scales == Scales::kOffsets) {
    p.w_offset = many(n, [&] { return static_cast<float>(in.byte() % 31) - 15; });
  }
}

Problem problem_of(const LinearKernel& reference, Input& in) {
  Problem p{};
  p.element = in.one_of<Element>(elements_of(reference));
  p.scales = in.one_of<Scales>(scales_of_layout(reference));
  if (p.scales == Scales::kGroups) p.groups = 2 + in.below(7);
  p.size = size_of(in, p.groups);
  p.type = in.one_of<FloatType>(kTypes);
  const auto [m, n, k] = p.size;
  p.x_stride = k + kXPadding;
  const bool numbers = in.byte() % 4 != 0;
  p.x_floats = many(m * p.x_stride, [&] { return numbers ? in.moderate_number() : in.moderate(); });
  fill_activations(p, reference.activation);
  fill_scales(p, in);
  std::vector<int8_t> codes_of_file;
  if (is_float_element(p.element)) {
    p.w_floats = many(n * k, [&] { return in.moderate_number(); });
  } else {
    codes_of_file =
        many(n * code_row_bytes(p.element, k), [&] { return static_cast<int8_t>(in.byte()); });
    if (p.element == Element::kE4M3) clear_nans(codes_of_file);
  }
  fill_weights(p, reference.layout, codes_of_file);
  if (in.byte() % 2 == 0) p.bias = many(n, [&] { return in.moderate_number(); });
  if (is_exact(reference, p) && in.byte() % 2 == 0) {
    p.acc_bias = many(n, [&] { return static_cast<int32_t>(in.word()) - 32768; });
  }
  return p;
}

void linear(Input& in) {
  static const std::vector<const LinearKernel*> kReferences = reference_rows();
  const LinearKernel& reference = *in.one_of<const LinearKernel*>(kReferences);
  const Problem p = problem_of(reference, in);
  // binary16 would overflow: whether a sum just below 65520 does is within the bound.
  const FloatType y_type = in.byte() % 2 == 0 ? FloatType::kF32 : FloatType::kBF16;
  const Output expected = run(reference, p, y_type);
  for (const LinearKernel& row : linear_kernels()) {
    if (row.layout != reference.layout || row.activation != reference.activation) continue;
    if (is_reference(row) || row.isa > active_isa() || !serves(row, p)) continue;
    const auto scales = scales_of(row);
    if (!is_float_element(p.element) && std::ranges::find(scales, p.scales) == scales.end())
      continue;
    const Output y = run(row, p, y_type);
    require(difference(p, row, y, expected) == std::nullopt, row.name);
    require(frame_untouched(y, p.size), row.name);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in({data, std::min<size_t>(size, 4096)});
  switch (in.byte() % 8) {
    case 0:
      quantize_rows(in);
      break;
    case 1:
      quantize_mx(in);
      break;
    case 2:
      quantize_weights(in);
      break;
    default:
      linear(in);
  }
  return 0;
}
