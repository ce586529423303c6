#include "solve/mx_weights.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "base/parallel_for.h"
#include "kernels/float_ops.h"
#include "kernels/ops.h"
#include "kernels/weight_ops.h"
#include "numerics/dual_level.h"
#include "numerics/mx.h"
#include "solve/code_rows.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr int64_t kRowGrain = 8;
constexpr uint8_t kUnitByte = kE8M0Bias;  // 2^0

// What one row of w becomes.
struct RowOut {
  uint8_t* codes;        // one per byte
  uint8_t* block_scale;  // [blocks]
  float* dual_scale;     // [blocks of 512], or null
};

void encode_zeros(int64_t count, int64_t first, const RowOut& out) {
  std::fill_n(out.codes + first, count, uint8_t{0});
  std::fill_n(out.block_scale + first / kMxBlock, mx_blocks(count), kUnitByte);
}

// Of 16 scales from the largest value's on, a sixteenth of an octave apart: the octave above ends
// where block exponents begin to repeat.
float searched_scale(std::span<const float> part, float scale, Element element,
                     const WeightOps& ops) {
  constexpr int kSteps = 16;
  float best = scale;
  double least = -1;
  for (int step = 0; step < kSteps; ++step) {
    const float tried = scale * std::exp2(static_cast<float>(step) / kSteps);
    const double inner =
        ops.mx_error(part.data(), element, tried, static_cast<int64_t>(part.size()));
    const double error = inner * double{tried} * tried;
    if (least >= 0 && !(error < least)) continue;
    least = error;
    best = tried;
  }
  return best;
}

void encode_dual(std::span<const float> w, Element element, MxLevels levels, const WeightOps& ops,
                 const RowOut& out) {
  const FloatOps& floats = float_ops(active_isa());
  for (size_t first = 0; first < w.size(); first += kDualBlock) {
    const auto part = w.subspan(first, std::min<size_t>(kDualBlock, w.size() - first));
    const auto count = static_cast<int64_t>(part.size());
    const auto k = static_cast<int64_t>(first);
    float scale = dual_scale(floats.amax(part.data(), count));
    if (scale != 0 && levels == MxLevels::kSearchedDual) {
      scale = searched_scale(part, scale, element, ops);
    }
    out.dual_scale[k / kDualBlock] = scale;
    if (scale == 0) {
      encode_zeros(count, k, out);
    } else {
      ops.mx_codes(part.data(), element, scale, out.codes + k, out.block_scale + k / kMxBlock,
                   count);
    }
  }
}

MxWeight allocate(const Tensor& w, Element element, MxLevels levels) {
  const int64_t n = w.dim(0);
  const int64_t k = w.dim(1);
  MxWeight out;
  out.codes = Tensor::allocate(code_dtype(element), {n, code_row_bytes(element, k)});
  out.block_scale = Tensor::allocate(DType::kU8, {n, mx_blocks(k)});
  if (levels != MxLevels::kOne) {
    out.dual_scale = Tensor::allocate(DType::kF32, {n, dual_blocks(k)});
  }
  return out;
}

}  // namespace

MxWeight quantize_mx_weight(const Tensor& w, Element element, MxLevels levels,
                            const ExecContext& ctx) {
  MZ_CHECK(w.shape().size() == 2);
  const int64_t k = w.dim(1);
  MxWeight out = allocate(w, element, levels);
  std::byte* codes = out.codes.buffer().mutable_data();
  auto* block_scale = out.block_scale.mutable_data<uint8_t>();
  float* dual = levels != MxLevels::kOne ? out.dual_scale.mutable_data<float>() : nullptr;
  const WeightOps& ops = weight_ops(active_isa());
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(k));
    std::vector<uint8_t> row_codes(static_cast<size_t>(k));
    for (int64_t n = begin; n < end; ++n) {
      widen_range(w, n * k, row);
      const RowOut to = {.codes = row_codes.data(),
                         .block_scale = block_scale + n * mx_blocks(k),
                         .dual_scale = dual == nullptr ? nullptr : dual + n * dual_blocks(k)};
      if (dual == nullptr) {
        ops.mx_codes(row.data(), element, 1.0f, to.codes, to.block_scale, k);
      } else {
        encode_dual(row, element, levels, ops, to);
      }
      store_code_row(element, row_codes.data(), k, codes + n * code_row_bytes(element, k));
    }
  });
  return out;
}

}  // namespace mezzotint
