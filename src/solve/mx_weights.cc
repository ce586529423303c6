#include "solve/mx_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/parallel_for.h"
#include "kernels/ops.h"
#include "numerics/dual_level.h"
#include "numerics/mx.h"
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

float amax_of(std::span<const float> values) {
  float amax = 0;
  for (const float v : values) amax = std::max(amax, absolute(v));
  return amax;
}

// Codes under this scale, and the sum of the squares of what they miss, in the order of k.
double encode_block(std::span<const float> w, uint8_t byte, Element element, uint8_t* codes) {
  double error = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    codes[i] = mx_code(w[i], byte, element, Rounding::kHalfEven);
    const double miss = static_cast<double>(mx_value(codes[i], byte, element)) - w[i];
    error += miss * miss;
  }
  return error;
}

// A block of zeros, negative ones included, has byte 0 and codes 0.
uint8_t best_block(std::span<const float> w, Element element, uint8_t* codes) {
  const float amax = amax_of(w);
  if (amax == 0) {
    std::fill_n(codes, w.size(), uint8_t{0});
    return 0;
  }
  const uint8_t floor_byte = mx_scale_byte(amax, element, MxScaleRule::kFloor, 0);
  uint8_t best = floor_byte;
  double least = encode_block(w, floor_byte, element, codes);
  for (const int candidate : {floor_byte - 1, floor_byte + 1}) {
    const auto byte = static_cast<uint8_t>(std::clamp(candidate, 0, int{kE8M0Max}));
    std::array<uint8_t, kMxBlock> tried{};
    const double error = encode_block(w, byte, element, tried.data());
    if (!(error < least)) continue;
    least = error;
    best = byte;
    std::copy_n(tried.begin(), w.size(), codes);
  }
  return best;
}

void encode_part(std::span<const float> w, Element element, int64_t first, const RowOut& out) {
  for (size_t i = 0; i < w.size(); i += kMxBlock) {
    const int64_t k = first + static_cast<int64_t>(i);
    out.block_scale[k / kMxBlock] =
        best_block(w.subspan(i, std::min<size_t>(kMxBlock, w.size() - i)), element, out.codes + k);
  }
}

void encode_zeros(size_t count, int64_t first, const RowOut& out) {
  std::fill_n(out.codes + first, count, uint8_t{0});
  std::fill_n(out.block_scale + first / kMxBlock, mx_blocks(static_cast<int64_t>(count)),
              kUnitByte);
}

void encode_dual(std::span<const float> w, Element element, const RowOut& out) {
  std::array<float, kDualBlock> inner{};
  for (size_t first = 0; first < w.size(); first += kDualBlock) {
    const auto part = w.subspan(first, std::min<size_t>(kDualBlock, w.size() - first));
    const float scale = dual_scale(amax_of(part));
    const auto k = static_cast<int64_t>(first);
    out.dual_scale[k / kDualBlock] = scale;
    if (scale == 0) {
      encode_zeros(part.size(), k, out);
      continue;
    }
    std::ranges::transform(part, inner.begin(), [&](float v) { return dual_inner(v, scale); });
    encode_part(std::span<const float>(inner).first(part.size()), element, k, out);
  }
}

void pack_row(Element element, std::span<const uint8_t> codes, std::byte* row) {
  if (element == Element::kE4M3) {
    std::memcpy(row, codes.data(), codes.size());
    return;
  }
  for (size_t k = 0; k < codes.size(); k += 2) {
    const unsigned high = k + 1 < codes.size() ? codes[k + 1] : 0u;
    row[k / 2] = static_cast<std::byte>(codes[k] | high << 4);
  }
}

MxWeight allocate(const Tensor& w, Element element, MxLevels levels) {
  const int64_t n = w.dim(0);
  const int64_t k = w.dim(1);
  MxWeight out;
  out.codes = Tensor::allocate(element == Element::kE4M3 ? DType::kF8E4M3 : DType::kU8,
                               {n, code_row_bytes(element, k)});
  out.block_scale = Tensor::allocate(DType::kU8, {n, mx_blocks(k)});
  if (levels == MxLevels::kDual) {
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
  float* dual = levels == MxLevels::kDual ? out.dual_scale.mutable_data<float>() : nullptr;
  parallel_for(ctx, w.dim(0), kRowGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> row(static_cast<size_t>(k));
    std::vector<uint8_t> row_codes(static_cast<size_t>(k));
    for (int64_t n = begin; n < end; ++n) {
      widen_range(w, n * k, row);
      const RowOut to = {.codes = row_codes.data(),
                         .block_scale = block_scale + n * mx_blocks(k),
                         .dual_scale = dual == nullptr ? nullptr : dual + n * dual_blocks(k)};
      if (dual == nullptr) {
        encode_part(row, element, 0, to);
      } else {
        encode_dual(row, element, to);
      }
      pack_row(element, row_codes, codes + n * code_row_bytes(element, k));
    }
  });
  return out;
}

}  // namespace mezzotint
