#include "mezzotint/linear.h"

#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/linear_driver.h"
#include "kernels/registry.h"
#include "mezzotint/error.h"
#include "nn/linear_input.h"
#include "nn/linear_state.h"

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

void check_call(const Linear& linear, const ConstMatrix& x, const Matrix& y) {
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

const LinearKernel& kernel_of(const LinearState& state, int64_t m) {
  return choose_linear_kernel(layout_of(state), activation_form(state.plan), m, state.plan.n,
                              state.plan.k, state.isa);
}

void run_checked(const LinearState& state, const LinearKernel& kernel, LinearInput& input,
                 const Matrix& y, const ExecContext& ctx) {
  LinearTile tile = {};
  input.fill(state.plan, floats_of(state.mul_scale), state.isa, tile);
  tile.w = packed_payload(state.blob);
  tile.w_element = state.plan.weight.element;
  tile.w_scale = data_or_null<float>(state.weight_scale);
  tile.bias = data_or_null<float>(state.bias);
  tile.m = y.rows;
  tile.n = state.plan.n;
  tile.k = state.plan.k;
  tile.y = y.data;
  tile.y_type = float_type_of(y.dtype);
  tile.y_stride = y.row_stride;
  run_linear(kernel, tile, ctx);
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

std::string_view Linear::kernel(int64_t m) const {
  return state_ == nullptr ? std::string_view() : kernel_of(*state_, m).name;
}

int64_t Linear::resident_bytes() const noexcept {
  if (state_ == nullptr) return 0;
  int64_t bytes = state_->blob.size();
  for (const Tensor* t : {&state_->weight_scale, &state_->mul_scale, &state_->bias}) {
    if (!t->empty()) bytes += t->byte_size();
  }
  return bytes;
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
  check_call(*this, x, y);
  tell_tap(name_, x, ctx);
  if (x.rows == 0) return;
  const LinearKernel& kernel = kernel_of(*state_, x.rows);
  LinearInput input(x, ctx);
  run_checked(*state_, kernel, input, y, ctx);
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
    check_call(*group.members[i], x, y[i]);
  }
  tell_tap(group.name, x, ctx);
  if (x.rows == 0) return;
  std::vector<const LinearKernel*> kernels;
  for (const Linear* member : group.members)
    kernels.push_back(&kernel_of(*member->state(), x.rows));
  LinearInput input(x, ctx);
  for (size_t i = 0; i < y.size(); ++i) {
    run_checked(*group.members[i]->state(), *kernels[i], input, y[i], ctx);
  }
}

}  // namespace mezzotint
