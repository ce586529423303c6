#include "bench/linear_cases.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "bench/random_tensor.h"
#include "nn/linear_input.h"
#include "nn/linear_state.h"
#include "nn/random_linear.h"

namespace mezzotint::bench {
namespace {

// What cold weights take in all: more than any cache, so that each is read from memory.
constexpr int64_t kColdBytes = int64_t{256} << 20;

Tensor copied(const Tensor& tensor) {
  if (tensor.empty()) return tensor;
  Tensor copy = Tensor::allocate(tensor.dtype(), tensor.shape());
  std::copy_n(tensor.raw(), tensor.byte_size(), copy.buffer().mutable_data());
  return copy;
}

// The same layer in memory of its own.
std::shared_ptr<const LinearState> copied(const LinearState& state) {
  LinearState copy = state;
  copy.blob = Buffer::allocate(state.blob.size());
  std::copy_n(state.blob.data(), state.blob.size(), copy.blob.mutable_data());
  for (Tensor* tensor : {&copy.weight_scale, &copy.block_scale, &copy.dual_scale, &copy.bias,
                         &copy.quant_bias, &copy.deq_scale}) {
    *tensor = copied(*tensor);
  }
  if (state.low_rank_down != nullptr) copy.low_rank_down = copied(*state.low_rank_down);
  if (state.low_rank_up != nullptr) copy.low_rank_up = copied(*state.low_rank_up);
  return std::make_shared<const LinearState>(std::move(copy));
}

// One path at one shape; x is shared by all paths of an io type.
struct Problem {
  std::vector<Linear> linears;  // more than one: cold weights, walked in turns
  Tensor x, y;
  size_t next = 0;

  void run(const ExecContext& ctx) {
    const Linear& linear = linears[next];
    next = (next + 1) % linears.size();
    linear.run({x.raw(), x.dtype(), x.dim(0), x.dim(1), x.dim(1)},
               {y.buffer().mutable_data(), y.dtype(), y.dim(0), y.dim(1), y.dim(1)}, ctx);
  }

  void quantize(const ExecContext& ctx) const {
    const LinearState& state = *linears.front().state();
    LinearInput input({x.raw(), x.dtype(), x.dim(0), x.dim(1), x.dim(1)}, ctx);
    LinearTile tile = {};
    input.fill({.kind = activation_form(state.plan), .scheme = state.plan.activation}, state.isa,
               tile);
  }
};

// The shape with one set of inputs and outputs for all its paths.
class ShapeCases {
 public:
  ShapeCases(const LinearShape& shape, const CaseOptions& options)
      : shape_(shape), options_(options) {
    for (const int threads : options.threads) {
      contexts_.push_back(std::make_shared<const ExecContext>(ExecOptions{.threads = threads}));
    }
  }

  std::vector<Case> make() {
    for (const Path& path : paths()) {
      if (options_.wants(path, Op::kLinear)) add_path(path);
    }
    return std::move(cases_);
  }

 private:
  void add_path(const Path& path) {
    std::vector<std::string_view> seen;
    int isa = static_cast<int>(active_isa());
    for (; isa >= 0; --isa) {
      const RandomLinear what = {.algorithm = std::string(path.algorithm),
                                 .n = shape_.n,
                                 .k = shape_.k,
                                 .group_size = path.group_size,
                                 .float_dtype = path.io};
      const Linear linear = random_linear(what, static_cast<Isa>(isa));
      const std::string_view kernel = linear.kernel(shape_.m, path.io);
      if (std::ranges::count(seen, kernel) == 0) add_cases(path, linear, static_cast<Isa>(isa));
      seen.push_back(kernel);
      if (options_.rows == Rows::kBest) return;
    }
  }

  void add_cases(const Path& path, const Linear& linear, Isa isa) {
    auto problem = std::make_shared<Problem>(
        Problem{.linears = {linear}, .x = input(path.io), .y = output(path.io)});
    const bool cold = shape_.m == 1;
    if (cold) add_copies(*problem);
    for (const auto& ctx : contexts_) {
      Case whole = {.set = shape_.name,
                    .path = std::string(path.name),
                    .kernel = std::string(linear.kernel(shape_.m, path.io)),
                    .m = shape_.m,
                    .n = shape_.n,
                    .k = shape_.k,
                    .threads = ctx->threads(),
                    .isa = isa,
                    .peak = path.peak,
                    .operations = 2.0 * static_cast<double>(shape_.m * shape_.n * shape_.k),
                    .bytes = static_cast<double>(linear.resident_bytes()),
                    .cold = cold,
                    .call = [problem, ctx] { problem->run(*ctx); }};
      cases_.push_back(whole);
      if (cold || linear.state()->plan.activation_mode != ActivationMode::kDynamic) continue;
      whole.part = "quantize";
      whole.call = [problem, ctx] { problem->quantize(*ctx); };
      cases_.push_back(std::move(whole));
    }
  }

  static void add_copies(Problem& problem) {
    const Linear first = problem.linears.front();
    for (int64_t bytes = first.resident_bytes(); bytes < kColdBytes;
         bytes += first.resident_bytes()) {
      problem.linears.emplace_back(first.name(), first.out_features(), first.in_features(),
                                   copied(*first.state()));
    }
  }

  Tensor input(DType dtype) {
    Tensor& x = dtype == DType::kF32 ? x_f32_ : x_bf16_;
    if (x.empty()) x = random_tensor(dtype, {shape_.m, shape_.k});
    return x;
  }
  Tensor output(DType dtype) {
    Tensor& y = dtype == DType::kF32 ? y_f32_ : y_bf16_;
    if (y.empty()) y = Tensor::allocate(dtype, {shape_.m, shape_.n});
    return y;
  }

  const LinearShape& shape_;
  const CaseOptions& options_;
  std::vector<std::shared_ptr<const ExecContext>> contexts_;
  Tensor x_f32_, x_bf16_, y_f32_, y_bf16_;
  std::vector<Case> cases_;
};

}  // namespace

std::vector<Case> linear_cases(const LinearShape& shape, const CaseOptions& options) {
  return ShapeCases(shape, options).make();
}

}  // namespace mezzotint::bench
