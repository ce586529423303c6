#include "quant/write_layer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "mezzotint/error.h"
#include "numerics/bf16.h"
#include "numerics/e8m0.h"
#include "quant/algorithms/contracts.h"
#include "quant/coding.h"
#include "quant/effective_weight.h"
#include "quant/input_calibration.h"
#include "solve/gptq.h"
#include "solve/integer_scales.h"
#include "solve/low_rank.h"
#include "solve/rtn.h"
#include "solve/smoothing.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

void check_finite(const FloatLayer& layer, const ExecContext& ctx) {
  const std::optional<int64_t> bad = first_row_not_finite(layer.weight, ctx);
  if (!bad) return;
  throw Error(ErrorCode::kInput, "the weight holds a value that is not finite",
              {.layer = layer.name,
               .tensor = layer.name + ".weight",
               .expected = "finite values",
               .found = fmt::format("inf or nan in row {}", *bad),
               .fix = "repair the source file, or keep the layer with --exclude"});
}

// Whether codes and scales to nearest tell of values that are not finite, so that a pass over the
// weight, which no cache keeps until the next one, is saved: a fifth of what MXFP4 takes. The scale
// of an MX block with such a value is NaN, alone of all.
bool scales_tell(const AlgorithmRow& row, const WriteOptions& options) {
  return has_mx_blocks(*row.contract) && !row.parameters.low_rank &&
         options.calibration == nullptr && options.compat == Compat::kNone;
}

bool holds_nan_scale(const Tensor& block_scale) {
  const auto* bytes = block_scale.data<uint8_t>();
  return std::find(bytes, bytes + block_scale.size(), kE8M0NaN) != bytes + block_scale.size();
}

HasStatistics has_statistics(const WriteOptions& options) {
  return options.calibration == nullptr ? HasStatistics::kNo : HasStatistics::kYes;
}

// Codes and scales to nearest, and the plan that decodes them.
LinearParams nearest(const AlgorithmRow& row, const Tensor& w, const LayerDims& dims,
                     const WriteOptions& options, const ExecContext& ctx) {
  LinearParams params;
  AlgorithmParameters how = row.parameters;
  how.compat = options.compat;
  if (options.calibration != nullptr) how.scales = ScaleSearch::kThorough;
  params.plan.n = dims.n;
  params.plan.k = dims.k;
  row.contract->quantize(w, how, dims, params, ctx);
  LayerDims plain = dims;
  plain.rank = 0;
  params.plan = plan_of(*row.contract, params, plain);
  return params;
}

bool is_integer(const LinearParams& params) { return params.block_scale.empty(); }

// Scales of integer groups by search, for what calibrated weight-only algorithms store.
void search_scales(const AlgorithmRow& row, const Tensor& w, const LayerDims& dims,
                   InputCalibration& input, LinearParams& params, const ExecContext& ctx) {
  const Element element = row.contract->weight_element;
  const Symmetry symmetry =
      row.parameters.solver == Solver::kAwq ? Symmetry::kAsymmetric : Symmetry::kSymmetric;
  IntegerScales scales =
      search_integer_scales(w, element, {.groups = dims.groups}, symmetry, &input.gram(), ctx);
  params.codes = integer_codes(w, element, dims.groups, scales, ctx);
  params.weight_scale = std::move(scales.scale);
  params.weight_offset = std::move(scales.offset);
}

// With one scale for a whole row of four bits the first columns would leave the last ones large
// errors to make up for: those that matter most go first. MX blocks and groups keep their order.
ColumnOrder column_order(FeedbackOrder wanted, Element element, const LayerDims& dims) {
  if (wanted == FeedbackOrder::kStored) return ColumnOrder::kStored;
  const bool coarse_rows = element == Element::kInt4 && dims.groups == 0;
  return wanted == FeedbackOrder::kByEnergy || coarse_rows ? ColumnOrder::kByEnergy
                                                           : ColumnOrder::kStored;
}

void feed_back(const Tensor& w, const LayerDims& dims, InputCalibration& input,
               LinearParams& params, const ExecContext& ctx) {
  const auto floats = [](const Tensor& t) { return t.empty() ? nullptr : t.data<float>(); };
  WeightView grid = {.element = params.plan.weight.element,
                     .n = dims.n,
                     .k = dims.k,
                     .group = dims.groups == 0 ? 0 : dims.k / dims.groups,
                     .scale = floats(params.weight_scale),
                     .offset = floats(params.weight_offset),
                     .dual_scale = floats(params.dual_scale)};
  // An offset of zero lets int4 codes reach -8.
  const std::vector<float> zeros(static_cast<size_t>(params.weight_scale.size()), 0.0f);
  if (grid.element == Element::kInt4 && grid.offset == nullptr) grid.offset = zeros.data();
  if (!is_integer(params)) {
    grid.block_scale = reinterpret_cast<const uint8_t*>(params.block_scale.raw());
  }
  const ColumnOrder order = column_order(input.how().order, grid.element, dims);
  params.codes = gptq_codes(w, grid, input.factor(order), ctx);
}

// The weight's part of the layer: codes and scales, by the algorithm's solver.
LinearParams solve_weight(const AlgorithmRow& row, const Tensor& w, const LayerDims& dims,
                          const WriteOptions& options, const ExecContext& ctx) {
  LinearParams params = nearest(row, w, dims, options, ctx);
  InputCalibration* input = options.calibration;
  if (input == nullptr) return params;
  const Solver solver = row.parameters.solver;
  const bool four_bits = row.contract->weight_element == Element::kInt4;
  if (solver != Solver::kNearest && four_bits) search_scales(row, w, dims, *input, params, ctx);
  if (solver == Solver::kGptq || input->how().feedback == ErrorFeedback::kAlways) {
    feed_back(w, dims, *input, params, ctx);
  }
  return params;
}

// What alternating steps round with. Rows are rounded on the thread that made them.
ResidualRounding residual_rounding(const AlgorithmRow& row, const LayerDims& dims,
                                   const WriteOptions& options, const ExecContext& ctx) {
  const RoundedBy by = rounded_by(row, options.compat);
  if (by == RoundedBy::kBlock) return rounding_to_mx(row.contract->weight_element);
  const ExecContext inner = by == RoundedBy::kTensor ? ctx : ExecContext({.threads = 1});
  return rounding_to_values(
      by, [&row, dims, &options, inner](const Tensor& rows, std::span<float> values) {
        LayerDims part = dims;
        part.n = rows.dim(0);
        const LinearParams params = nearest(row, rows, part, options, inner);
        EffectiveWeight(params).codes(0, values);
      });
}

// Rows [first, first + rows of part) of a matrix with n rows.
void put_rows(const Tensor& part, int64_t n, int64_t first, Tensor& whole) {
  if (part.empty()) return;
  if (whole.empty()) {
    Shape shape = part.shape();
    shape[0] = n;
    whole = Tensor::allocate(part.dtype(), shape);
  }
  const int64_t row_bytes = part.byte_size() / part.dim(0);
  std::memcpy(whole.buffer().mutable_data() + first * row_bytes, part.raw(),
              static_cast<size_t>(part.byte_size()));
}

// What nearest() makes of w - up down, whose rows do not depend on each other: a few of them at a
// time, for all would be twice as large as w.
LinearParams nearest_to_residual(const AlgorithmRow& row, const Tensor& w,
                                 const LowRankFactors& factors, const LayerDims& dims,
                                 const WriteOptions& options, const ExecContext& ctx) {
  const LowRankResidual residual(w, factors);
  const Tensor space = Tensor::allocate(DType::kF32, {std::min(kResidualRows, dims.n), dims.k});
  const int64_t row_bytes = dims.k * dtype_size(DType::kF32);
  LinearParams params;
  LayerDims part = dims;
  for (int64_t first = 0; first < dims.n; first += kResidualRows) {
    part.n = std::min(kResidualRows, dims.n - first);
    const Tensor rows(DType::kF32, {part.n, dims.k}, space.buffer().slice(0, part.n * row_bytes));
    residual.rows(first, rows, ctx);
    const LinearParams found = nearest(row, rows, part, options, ctx);
    for (Tensor LinearParams::* const tensor :
         {&LinearParams::codes, &LinearParams::weight_scale, &LinearParams::weight_offset,
          &LinearParams::block_scale, &LinearParams::dual_scale}) {
      put_rows(found.*tensor, dims.n, first, params.*tensor);
    }
  }
  params.plan.n = dims.n;
  params.plan.k = dims.k;
  part = dims;
  part.rank = 0;
  params.plan = plan_of(*row.contract, params, part);
  return params;
}

// The codes beside a low-rank branch, and the branch.
LinearParams solve_beside_branch(const AlgorithmRow& row, const Tensor& w, const LayerDims& dims,
                                 const WriteOptions& options, const ExecContext& ctx) {
  LowRankFactors factors;
  LinearParams params;
  if (holds_residual(row, has_statistics(options))) {
    LowRankSplit split = split_low_rank(w, dims.rank, ctx);
    if (options.calibration != nullptr) {
      split = alternate_low_rank(w, std::move(split), residual_rounding(row, dims, options, ctx),
                                 kAlternatingSteps, ctx);
    }
    params = solve_weight(row, split.residual, dims, options, ctx);
    factors = {.down = std::move(split.down), .up = std::move(split.up)};
  } else {
    factors = leading_low_rank(w, dims.rank, ctx);
    params = nearest_to_residual(row, w, factors, dims, options, ctx);
  }
  params.low_rank_down = std::move(factors.down);
  params.low_rank_up = std::move(factors.up);
  return params;
}

LinearParams quantize_layer(const AlgorithmRow& row, const FloatLayer& layer, const LayerDims& dims,
                            const WriteOptions& options, const ExecContext& ctx) {
  Tensor weight = layer.weight;
  Tensor mul_scale;
  if (options.smoothed == Smoothed::kYes) {
    MZ_CHECK(options.calibration != nullptr);
    const std::vector<float>& multipliers = options.calibration->multipliers();
    mul_scale = Tensor::copy_of<float>(multipliers, {dims.k});
    weight = divided_columns(weight, multipliers, ctx);
  }
  LinearParams params = row.parameters.low_rank
                            ? solve_beside_branch(row, weight, dims, options, ctx)
                            : solve_weight(row, weight, dims, options, ctx);
  params.mul_scale = std::move(mul_scale);
  if (layer.bias) params.bias = widened(*layer.bias);
  if (row.contract->mode == ActivationMode::kStatic) {
    make_static({options.calibration->static_scale()}, params);
  } else if (row.contract->mode == ActivationMode::kPolicy) {
    make_static(options.calibration->step_scales(), params);
  }
  return params;
}

// --- static scales -------------------------------------------------------------------------------

// Of |bias| / deq_scale: a quarter of what 32 bits hold; the rest is for the sum of products.
constexpr double kLargestBias = 0x1p29;

AffineParams with_room(const AffineParams& wanted, const LinearParams& params) {
  if (params.bias.empty()) return wanted;
  double least = 0;
  for (int64_t n = 0; n < params.plan.n; ++n) {
    const double scale = params.weight_scale.data<float>()[n];
    least =
        std::max(least, std::abs(double{params.bias.data<float>()[n]}) / (scale * kLargestBias));
  }
  if (wanted.scale >= least) return wanted;
  const float low = (-128.0f - wanted.offset) * wanted.scale;
  AffineParams raised = {.scale = round_to_bf16(static_cast<float>(least * 1.01)), .offset = 0};
  raised.offset = std::clamp(std::nearbyint(-low / raised.scale) - 128.0f, -128.0f, 127.0f);
  return raised;
}

std::vector<int64_t> code_sums(const LinearParams& params) {
  std::vector<int64_t> sums(static_cast<size_t>(params.plan.n), 0);
  const int8_t* codes = params.codes.data<int8_t>();
  for (int64_t i = 0; i < params.codes.size(); ++i) {
    sums[static_cast<size_t>(i / params.plan.k)] += codes[i];
  }
  return sums;
}

}  // namespace

bool holds_residual(const AlgorithmRow& row, HasStatistics statistics) {
  return statistics == HasStatistics::kYes || row.parameters.weights == Granularity::kPerTensor;
}

RoundedBy rounded_by(const AlgorithmRow& row, Compat compat) {
  if (row.parameters.weights == Granularity::kPerTensor) return RoundedBy::kTensor;
  const bool one_level = row.contract == &kMxFp4Contract || row.contract == &kMxFp8Contract;
  return one_level && compat == Compat::kNone ? RoundedBy::kBlock : RoundedBy::kRow;
}

void make_static(const std::vector<AffineParams>& scales, LinearParams& params) {
  const int64_t n = params.plan.n;
  const auto steps = static_cast<int64_t>(scales.size());
  const std::vector<int64_t> sums = code_sums(params);
  params.input_scale = Tensor::allocate(DType::kF32, {steps});
  params.input_offset = Tensor::allocate(DType::kF32, {steps});
  params.deq_scale = Tensor::allocate(DType::kF32, {steps, n});
  params.quant_bias = Tensor::allocate(DType::kI32, {steps, n});
  for (int64_t t = 0; t < steps; ++t) {
    const AffineParams x = with_room(scales[static_cast<size_t>(t)], params);
    params.input_scale.mutable_data<float>()[t] = x.scale;
    params.input_offset.mutable_data<float>()[t] = x.offset;
    for (int64_t i = 0; i < n; ++i) {
      const float deq = x.scale * params.weight_scale.data<float>()[i];
      const double bias = params.bias.empty() ? 0 : params.bias.data<float>()[i];
      const double shift = double{x.offset} * static_cast<double>(sums[static_cast<size_t>(i)]);
      params.deq_scale.mutable_data<float>()[t * n + i] = deq;
      params.quant_bias.mutable_data<int32_t>()[t * n + i] =
          static_cast<int32_t>(std::nearbyint(bias / double{deq} - shift));
    }
  }
}

LinearParams nearest_params(const AlgorithmRow& row, const Tensor& w, const WriteOptions& options,
                            const ExecContext& ctx) {
  return nearest(row, w, written_dims(row, w.dim(0), w.dim(1), options), options, ctx);
}

Tensor rounded_weight(const AlgorithmRow& row, const Tensor& w, const WriteOptions& options,
                      const ExecContext& ctx) {
  return code_values(nearest_params(row, w, options, ctx), ctx);
}

LayerTensors write_layer_params(const AlgorithmRow& row, const FloatLayer& layer,
                                const WriteOptions& options, const ExecContext& ctx) {
  require_writable(row, has_statistics(options), {.layer = layer.name});
  const bool told = scales_tell(row, options);
  if (!told) check_finite(layer, ctx);
  const LayerDims dims = written_dims(row, layer.weight.dim(0), layer.weight.dim(1), options);
  const LinearParams params = quantize_layer(row, layer, dims, options, ctx);
  if (told && holds_nan_scale(params.block_scale)) check_finite(layer, ctx);
  LayerTensors tensors;
  for (PlannedTensor& planned :
       plan_layer_tensors(row, layer.name, dims, layer.bias ? HasBias::kYes : HasBias::kNo,
                          options.compat, options.smoothed)) {
    const ParamSpec& spec = spec_of(*row.contract, planned.tensor.name);
    Tensor tensor =
        encoded_param(spec, params.*spec.field, dims, planned.tensor.dtype, planned.tensor.shape);
    tensors.push_back({.name = std::move(planned.tensor.name),
                       .label = std::move(planned.label),
                       .tensor = std::move(tensor)});
  }
  return tensors;
}

}  // namespace mezzotint
