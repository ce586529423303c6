#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "format/statistics.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

[[noreturn]] void differ(std::string_view what, std::string expected, std::string found) {
  throw Error(ErrorCode::kUsage, fmt::format("statistics of other {} do not merge", what),
              {.expected = std::move(expected), .found = std::move(found)});
}

void require_same(std::string_view what, const std::string& a, const std::string& b) {
  if (a != b) differ(what, a, b);
}

// Sigmas of one schedule may differ in their last bits: our sampler computes them in double, that
// of diffusers in float.
bool same_schedule(const Statistics& a, const Statistics& b) {
  constexpr float kTolerance = 1e-5f;  // neighbours of 1000 steps are 1e-3 apart
  return a.steps == b.steps && std::ranges::equal(a.sigmas, b.sigmas, [](float x, float y) {
           return std::abs(x - y) <= kTolerance * std::max(1.0f, std::abs(x));
         });
}

// Members are a set: one tool knows them from the model, another in the order they read.
std::string kinds_of(const InputStatistics& in) {
  std::vector<std::string> members = in.members;
  std::ranges::sort(members);
  return fmt::format("{}: {}, K = {}, members {}{}{}{}", in.name, "ranges", in.k,
                     fmt::join(members, " "), in.hist.empty() ? "" : ", hist",
                     in.tokens.empty() ? "" : ", tokens", in.gram.empty() ? "" : ", gram");
}

template <typename T, typename Fn>
Tensor combined(const Tensor& a, const Tensor& b, const Fn& fn) {
  if (a.empty()) return {};
  Tensor out = Tensor::allocate(a.dtype(), a.shape());
  std::transform(a.data<T>(), a.data<T>() + a.size(), b.data<T>(), out.mutable_data<T>(), fn);
  return out;
}

// The rows of a and b with the smallest keys; of equal keys a's first.
void merge_tokens(const InputStatistics& a, const InputStatistics& b, int64_t limit,
                  InputStatistics& out) {
  if (a.tokens.empty()) return;
  struct Row {
    const InputStatistics* from;
    int64_t at;
    int64_t key() const { return from->token_keys.data<int64_t>()[at]; }
  };
  std::vector<Row> rows;
  for (const InputStatistics* from : {&a, &b}) {
    for (int64_t i = 0; i < from->tokens.dim(0); ++i) rows.push_back({from, i});
  }
  std::ranges::sort(rows, [&](const Row& x, const Row& y) {
    if (x.key() != y.key()) return x.key() < y.key();
    return x.from == y.from ? x.at < y.at : x.from == &a;
  });
  const int64_t count = std::min(limit, static_cast<int64_t>(rows.size()));
  out.tokens = Tensor::allocate(DType::kBF16, {count, a.k});
  out.token_keys = Tensor::allocate(DType::kI64, {count});
  out.token_steps = Tensor::allocate(DType::kI32, {count});
  const auto bytes = static_cast<size_t>(2 * a.k);
  for (int64_t i = 0; i < count; ++i) {
    const Row& row = rows[static_cast<size_t>(i)];
    const auto at = static_cast<size_t>(row.at) * bytes;
    std::memcpy(out.tokens.buffer().mutable_data() + static_cast<size_t>(i) * bytes,
                row.from->tokens.raw() + at, bytes);
    out.token_keys.mutable_data<int64_t>()[i] = row.key();
    out.token_steps.mutable_data<int32_t>()[i] = row.from->token_steps.data<int32_t>()[row.at];
  }
}

InputStatistics merge_inputs(const InputStatistics& a, const InputStatistics& b, int64_t limit) {
  require_same("inputs", kinds_of(a), kinds_of(b));
  InputStatistics out = a;
  out.rows = a.rows + b.rows;
  const auto larger = [](float x, float y) { return std::max(x, y); };
  out.amax = combined<float>(a.amax, b.amax, larger);
  out.max = combined<float>(a.max, b.max, larger);
  out.min = combined<float>(a.min, b.min, [](float x, float y) { return std::min(x, y); });
  const auto rows_a = static_cast<double>(a.rows), rows_b = static_cast<double>(b.rows);
  out.mean_abs = combined<double>(a.mean_abs, b.mean_abs, [&](double x, double y) {
    return (x * rows_a + y * rows_b) / (rows_a + rows_b);
  });
  out.hist = combined<int64_t>(a.hist, b.hist, [](int64_t x, int64_t y) { return x + y; });
  out.gram = combined<float>(a.gram, b.gram, [](float x, float y) { return x + y; });
  merge_tokens(a, b, limit, out);
  return out;
}

std::vector<AttentionStatistics> merge_attentions(const Statistics& a, const Statistics& b) {
  std::vector<AttentionStatistics> merged = a.attentions;
  for (const AttentionStatistics& other : b.attentions) {
    const auto same = std::ranges::find(merged, other.name, &AttentionStatistics::name);
    if (same == merged.end()) {
      merged.push_back(other);
      continue;
    }
    require_same("attentions", fmt::format("{} {}", same->algorithm, same->head_dim),
                 fmt::format("{} {}", other.algorithm, other.head_dim));
    same->noise = combined<double>(same->noise, other.noise, std::plus());
    same->signal = combined<double>(same->signal, other.signal, std::plus());
  }
  std::ranges::sort(merged, {}, &AttentionStatistics::name);
  return merged;
}

}  // namespace

Statistics merge_statistics(const Statistics& a, const Statistics& b) {
  if (!a.facts.empty() || !b.facts.empty()) {
    throw Error(ErrorCode::kUsage, "statistics of an unfinished collection do not merge",
                {.fix = "mezzotint collect --resume ends it"});
  }
  if (!a.run.empty() && a.run == b.run) {
    throw Error(ErrorCode::kUsage, "the same statistics would count twice",
                {.expected = "files of different runs",
                 .found = fmt::format("run {} in both", a.run),
                 .fix = "name each file once; another --seed collects from other noise"});
  }
  require_same("models", a.model, b.model);
  if (!same_schedule(a, b)) {
    differ("steps", fmt::format("{} {}", a.steps, fmt::join(a.sigmas, ",")),
           fmt::format("{} {}", b.steps, fmt::join(b.sigmas, ",")));
  }
  require_same("numbers of inputs", std::to_string(a.inputs.size()),
               std::to_string(b.inputs.size()));
  Statistics out = a;
  out.token_limit = std::max(a.token_limit, b.token_limit);
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    out.inputs[i] = merge_inputs(a.inputs[i], b.inputs[i], out.token_limit);
  }
  out.attentions = merge_attentions(a, b);
  return out;
}

}  // namespace mezzotint
