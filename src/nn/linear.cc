#include "mezzotint/linear.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/parallel_for.h"
#include "base/workspace.h"
#include "kernels/float_ops.h"
#include "kernels/linear_driver.h"
#include "kernels/registry.h"
#include "mezzotint/error.h"
#include "nn/linear_input.h"
#include "nn/linear_state.h"
#include "numerics/float_type.h"

namespace mezzotint {
namespace {

[[noreturn]] void bad_call(const Linear& linear, std::string_view what, std::string expected,
                           std::string found) {
  throw Error(ErrorCode::kUsage, what,
              {.layer = linear.name(), .expected = std::move(expected), .found = std::move(found)});
}

void check_matrix(const Linear& linear, std::string_view which, const ConstMatrix& matrix,
                  int64_t cols) {
  if (matrix.cols != cols) {
    bad_call(linear, fmt::format("{} has the wrong number of columns", which), std::to_string(cols),
             std::to_string(matrix.cols));
  }
  if (matrix.dtype != DType::kF32 && matrix.dtype != DType::kBF16 && matrix.dtype != DType::kF16) {
    bad_call(linear, fmt::format("{} has the wrong dtype", which), "F32, BF16 or F16",
             std::string(dtype_name(matrix.dtype)));
  }
  if (matrix.rows < 0) {
    bad_call(linear, fmt::format("{} has a negative number of rows", which), "0 or more",
             std::to_string(matrix.rows));
  }
  if (matrix.rows > 1 && matrix.row_stride < cols) {
    bad_call(linear, fmt::format("rows of {} overlap", which),
             fmt::format("row_stride >= {}", cols), std::to_string(matrix.row_stride));
  }
  if (matrix.rows > 0 && matrix.data == nullptr) {
    bad_call(linear, fmt::format("{} has no data", which), "a pointer", "null");
  }
}

// Steps are indices of calibrated rows, whichever way the policy runs them.
void check_step(const Linear& linear, int step) {
  const LinearPlan& plan = linear.state()->plan;
  if (plan.activation_mode != ActivationMode::kPolicy || step < plan.steps) return;
  throw Error(ErrorCode::kUsage, "the denoising step is outside the calibrated ones",
              {.layer = linear.name(),
               .expected = fmt::format("a step of 0..{}, as the file holds {} calibrated steps",
                                       plan.steps - 1, plan.steps),
               .found = fmt::format("step {}", step),
               .fix = "run as many steps as were calibrated, or calibrate again"});
}

// Everything that can be refused, before the first kernel runs.
void check_call(const Linear& linear, const ConstMatrix& x, const Matrix& y,
                const ExecContext& ctx) {
  if (linear.state() == nullptr) {
    bad_call(linear, "the linear holds no weight", "from_float() or quantize() before run()",
             "an empty linear");
  }
  check_matrix(linear, "x", x, linear.in_features());
  check_matrix(linear, "y", y, linear.out_features());
  if (y.rows != x.rows) {
    bad_call(linear, "y has the wrong number of rows", std::to_string(x.rows),
             std::to_string(y.rows));
  }
  if (y.dtype != x.dtype) {
    bad_call(linear, "y has the wrong dtype", std::string(dtype_name(x.dtype)) + " like x",
             std::string(dtype_name(y.dtype)));
  }
  check_step(linear, ctx.step());
  (void)linear.kernel(x.rows, x.dtype);
}

template <typename T>
const T* data_or_null(const Tensor& tensor) {
  return tensor.empty() ? nullptr : tensor.data<T>();
}

std::span<const float> floats_of(const Tensor& tensor) {
  if (tensor.empty()) return {};
  return {tensor.data<float>(), static_cast<size_t>(tensor.size())};
}

LayoutId layout_of(const LinearState& state) {
  return static_cast<LayoutId>(packed_header(state.blob).layout);
}

const LinearKernel& kernel_of(const LinearState& state, int64_t m, FloatType x_type) {
  if (state.plan.compat == Compat::kUpstream) {
    return reference_linear_kernel(layout_of(state), activation_form(state.plan));
  }
  const LinearQuery query = {m, state.plan.n, state.plan.k, x_type, state.plan.weight};
  return choose_linear_kernel(layout_of(state), activation_form(state.plan), query, state.isa);
}

// The row of the static tables that a step uses; -1: x is measured.
int64_t static_row(const LinearState& state, int step) {
  switch (state.plan.activation_mode) {
    case ActivationMode::kFloat:
    case ActivationMode::kDynamic:
      return -1;
    case ActivationMode::kStatic:
      return 0;
    case ActivationMode::kPolicy:
      break;
  }
  return step >= 0 && state.policy.at(step) == StepMode::kStatic ? step : -1;
}

InputForm input_form(const LinearState& state, int64_t static_row) {
  InputForm form = {.kind = activation_form(state.plan),
                    .scheme = state.plan.activation,
                    .mul_scale = floats_of(state.mul_scale),
                    .compat = state.plan.compat};
  if (static_row >= 0) {
    form.scheme.granularity = Granularity::kPerTensor;
    form.fixed = StaticScale{.scale = state.input_scale.data<float>()[static_row],
                             .zero_point = state.input_offset.data<float>()[static_row]};
  }
  return form;
}

void fill_weight(const LinearState& state, int64_t static_row, LinearTile& tile) {
  const LinearPlan& plan = state.plan;
  tile.w = packed_payload(state.blob);
  tile.w_element = plan.weight.element;
  tile.w_scale = data_or_null<float>(state.weight_scale);
  tile.w_group = plan.weight.group;
  tile.w_offset = data_or_null<float>(state.weight_offset);
  // e8m0 bytes, under whichever dtype the file gave them
  if (!state.block_scale.empty()) {
    tile.w_block_scale = reinterpret_cast<const uint8_t*>(state.block_scale.raw());
  }
  tile.w_dual_scale = data_or_null<float>(state.dual_scale);
  tile.bias = data_or_null<float>(state.bias);
  tile.compat = plan.compat;
  if (static_row >= 0) {  // bias and both scales are folded into the step's tables
    tile.w_scale = state.deq_scale.data<float>() + static_row * plan.n;
    tile.acc_bias = state.quant_bias.data<int32_t>() + static_row * plan.n;
    tile.bias = nullptr;
  }
}

// y may be of another float type than x. `addend`, f32 like y or empty, is added before y is
// rounded.
void run_state(const LinearState& state, const InputForm& form, int64_t static_row,
               LinearInput& input, const Matrix& addend, const Matrix& y, const ExecContext& ctx) {
  LinearTile tile = {};
  input.fill(form, state.isa, tile);
  fill_weight(state, static_row, tile);
  tile.m = y.rows;
  tile.n = state.plan.n;
  tile.k = state.plan.k;
  tile.y = y.data;
  tile.y_type = float_type_of(y.dtype);
  tile.y_stride = y.row_stride;
  tile.addend = static_cast<const float*>(addend.data);
  tile.addend_stride = addend.row_stride;
  run_linear(kernel_of(state, y.rows, tile.x_type), tile, ctx);
}

void run_main(const LinearState& state, LinearInput& input, const Matrix& y,
              const ExecContext& ctx) {
  const int64_t row = static_row(state, ctx.step());
  run_state(state, input_form(state, row), row, input, {}, y, ctx);
}

// A float linear without bias, smoothed like the layer it belongs to: y = x w^T + addend.
void run_factor(const LinearState& factor, LinearInput& input, std::span<const float> mul_scale,
                const Matrix& addend, const Matrix& y, const ExecContext& ctx) {
  const InputForm form = {.kind = ActivationForm::kFloat, .mul_scale = mul_scale};
  run_state(factor, form, -1, input, addend, y, ctx);
}

// y += (x' down^T) up^T
struct Branch {
  const LinearState* down = nullptr;
  const LinearState* up = nullptr;
  std::span<const float> mul_scale{};  // x' = x * mul_scale; none: x' = x
};

// The layer's own branch, then an adapter's.
std::vector<Branch> branches_of(const LinearState& state) {
  std::vector<Branch> branches;
  if (state.low_rank_down != nullptr) {
    const bool given = state.plan.branch_input == BranchInput::kGiven;
    branches.push_back(
        {.down = state.low_rank_down.get(),
         .up = state.low_rank_up.get(),
         .mul_scale = given ? std::span<const float>() : floats_of(state.mul_scale)});
  }
  if (state.adapter_down != nullptr) {
    branches.push_back({.down = state.adapter_down.get(), .up = state.adapter_up.get()});
  }
  return branches;
}

// Rows of y that a layer with branches makes at a time: its f32 copy of y, at most 8 MB, stays in a
// third-level cache until the branch is added. Whole tiles of the rows of kernels.inc.
int64_t branch_rows(int64_t m, int64_t n) {
  constexpr int64_t kTile = 240;  // 2 x 120; a tile of 224 and a rest
  constexpr int64_t kFloats = int64_t{2} << 20;
  return std::min(m, std::max<int64_t>(1, kFloats / (n * kTile)) * kTile);
}

Matrix f32_matrix(const Scratch& memory, int64_t rows, int64_t cols) {
  return {memory.as<float>(), DType::kF32, rows, cols, cols};
}

Matrix some_rows(const Matrix& y, int64_t first, int64_t rows) {
  Matrix part = y;
  part.rows = rows;
  part.data = offset_floats(y.data, float_type_of(y.dtype), first * y.row_stride);
  return part;
}

ConstMatrix some_rows(const ConstMatrix& x, int64_t first, int64_t rows) {
  ConstMatrix part = x;
  part.rows = rows;
  part.data = offset_floats(x.data, float_type_of(x.dtype), first * x.row_stride);
  return part;
}

// y = x' w^T + bias + the branches, by blocks of rows. Every last factor adds the sum before it, so
// that y is rounded once; two buffers take turns, since a factor cannot add to what it writes.
void run_with_branches(const LinearState& state, const std::vector<Branch>& branches,
                       const ConstMatrix& x, const Matrix& y, const ExecContext& ctx) {
  const int64_t n = state.plan.n;
  const int64_t block = branch_rows(x.rows, n);
  int64_t rank = 0;
  for (const Branch& branch : branches) rank = std::max(rank, branch.down->plan.n);
  constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
  const int64_t sums = branches.size() > 1 ? 2 : 1;
  const Scratch sum_memory = ctx.workspace().take(sums * block * n * kFloatBytes);
  const Scratch inner_memory = ctx.workspace().take(block * rank * kFloatBytes);
  for (int64_t first = 0; first < x.rows; first += block) {
    const int64_t rows = std::min(block, x.rows - first);
    Matrix sum = f32_matrix(sum_memory, rows, n);
    Matrix next = sum;
    if (sums > 1) next.data = sum_memory.as<float>() + block * n;
    LinearInput input(some_rows(x, first, rows), ctx);
    run_main(state, input, sum, ctx);
    for (const Branch& branch : branches) {
      const Matrix inner = f32_matrix(inner_memory, rows, branch.down->plan.n);
      run_factor(*branch.down, input, branch.mul_scale, {}, inner, ctx);
      LinearInput inner_input(inner, ctx);
      const bool last = &branch == &branches.back();
      run_factor(*branch.up, inner_input, {}, sum, last ? some_rows(y, first, rows) : next, ctx);
      std::swap(sum, next);
    }
  }
}

void run_checked(const LinearState& state, LinearInput& input, const Matrix& y,
                 const ExecContext& ctx) {
  if (state.low_rank_down == nullptr && state.adapter_down == nullptr) {
    run_main(state, input, y, ctx);
  } else {
    run_with_branches(state, branches_of(state), input.matrix(), y, ctx);
  }
}

void tell_tap(std::string_view name, const ConstMatrix& x, const ExecContext& ctx) {
  if (ctx.tap() == nullptr || !ctx.tap()->on_linear_input) return;
  ctx.tap()->on_linear_input(name, x, ctx.step());
}

}  // namespace

Linear::Linear(std::string name, int64_t out_features, int64_t in_features,
               std::shared_ptr<const LinearState> state)
    : name_(std::move(name)), in_features_(in_features), out_features_(out_features) {
  if (state != nullptr) set_state(std::move(state));
}

Linear Linear::from_float(std::string name, const Tensor& weight,
                          const std::optional<Tensor>& bias) {
  const LinearParams params = float_params(name, weight, bias);
  std::shared_ptr<const LinearState> state = make_linear_state(params, active_isa());
  return Linear(std::move(name), params.plan.n, params.plan.k, std::move(state));
}

bool Linear::has_bias() const noexcept { return state_ != nullptr && state_->plan.has_bias; }

std::string_view Linear::algorithm() const noexcept {
  return state_ == nullptr ? std::string_view() : std::string_view(state_->algorithm);
}

std::string_view Linear::kernel(int64_t m, DType x) const {
  return state_ == nullptr ? std::string_view() : kernel_of(*state_, m, float_type_of(x)).name;
}

int64_t Linear::resident_bytes() const noexcept {
  return state_ == nullptr ? 0 : mezzotint::resident_bytes(*state_);
}

void Linear::set_state(std::shared_ptr<const LinearState> state) {
  MZ_CHECK(state != nullptr);
  if (state->plan.n != out_features_ || state->plan.k != in_features_) {
    throw Error(ErrorCode::kUsage, "the weight has another shape than the layer",
                {.layer = name_,
                 .expected = to_string({out_features_, in_features_}),
                 .found = to_string({state->plan.n, state->plan.k})});
  }
  state_ = std::move(state);
}

void Linear::run(const ConstMatrix& x, const Matrix& y, const ExecContext& ctx) const {
  check_call(*this, x, y, ctx);
  tell_tap(name_, x, ctx);
  if (x.rows == 0) return;
  LinearInput input(x, ctx);
  run_checked(*state_, input, y, ctx);
}

void run_group(const LinearGroup& group, const ConstMatrix& x, std::span<const Matrix> y,
               const ExecContext& ctx) {
  if (y.size() != group.members.size()) {
    throw Error(ErrorCode::kUsage, "a group needs one output per member",
                {.layer = group.name,
                 .expected = std::to_string(group.members.size()),
                 .found = std::to_string(y.size())});
  }
  for (size_t i = 0; i < y.size(); ++i) {
    MZ_CHECK(group.members[i] != nullptr);
    check_call(*group.members[i], x, y[i], ctx);
  }
  tell_tap(group.name, x, ctx);
  if (x.rows == 0) return;
  LinearInput input(x, ctx);
  for (size_t i = 0; i < y.size(); ++i) {
    run_checked(*group.members[i]->state(), input, y[i], ctx);
  }
}

}  // namespace mezzotint
