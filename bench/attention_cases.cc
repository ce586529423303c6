#include "bench/attention_cases.h"

#include <cmath>
#include <memory>
#include <utility>

#include "bench/random_tensor.h"
#include "kernels/attention_op.h"
#include "nn/attention_state.h"
#include "nn/heads_view.h"
#include "solve/hadamard.h"

namespace mezzotint::bench {
namespace {

struct Problem {
  Attention attention;
  AttentionCall call;
  Tensor q, k, v, out;  // [1, tokens, heads, dim]

  void run(const ExecContext& ctx) const {
    attention.run(heads_view(q), heads_view(k), heads_view(v), heads_view(out), call, ctx);
  }
};

std::shared_ptr<Problem> make_problem(const Path& path, const AttentionCallShape& shape, Isa isa) {
  const auto tokens = [&](int64_t count) { return Shape{1, count, shape.heads, shape.dim}; };
  auto problem = std::make_shared<Problem>(
      Problem{.attention = Attention("attention", {.heads = shape.heads, .head_dim = shape.dim}),
              .call = {.scale = 1.0f / std::sqrt(static_cast<float>(shape.dim))},
              .q = random_tensor(path.io, tokens(shape.q), 1),
              .k = random_tensor(path.io, tokens(shape.kv), 2),
              .v = random_tensor(path.io, tokens(shape.kv), 3),
              .out = Tensor::allocate(path.io, tokens(shape.q))});
  if (path.algorithm == "FP8_DYNAMIC") {
    const Tensor rotation = make_rotation(shape.dim, kRotationSeed);
    problem->attention.set_state(make_fp8_attention_state(rotation, rotation, 1.0f, isa));
  }
  return problem;
}

std::string kernel_of(const Path& path, Isa isa) {
  const AttentionForm form =
      path.algorithm == "FP8_DYNAMIC" ? AttentionForm::kFp8 : AttentionForm::kFloat;
  const FloatType type = path.io == DType::kBF16 ? FloatType::kBF16 : FloatType::kF32;
  return std::string(choose_attention_kernel(form, type, isa).name);
}

}  // namespace

std::vector<Case> attention_cases(const AttentionCallShape& shape, const CaseOptions& options) {
  std::vector<Case> cases;
  const Isa isa = active_isa();
  for (const Path& path : paths()) {
    if (!options.wants(path, Op::kAttention)) continue;
    const std::shared_ptr<Problem> problem = make_problem(path, shape, isa);
    for (const int threads : options.threads) {
      const ExecContext ctx({.threads = threads});
      const auto products = static_cast<double>(shape.q * shape.kv * shape.heads * shape.dim);
      cases.push_back({.set = shape.name,
                       .path = std::string(path.name),
                       .kernel = kernel_of(path, isa),
                       .m = shape.q,
                       .n = shape.kv,
                       .k = shape.heads * shape.dim,
                       .threads = threads,
                       .isa = isa,
                       .peak = path.peak,
                       .operations = 4 * products,  // q k and p v, a product and a sum each
                       .call = [problem, ctx] { problem->run(ctx); }});
    }
  }
  return cases;
}

}  // namespace mezzotint::bench
