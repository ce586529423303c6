#include "solve/mx_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
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

// The nearest e2m1 magnitude of t is that of floor(4 t): all boundaries are multiples of a quarter.
// On a boundary both neighbours are as far.
constexpr int kQuarters = 24;
constexpr std::array<float, kQuarters + 1> kE2M1Nearest = [] {
  std::array<float, kQuarters + 1> nearest{};
  for (int i = 0; i <= kQuarters; ++i) {
    const float inside = (static_cast<float>(i) + 0.5f) / 4;
    nearest[static_cast<size_t>(i)] = e2m1_to_float(e2m1_from_float(inside, Rounding::kHalfEven));
  }
  return nearest;
}();

// The sum of the squares of what codes under this scale miss, in the order of k.
double block_error(std::span<const float> w, uint8_t byte, Element element) {
  double error = 0;
  const float scale = e8m0_to_float(byte);
  if (element == Element::kE2M1) {
    const float reciprocal = e8m0_to_float(static_cast<uint8_t>(2 * kE8M0Bias - byte));
    for (const float v : w) {
      const float quarters = std::min(absolute(v) * reciprocal * 4, float{kQuarters});
      const float nearest = kE2M1Nearest[static_cast<size_t>(static_cast<int>(quarters))] * scale;
      const double miss = double{nearest} - double{absolute(v)};
      error += miss * miss;
    }
    return error;
  }
  for (const float v : w) {
    const uint8_t code = mx_code(v, byte, element, Rounding::kHalfEven);
    const double miss = static_cast<double>(mx_value(code, byte, element)) - v;
    error += miss * miss;
  }
  return error;
}

struct BestByte {
  uint8_t byte = 0;
  double error = 0;
};

// Of a block that is not all zeros.
BestByte best_byte(std::span<const float> w, float amax, Element element) {
  const uint8_t floor_byte = mx_scale_byte(amax, element, MxScaleRule::kFloor, 0);
  BestByte best = {.byte = floor_byte, .error = block_error(w, floor_byte, element)};
  for (const int candidate : {floor_byte - 1, floor_byte + 1}) {
    const auto byte = static_cast<uint8_t>(std::clamp(candidate, 0, int{kE8M0Max}));
    const double error = block_error(w, byte, element);
    if (error < best.error) best = {.byte = byte, .error = error};
  }
  return best;
}

// A block of zeros, negative ones included, has byte 0 and codes 0.
uint8_t best_block(std::span<const float> w, Element element, uint8_t* codes) {
  const float amax = amax_of(w);
  if (amax == 0) {
    std::fill_n(codes, w.size(), uint8_t{0});
    return 0;
  }
  const uint8_t byte = best_byte(w, amax, element).byte;
  for (size_t i = 0; i < w.size(); ++i)
    codes[i] = mx_code(w[i], byte, element, Rounding::kHalfEven);
  return byte;
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

// Part of a row over the scale of its 512 columns.
std::span<const float> inner_values(std::span<const float> part, float scale,
                                    std::array<float, kDualBlock>& inner) {
  std::ranges::transform(part, inner.begin(), [&](float v) { return dual_inner(v, scale); });
  return std::span<const float>(inner).first(part.size());
}

// Of 16 scales from the largest value's on, a sixteenth of an octave apart: the octave above ends
// where block exponents begin to repeat.
float searched_scale(std::span<const float> part, float scale, Element element) {
  constexpr int kSteps = 16;
  std::array<float, kDualBlock> inner{};
  float best = scale;
  double least = -1;
  for (int step = 0; step < kSteps; ++step) {
    const float tried = scale * std::exp2(static_cast<float>(step) / kSteps);
    const std::span<const float> values = inner_values(part, tried, inner);
    double error = 0;
    for (size_t i = 0; i < values.size(); i += kMxBlock) {
      const auto block = values.subspan(i, std::min<size_t>(kMxBlock, values.size() - i));
      const float amax = amax_of(block);
      if (amax > 0) error += best_byte(block, amax, element).error;
    }
    error *= double{tried} * tried;
    if (least >= 0 && !(error < least)) continue;
    least = error;
    best = tried;
  }
  return best;
}

void encode_dual(std::span<const float> w, Element element, MxLevels levels, const RowOut& out) {
  std::array<float, kDualBlock> inner{};
  for (size_t first = 0; first < w.size(); first += kDualBlock) {
    const auto part = w.subspan(first, std::min<size_t>(kDualBlock, w.size() - first));
    float scale = dual_scale(amax_of(part));
    const auto k = static_cast<int64_t>(first);
    if (scale != 0 && levels == MxLevels::kSearchedDual) {
      scale = searched_scale(part, scale, element);
    }
    out.dual_scale[k / kDualBlock] = scale;
    if (scale == 0) {
      encode_zeros(part.size(), k, out);
      continue;
    }
    encode_part(inner_values(part, scale, inner), element, k, out);
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
        encode_dual(row, element, levels, to);
      }
      pack_row(element, row_codes, codes + n * code_row_bytes(element, k));
    }
  });
  return out;
}

}  // namespace mezzotint
