#include "cli/attention_costs.h"

#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "cli/call_seconds.h"
#include "mezzotint/attention.h"
#include "nn/attention_state.h"
#include "nn/heads_view.h"
#include "solve/hadamard.h"

namespace mezzotint::cli {
namespace {

LayerCost cost_of_one(AttentionWay way, const AttentionCallShape& shape, const ExecContext& ctx) {
  Attention attention("attention", {.heads = shape.heads, .head_dim = shape.dim});
  if (way == AttentionWay::kFp8) {
    const Tensor rotation = make_rotation(shape.dim, kRotationSeed);
    attention.set_state(make_fp8_attention_state(rotation, rotation, 1.0f, active_isa()));
  }
  const auto tokens = [&](int64_t count) { return plain_bf16({1, count, shape.heads, shape.dim}); };
  const Tensor q = tokens(shape.q), k = tokens(shape.kv), v = tokens(shape.kv);
  const Tensor out = tokens(shape.q);
  const AttentionCall call = {.scale = 1.0f / std::sqrt(static_cast<float>(shape.dim))};
  const double seconds = median_call_seconds([&] {
    attention.run(heads_view(q), heads_view(k), heads_view(v), heads_view(out), call, ctx);
  });
  return {.seconds = seconds, .bytes = attention.resident_bytes()};
}

constexpr int64_t kLeastToDivide = 64;  // queries: fewer tell nothing of one more
constexpr int64_t kMostKeys = 16384;

// Keys and values are quantized once, however many queries there are: a measurement of few queries
// says what one more costs. That is no more than in proportion, and what is once never was half.
LayerCost cost_of_queries(AttentionWay way, const AttentionCallShape& shape, int64_t rows_at_most,
                          const ExecContext& ctx) {
  AttentionCallShape most = shape;
  most.q = std::min(shape.q, rows_at_most);
  LayerCost cost = cost_of_one(way, most, ctx);
  if (most.q == shape.q) return cost;
  const double in_proportion = cost.seconds / static_cast<double>(most.q);
  double of_one = in_proportion;
  if (most.q >= kLeastToDivide) {
    AttentionCallShape few = most;
    few.q = most.q / 8;
    const double more = cost.seconds - cost_of_one(way, few, ctx).seconds;
    of_one =
        std::clamp(more / static_cast<double>(most.q - few.q), in_proportion / 2, in_proportion);
  }
  cost.seconds += of_one * static_cast<double>(shape.q - most.q);
  return cost;
}

// More keys take as much more time.
LayerCost cost_of_keys(AttentionWay way, const AttentionCallShape& shape, int64_t rows_at_most,
                       const ExecContext& ctx) {
  AttentionCallShape cut = shape;
  cut.kv = std::min(shape.kv, kMostKeys);
  LayerCost cost = cost_of_queries(way, cut, rows_at_most, ctx);
  cost.seconds *= static_cast<double>(shape.kv) / static_cast<double>(cut.kv);
  return cost;
}

}  // namespace

LayerCost attention_cost(AttentionWay way, const std::vector<AttentionCallShape>& calls,
                         int64_t rows_at_most, const ExecContext& ctx) {
  LayerCost sum;
  for (const AttentionCallShape& shape : distinct(calls)) {
    const LayerCost one = cost_of_keys(way, shape, rows_at_most, ctx);
    sum += {.seconds = one.seconds * static_cast<double>(shape.calls),
            .bytes = one.bytes * shape.calls};
  }
  return sum;
}

}  // namespace mezzotint::cli
