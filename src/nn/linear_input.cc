#include "nn/linear_input.h"

#include <algorithm>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/float_ops.h"
#include "kernels/linear_driver.h"
#include "kernels/registry.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

constexpr int64_t kSmoothGrain = 16;  // rows per task
constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));

bool same(const InputForm& a, const InputForm& b) {
  return a.kind == b.kind && a.scheme == b.scheme && a.fixed == b.fixed && a.compat == b.compat &&
         std::ranges::equal(a.mul_scale, b.mul_scale);
}

const float* mul_of(const InputForm& form) {
  return form.mul_scale.empty() ? nullptr : form.mul_scale.data();
}

// Bytes of the three parts of a form, for one row.
struct RowBytes {
  int64_t values = 0;
  int64_t scale = 0;
  int64_t extra = 0;
};

RowBytes row_bytes(const InputForm& form, int64_t k) {
  switch (form.kind) {
    case ActivationForm::kFloat:
      return {.values = k * kFloatBytes};
    case ActivationForm::kInt8Rows:
      return {.values = padded_k(k), .scale = kFloatBytes, .extra = kFloatBytes};
    case ActivationForm::kMxRows: {
      const bool dual = form.scheme.granularity == Granularity::kDualLevel;
      return {.values = k, .scale = mx_blocks(k), .extra = dual ? dual_blocks(k) * kFloatBytes : 0};
    }
  }
  MZ_CHECK(false);
}

}  // namespace

FloatType float_type_of(DType dtype) {
  if (dtype == DType::kF32) return FloatType::kF32;
  if (dtype == DType::kBF16) return FloatType::kBF16;
  MZ_CHECK(dtype == DType::kF16);
  return FloatType::kF16;
}

ActivationForm activation_form(const LinearPlan& plan) {
  if (plan.activation_mode == ActivationMode::kFloat) return ActivationForm::kFloat;
  const Element element = plan.activation.element;
  const bool integer = element == Element::kInt8 || element == Element::kInt4;
  return integer ? ActivationForm::kInt8Rows : ActivationForm::kMxRows;
}

void LinearInput::fill(const InputForm& wanted, Isa isa, LinearTile& tile) {
  tile.x = x_.data;
  tile.x_type = float_type_of(x_.dtype);
  tile.x_stride = x_.row_stride;
  if (wanted.kind == ActivationForm::kFloat && wanted.mul_scale.empty()) return;
  const Made& found = made(wanted, isa);
  switch (wanted.kind) {
    case ActivationForm::kFloat:
      tile.x = found.values.as<float>();
      tile.x_type = FloatType::kF32;
      tile.x_stride = x_.cols;
      return;
    case ActivationForm::kInt8Rows:
      tile.xq = found.values.as<int8_t>();
      tile.xq_stride = padded_k(x_.cols);
      tile.x_scale = found.scale.as<float>();
      tile.x_sum = found.extra.as<int32_t>();
      return;
    case ActivationForm::kMxRows:
      tile.xq = found.values.as<int8_t>();
      tile.xq_stride = x_.cols;
      tile.x_element = wanted.scheme.element;
      tile.x_block_scale = found.scale.as<uint8_t>();
      if (wanted.scheme.granularity == Granularity::kDualLevel) {
        tile.x_dual_scale = found.extra.as<float>();
      }
  }
}

const LinearInput::Made& LinearInput::made(const InputForm& wanted, Isa isa) {
  for (const Made& made : made_) {
    if (same(made.form, wanted)) return made;
  }
  const RowBytes bytes = row_bytes(wanted, x_.cols);
  Workspace& workspace = ctx_.workspace();
  Made& made = made_.emplace_back(Made{.form = wanted,
                                       .values = workspace.take(x_.rows * bytes.values),
                                       .scale = workspace.take(x_.rows * bytes.scale),
                                       .extra = workspace.take(x_.rows * bytes.extra)});
  switch (wanted.kind) {
    case ActivationForm::kFloat:
      smooth(made, isa);
      break;
    case ActivationForm::kInt8Rows:
      quantize(made, isa);
      break;
    case ActivationForm::kMxRows:
      quantize_mx(made, isa);
      break;
  }
  return made;
}

void LinearInput::quantize(Made& made, Isa isa) const {
  const InputForm& form = made.form;
  const QuantizeRowsTile tile = {
      .x = x_.data,
      .x_type = float_type_of(x_.dtype),
      .x_stride = x_.row_stride,
      .mul = mul_of(form),
      .k = x_.cols,
      .element = form.scheme.element,
      .compat = form.compat,
      .fixed = form.fixed ? &*form.fixed : nullptr,
      .q = made.values.as<int8_t>(),
      .q_stride = padded_k(x_.cols),
      .scale = made.scale.as<float>(),
      .sum = made.extra.as<int32_t>(),
  };
  const QuantizeRowsKernel& kernel = form.compat == Compat::kUpstream
                                         ? quantize_rows_kernels().back()
                                         : choose_quantize_rows_kernel(isa);
  run_quantize_rows(kernel, tile, x_.rows, ctx_);
}

void LinearInput::quantize_mx(Made& made, Isa isa) const {
  const InputForm& form = made.form;
  const bool dual = form.scheme.granularity == Granularity::kDualLevel;
  const QuantizeMxTile tile = {
      .x = x_.data,
      .x_type = float_type_of(x_.dtype),
      .x_stride = x_.row_stride,
      .mul = mul_of(form),
      .k = x_.cols,
      .element = form.scheme.element,
      .compat = form.compat,
      .q = made.values.as<uint8_t>(),
      .block_scale = made.scale.as<uint8_t>(),
      .dual_scale = dual ? made.extra.as<float>() : nullptr,
  };
  const QuantizeMxKernel& kernel = form.compat == Compat::kUpstream
                                       ? quantize_mx_kernels().back()
                                       : choose_quantize_mx_kernel(isa);
  run_quantize_mx(kernel, tile, x_.rows, ctx_);
}

// x widened to f32, times mul_scale in f32.
void LinearInput::smooth(Made& made, Isa isa) const {
  auto* values = made.values.as<float>();
  const FloatType type = float_type_of(x_.dtype);
  const FloatOps& ops = float_ops(isa);
  parallel_for(ctx_, x_.rows, kSmoothGrain, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      float* row = values + m * x_.cols;
      ops.widen(offset_floats(x_.data, type, m * x_.row_stride), type, row, x_.cols);
      ops.scale_bias(row, made.form.mul_scale.data(), nullptr, row, FloatType::kF32, x_.cols);
    }
  });
}

}  // namespace mezzotint
