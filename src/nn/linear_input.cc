#include "nn/linear_input.h"

#include <algorithm>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/linear_driver.h"
#include "kernels/registry.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

constexpr int64_t kSmoothGrain = 16;  // rows per task

}  // namespace

FloatType float_type_of(DType dtype) {
  if (dtype == DType::kF32) return FloatType::kF32;
  if (dtype == DType::kBF16) return FloatType::kBF16;
  MZ_CHECK(dtype == DType::kF16);
  return FloatType::kF16;
}

ActivationForm activation_form(const LinearPlan& plan) {
  switch (plan.activation_mode) {
    case ActivationMode::kFloat:
      return ActivationForm::kFloat;
    case ActivationMode::kDynamic:
      return ActivationForm::kInt8Rows;
  }
  MZ_CHECK(false);
}

void LinearInput::fill(const LinearPlan& plan, std::span<const float> mul_scale, Isa isa,
                       LinearTile& tile) {
  tile.x = x_.data;
  tile.x_type = float_type_of(x_.dtype);
  tile.x_stride = x_.row_stride;
  const ActivationForm kind = activation_form(plan);
  if (kind == ActivationForm::kFloat && mul_scale.empty()) return;
  const Form& made = form(plan, mul_scale, isa);
  if (kind == ActivationForm::kFloat) {
    tile.x = made.values.as<float>();
    tile.x_type = FloatType::kF32;
    tile.x_stride = x_.cols;
    return;
  }
  tile.xq = made.values.as<int8_t>();
  tile.xq_stride = padded_k(x_.cols);
  tile.x_scale = made.scale.as<float>();
  tile.x_sum = made.sum.as<int32_t>();
}

const LinearInput::Form& LinearInput::form(const LinearPlan& plan, std::span<const float> mul_scale,
                                           Isa isa) {
  const ActivationForm kind = activation_form(plan);
  for (const Form& made : forms_) {
    if (made.kind == kind && made.scheme == plan.activation &&
        std::ranges::equal(made.mul_scale, mul_scale)) {
      return made;
    }
  }
  const bool codes = kind == ActivationForm::kInt8Rows;
  const int64_t row_bytes =
      codes ? padded_k(x_.cols) : x_.cols * static_cast<int64_t>(sizeof(float));
  const int64_t factor_bytes = codes ? x_.rows * static_cast<int64_t>(sizeof(float)) : 0;
  Form& made = forms_.emplace_back(Form{.kind = kind,
                                        .scheme = plan.activation,
                                        .mul_scale = mul_scale,
                                        .values = ctx_.workspace().take(x_.rows * row_bytes),
                                        .scale = ctx_.workspace().take(factor_bytes),
                                        .sum = ctx_.workspace().take(factor_bytes)});
  if (codes) {
    quantize(made, isa);
  } else {
    smooth(made);
  }
  return made;
}

void LinearInput::quantize(Form& form, Isa isa) const {
  const QuantizeRowsTile tile = {
      .x = x_.data,
      .x_type = float_type_of(x_.dtype),
      .x_stride = x_.row_stride,
      .mul = form.mul_scale.empty() ? nullptr : form.mul_scale.data(),
      .k = x_.cols,
      .q = form.values.as<int8_t>(),
      .q_stride = padded_k(x_.cols),
      .scale = form.scale.as<float>(),
      .sum = form.sum.as<int32_t>(),
  };
  run_quantize_rows(choose_quantize_rows_kernel(isa), tile, x_.rows, ctx_);
}

// x widened to f32, times mul_scale in f32.
void LinearInput::smooth(Form& form) const {
  float* values = form.values.as<float>();
  const FloatType type = float_type_of(x_.dtype);
  parallel_for(ctx_, x_.rows, kSmoothGrain, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m) {
      for (int64_t k = 0; k < x_.cols; ++k) {
        values[m * x_.cols + k] = load_float(x_.data, type, m * x_.row_stride + k) *
                                  form.mul_scale[static_cast<size_t>(k)];
      }
    }
  });
}

}  // namespace mezzotint
