#include "collect/input_observer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <span>

#include <fmt/format.h>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "mezzotint/error.h"
#include "numerics/bf16.h"
#include "numerics/float_type.h"
#include "solve/gram.h"

namespace mezzotint {
namespace {

constexpr int64_t kPanel = 1024;       // rows that are widened at once
constexpr int64_t kColumnGrain = 256;  // columns per task
constexpr int64_t kRowGrain = 64;      // rows per task
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor copy_of(const Tensor& t) {
  Tensor copy = Tensor::allocate(t.dtype(), t.shape());
  std::memcpy(copy.buffer().mutable_data(), t.raw(), static_cast<size_t>(t.byte_size()));
  return copy;
}

Tensor zeros(DType dtype, Shape shape) {
  Tensor t = Tensor::allocate(dtype, std::move(shape));
  std::memset(t.buffer().mutable_data(), 0, static_cast<size_t>(t.byte_size()));
  return t;
}

Tensor filled(int64_t count, float value) {
  Tensor t = Tensor::allocate(DType::kF32, {count});
  std::fill_n(t.mutable_data<float>(), count, value);
  return t;
}

FloatType float_type(DType dtype) {
  if (dtype == DType::kF32) return FloatType::kF32;
  return dtype == DType::kBF16 ? FloatType::kBF16 : FloatType::kF16;
}

// Rows [first, first + count) of x, widened.
std::vector<float> panel_of(const ConstMatrix& x, int64_t first, int64_t count,
                            const ExecContext& ctx) {
  std::vector<float> panel(static_cast<size_t>(count * x.cols));
  const FloatType type = float_type(x.dtype);
  parallel_for(ctx, count, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* out = panel.data() + row * x.cols;
      for (int64_t i = 0; i < x.cols; ++i) {
        out[i] = load_float(x.data, type, (first + row) * x.row_stride + i);
      }
    }
  });
  return panel;
}

size_t bin_of(float x) {
  return static_cast<size_t>(histogram_bin(x) + (std::signbit(x) ? kHistogramBins : 0));
}

}  // namespace

InputObserver::InputObserver(const InputStatistics& start, const ObserverOptions& options)
    : options_(options), stats_(start) {
  stats_.tokens = stats_.token_keys = stats_.token_steps = {};
  if (start.rows > 0) {
    for (Tensor* t :
         {&stats_.amax, &stats_.mean_abs, &stats_.min, &stats_.max, &stats_.hist, &stats_.gram}) {
      if (!t->empty()) *t = copy_of(*t);
    }
    restore_tokens(start);
  }
}

void InputObserver::restore_tokens(const InputStatistics& start) {
  if (start.tokens.empty()) return;
  token_values_.resize(static_cast<size_t>(start.tokens.size()));
  std::memcpy(token_values_.data(), start.tokens.raw(),
              static_cast<size_t>(start.tokens.byte_size()));
  for (int64_t i = 0; i < start.tokens.dim(0); ++i) {
    tokens_.push_back({.key = start.token_keys.data<int64_t>()[i],
                       .step = start.token_steps.data<int32_t>()[i],
                       .slot = i});
  }
  std::ranges::make_heap(tokens_, {}, &Token::key);
}

void InputObserver::see(const ConstMatrix& x, int step, const ExecContext& ctx) {
  MZ_CHECK(x.cols == stats_.k);
  if (stats_.amax.empty()) {
    stats_.amax = filled(stats_.k, 0);
    stats_.mean_abs = zeros(DType::kF64, {stats_.k});
    stats_.min = filled(options_.steps, kInfinity);
    stats_.max = filled(options_.steps, -kInfinity);
    if (options_.histogram) stats_.hist = zeros(DType::kI64, {options_.steps, 2, kHistogramBins});
    if (options_.gram) stats_.gram = zeros(DType::kF32, {stats_.k, stats_.k});
  }
  for (int64_t first = 0; first < x.rows; first += kPanel) {
    see_panel(panel_of(x, first, std::min(kPanel, x.rows - first), ctx), step, ctx);
  }
}

void InputObserver::see_panel(const std::vector<float>& x, int step, const ExecContext& ctx) {
  add_channels(x, step, ctx);
  add_range(x, step, ctx);
  if (!stats_.gram.empty()) add_gram(x, stats_.gram, ctx);
  add_tokens(x, step);
  stats_.rows += static_cast<int64_t>(x.size()) / stats_.k;
}

// A column's values are taken in the order of the rows.
void InputObserver::add_channels(const std::vector<float>& x, int step, const ExecContext& ctx) {
  const int64_t k = stats_.k;
  const int64_t rows = static_cast<int64_t>(x.size()) / k;
  auto* amax = stats_.amax.mutable_data<float>();
  auto* mean = stats_.mean_abs.mutable_data<double>();
  const auto before = static_cast<double>(stats_.rows);
  const auto after = static_cast<double>(stats_.rows + rows);
  parallel_for(ctx, k, kColumnGrain, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(end - begin), 0.0);
    for (int64_t row = 0; row < rows; ++row) {
      const float* values = x.data() + row * k;
      for (int64_t i = begin; i < end; ++i) {
        const float magnitude = std::abs(values[i]);
        sums[static_cast<size_t>(i - begin)] += double{magnitude};
        amax[i] = std::max(amax[i], magnitude);
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      const double sum = sums[static_cast<size_t>(i - begin)];
      if (!std::isfinite(sum)) {
        throw Error(ErrorCode::kInput, "the input of a linear is not finite",
                    {.layer = stats_.name,
                     .expected = "finite activations",
                     .found = fmt::format("inf or nan in channel {} at step {}", i, step),
                     .fix = "the float model, its dtype or the embeddings are broken"});
      }
      mean[i] = (mean[i] * before + sum) / after;
    }
  });
}

void InputObserver::add_range(const std::vector<float>& x, int step, const ExecContext& ctx) {
  const int64_t rows = static_cast<int64_t>(x.size()) / stats_.k;
  float& low = stats_.min.mutable_data<float>()[step];
  float& high = stats_.max.mutable_data<float>()[step];
  int64_t* hist = nullptr;
  if (!stats_.hist.empty()) {
    hist = stats_.hist.mutable_data<int64_t>() + int64_t{step} * 2 * kHistogramBins;
  }
  std::mutex mutex;
  parallel_for(ctx, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    const std::span<const float> part(x.data() + begin * stats_.k,
                                      static_cast<size_t>((end - begin) * stats_.k));
    const auto [least, most] = std::ranges::minmax(part);
    std::vector<int64_t> counts(hist == nullptr ? 0 : 2 * kHistogramBins, 0);
    if (hist != nullptr) {
      for (const float v : part) ++counts[bin_of(v)];
    }
    const std::lock_guard lock(mutex);
    low = std::min(low, least);
    high = std::max(high, most);
    for (size_t i = 0; i < counts.size(); ++i) hist[i] += counts[i];
  });
}

void InputObserver::add_tokens(const std::vector<float>& x, int step) {
  if (options_.tokens == 0) return;
  const int64_t k = stats_.k;
  const int64_t rows = static_cast<int64_t>(x.size()) / k;
  for (int64_t row = 0; row < rows; ++row) {
    Token token = {.key = token_key(stats_.name, stats_.rows + row), .step = step, .slot = 0};
    if (static_cast<int64_t>(tokens_.size()) < options_.tokens) {
      token.slot = static_cast<int64_t>(tokens_.size());
      token_values_.resize(token_values_.size() + static_cast<size_t>(k));
    } else if (token.key < tokens_.front().key) {
      std::ranges::pop_heap(tokens_, {}, &Token::key);
      token.slot = tokens_.back().slot;
      tokens_.pop_back();
    } else {
      continue;
    }
    std::transform(x.data() + row * k, x.data() + (row + 1) * k,
                   token_values_.data() + token.slot * k,
                   [](float v) { return bf16_from_float(v); });
    tokens_.push_back(token);
    std::ranges::push_heap(tokens_, {}, &Token::key);
  }
}

InputStatistics InputObserver::statistics() const {
  InputStatistics out = stats_;
  if (!out.gram.empty()) mirror_gram(out.gram);
  const auto count = static_cast<int64_t>(tokens_.size());
  if (count == 0) return out;
  std::vector<Token> sorted = tokens_;
  std::ranges::sort(sorted, {}, &Token::key);
  out.tokens = Tensor::allocate(DType::kBF16, {count, out.k});
  out.token_keys = Tensor::allocate(DType::kI64, {count});
  out.token_steps = Tensor::allocate(DType::kI32, {count});
  const auto bytes = static_cast<size_t>(out.k) * sizeof(uint16_t);
  for (int64_t i = 0; i < count; ++i) {
    const Token& token = sorted[static_cast<size_t>(i)];
    std::memcpy(out.tokens.buffer().mutable_data() + static_cast<size_t>(i) * bytes,
                token_values_.data() + token.slot * out.k, bytes);
    out.token_keys.mutable_data<int64_t>()[i] = token.key;
    out.token_steps.mutable_data<int32_t>()[i] = token.step;
  }
  return out;
}

}  // namespace mezzotint
