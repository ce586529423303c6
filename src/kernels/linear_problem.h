// A problem for a linear row: x, w, scales and epilogue with the values that break kernels. Tests
// only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/layouts.h"
#include "kernels/linear_driver.h"
#include "kernels/test_data.h"
#include "kernels/weight_decode.h"

namespace mezzotint::linear_problem {

using testing_data::as_type;
using testing_data::codes;
using testing_data::floats;

struct Size {
  int64_t m, n, k;
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
  int64_t groups = 0;  // of kGroups; 0: as k allows
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

inline constexpr int64_t kXPadding = 3;  // columns behind x and y that no kernel may touch
inline constexpr int64_t kYPadding = 5;

inline FloatType type_of(Element element) {
  if (element == Element::kBF16) return FloatType::kBF16;
  return element == Element::kF16 ? FloatType::kF16 : FloatType::kF32;
}

inline void make_mx_activations(Problem& p) {
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

// x as the form has it, from x_floats.
inline void fill_activations(Problem& p, ActivationForm form) {
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

inline void make_activations(Problem& p, ActivationForm form, uint32_t seed) {
  p.x_stride = p.size.k + kXPadding;
  p.x_floats = floats(p.size.m * p.x_stride, seed);
  const auto row = [&](int64_t m) { return p.x_floats.begin() + m * p.x_stride; };
  *row(0) = 300.0f;  // meets the weight that ComparisonSeesOneCorruptedWeight changes
  if (p.size.m > 2) std::fill_n(row(1), p.size.k, 0.0f);
  if (p.size.m > 3) *row(2) = std::numeric_limits<float>::infinity();
  if (p.size.m > 4) *row(3) = std::numeric_limits<float>::quiet_NaN();
  fill_activations(p, form);
}

inline bool is_float_element(Element element) {
  return element == Element::kF32 || element == Element::kBF16 || element == Element::kF16;
}

inline void clear_nans(std::vector<int8_t>& e4m3) {
  for (int8_t& code : e4m3) {
    if ((code & 0x7f) == 0x7f) code = 0x7e;
  }
}

inline std::vector<float> small_floats(int64_t count, uint32_t seed) {
  std::vector<float> values = floats(count, seed);
  for (float& v : values) v *= 0.01f;  // binary16 outputs stay finite
  return values;
}

inline int64_t groups_of(int64_t k) {
  if (k % 64 == 0) return k / 64;
  return k % 3 == 0 ? 3 : 1;
}

inline void make_scales(Problem& p, uint32_t seed) {
  const auto [m, n, k] = p.size;
  if (p.scales == Scales::kBlocks || p.scales == Scales::kDualBlocks) {
    p.w_block_scale.resize(static_cast<size_t>(n * mx_blocks(k)));
    for (size_t i = 0; i < p.w_block_scale.size(); ++i) {
      p.w_block_scale[i] = static_cast<uint8_t>(118 + (i * 7) % 11);
    }
    if (p.scales == Scales::kDualBlocks) p.w_dual_scale = small_floats(n * dual_blocks(k), seed);
    return;
  }
  const int64_t wanted = p.groups == 0 ? groups_of(k) : p.groups;
  const int64_t groups = p.scales == Scales::kGroups ? wanted : 1;
  p.w_group = groups == 1 ? 0 : k / groups;
  p.w_scale = small_floats(n * groups, seed);
  if (p.scales == Scales::kOffsets) {
    p.w_offset.resize(static_cast<size_t>(n));
    for (size_t i = 0; i < p.w_offset.size(); ++i) p.w_offset[i] = static_cast<float>(i % 9) - 4;
  }
}

inline WeightView view_of(const Problem& p, const std::byte* codes) {
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

inline void fill_w_floats(Problem& p, const std::byte* codes) {
  p.w_floats.resize(static_cast<size_t>(p.size.n * p.size.k));
  for (int64_t n = 0; n < p.size.n; ++n) {
    decode_weights(view_of(p, codes), n, 0, p.size.k, p.w_floats.data() + n * p.size.k);
  }
}

// The packed weight of the codes that a file would hold, or of w_floats.
inline void fill_weights(Problem& p, LayoutId layout, const std::vector<int8_t>& codes_of_file) {
  WeightCodes w{p.element, p.size.n, p.size.k, nullptr};
  std::vector<std::byte> values;
  if (!is_float_element(p.element)) {
    w.data = reinterpret_cast<const std::byte*>(codes_of_file.data());
    fill_w_floats(p, w.data);
  } else {
    values = as_type(p.w_floats, type_of(p.element));
    for (size_t i = 0; i < p.w_floats.size(); ++i) {
      p.w_floats[i] = load_float(values.data(), type_of(p.element), static_cast<int64_t>(i));
    }
    w.data = values.data();
  }
  p.blob = pack_weight(layout_row(layout), w, 0);
}

inline void make_weights(Problem& p, LayoutId layout, uint32_t seed) {
  std::vector<int8_t> q;
  if (is_float_element(p.element)) {
    p.w_floats = floats(p.size.n * p.size.k, seed);
  } else {
    q = codes(p.size.n * code_row_bytes(p.element, p.size.k), seed);
    if (p.element == Element::kE4M3) clear_nans(q);
    make_scales(p, seed + 1);
  }
  fill_weights(p, layout, q);
}

inline QuantScheme scheme_of(Element element, Scales scales, int64_t group) {
  QuantScheme scheme{element, Granularity::kPerChannel, group, scales == Scales::kOffsets};
  if (group != 0) scheme.granularity = Granularity::kPerGroup;
  if (scales == Scales::kBlocks) scheme.granularity = Granularity::kMxBlock;
  if (scales == Scales::kDualBlocks) scheme.granularity = Granularity::kDualLevel;
  return scheme;
}

inline QuantScheme scheme_of(const Problem& p) { return scheme_of(p.element, p.scales, p.w_group); }

inline bool serves(const LinearKernel& row, const Problem& p) {
  return row.declines == nullptr ||
         row.declines({p.size.m, p.size.n, p.size.k, p.type, scheme_of(p)}) == nullptr;
}

// Integers times integers with one scale per row: every row gives the same bits.
inline bool is_exact(const LinearKernel& row, const Problem& p) {
  return row.activation == ActivationForm::kInt8Rows && p.w_group == 0 && p.w_offset.empty();
}

// The plainest scales that the row's weights have.
inline Scales plain_scales(const LinearKernel& row) {
  return row.activation == ActivationForm::kMxRows ? Scales::kBlocks : Scales::kChannel;
}

inline Problem make_problem(const LinearKernel& row, Size size, FloatType type, Element element,
                            bool has_bias, std::optional<Scales> scales = {}, int64_t groups = 0) {
  Problem p{};
  p.groups = groups;
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

}  // namespace mezzotint::linear_problem
