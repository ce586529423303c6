#include "cli/layer_costs.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "cli/call_seconds.h"
#include "nn/random_linear.h"

namespace mezzotint::cli {
namespace {

// Of the algorithms that are computed alike, from the same bytes.
std::string way_of(const std::string& algorithm) {
  if (is_float_label(algorithm)) return "float";
  const AlgorithmRow& row = served_algorithm(algorithm);
  return fmt::format("{} group {} rank {}", row.contract->name, row.parameters.group,
                     row.parameters.low_rank);
}

double median_seconds(const Linear& linear, int64_t m, const ExecContext& ctx) {
  const int64_t n = linear.out_features(), k = linear.in_features();
  const Tensor x = plain_bf16({m, k});
  const Tensor y = Tensor::allocate(DType::kBF16, {m, n});
  const ConstMatrix x_view = {x.raw(), DType::kBF16, m, k, k};
  const Matrix y_view = {y.buffer().mutable_data(), DType::kBF16, m, n, n};
  return median_call_seconds([&] { linear.run(x_view, y_view, ctx); });
}

}  // namespace

LayerCost& LayerCost::operator+=(const LayerCost& other) {
  seconds += other.seconds;
  bytes += other.bytes;
  return *this;
}

LayerCosts::LayerCosts(int64_t rows_at_most, const ExecContext& ctx)
    : rows_at_most_(rows_at_most), ctx_(ctx) {}

LayerCost LayerCosts::of(const std::string& algorithm, const LayerWork& work) {
  const int64_t m = std::min(work.m, rows_at_most_);
  const Key key = {way_of(algorithm), m, work.n, work.k, work.bias};
  auto found = measured_.find(key);
  if (found == measured_.end()) {
    LayerWork one = work;
    one.m = m;
    found = measured_.emplace(key, measure(algorithm, one)).first;
  }
  const double rows = static_cast<double>(work.m) / static_cast<double>(m);
  return {.seconds = found->second.seconds * rows * static_cast<double>(work.layers),
          .bytes = found->second.bytes * work.layers};
}

LayerCost LayerCosts::measure(const std::string& algorithm, const LayerWork& work) const {
  const Linear linear = random_linear(
      {.algorithm = algorithm, .n = work.n, .k = work.k, .bias = work.bias}, active_isa());
  return {.seconds = median_seconds(linear, work.m, ctx_), .bytes = linear.resident_bytes()};
}

}  // namespace mezzotint::cli
