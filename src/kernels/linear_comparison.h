// What a row makes of a problem, and how far two rows may differ. Tests only.
#pragma once

#include <bit>
#include <cctype>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/linear_problem.h"

namespace mezzotint::linear_problem {

inline constexpr std::byte kUntouched{0x5a};

struct Output {
  std::vector<std::byte> bytes;
  FloatType type;
  int64_t stride;
  float at(int64_t m, int64_t n) const { return load_float(bytes.data(), type, m * stride + n); }
};

// y of `type`, in a frame of untouched columns.
inline Output run(const LinearKernel& row, const Problem& p, FloatType y_type, int threads = 1) {
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

inline bool frame_untouched(const Output& y, Size size) {
  const int64_t bytes = float_size(y.type);
  for (int64_t m = 0; m < size.m; ++m) {
    for (int64_t i = (m * y.stride + size.n) * bytes; i < (m + 1) * y.stride * bytes; ++i) {
      if (y.bytes[static_cast<size_t>(i)] != kUntouched) return false;
    }
  }
  return true;
}

inline double amax_of_row(const Problem& p, int64_t m) {
  double amax = 0;
  for (int64_t k = 0; k < p.size.k; ++k) {
    const double x = load_float(p.x.data(), p.type, m * p.x_stride + k);
    if (std::isfinite(x)) amax = std::max(amax, std::fabs(x));
  }
  return amax;
}

inline double amax_of_weights(const Problem& p, int64_t n) {
  double amax = 0;
  for (int64_t k = 0; k < p.size.k; ++k) {
    amax = std::max<double>(amax, std::fabs(p.w_floats[static_cast<size_t>(n * p.size.k + k)]));
  }
  return amax;
}

// Sum over k of |x w|, the scale of the error of a float sum. Offsets count with their own
// magnitude: what they cancel has been rounded before.
inline double absolute_sum(const Problem& p, int64_t m, int64_t n) {
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
inline double bound(const LinearKernel& row, const Problem& p, int64_t m, int64_t n,
                    double reference, FloatType y_type) {
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
inline std::optional<std::string> difference(const Problem& p, const LinearKernel& row,
                                             const Output& y, const Output& reference) {
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

inline const LinearKernel& reference_of(const LinearKernel& row) {
  for (const LinearKernel& other : linear_kernels()) {
    if (is_reference(other) && other.layout == row.layout && other.activation == row.activation) {
      return other;
    }
  }
  throw std::logic_error("no reference row");
}

// Rows that are not what they would be compared with.
inline std::vector<const LinearKernel*> rows_to_compare() {
  std::vector<const LinearKernel*> rows;
  for (const LinearKernel& row : linear_kernels()) {
    if (&reference_of(row) != &row) rows.push_back(&row);
  }
  return rows;
}

inline std::vector<Element> elements_of(const LinearKernel& row) {
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

inline std::vector<Scales> scales_of(const LinearKernel& row) {
  if (row.layout == LayoutId::kBytePanels && row.activation == ActivationForm::kMxRows) {
    return {Scales::kBlocks};
  }
  if (row.activation == ActivationForm::kMxRows) return {Scales::kBlocks, Scales::kDualBlocks};
  if (row.weights == WeightForm::kChannel) return {Scales::kChannel};
  if (row.weights == WeightForm::kGrouped) return {Scales::kGroups, Scales::kOffsets};
  return {Scales::kChannel, Scales::kGroups, Scales::kOffsets};
}

// "int8_vnni/avx2" as a part of a test's name.
inline std::string row_test_name(const LinearKernel& row) {
  std::string name(row.name);
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
}

}  // namespace mezzotint::linear_problem
