#include <cblas.h>

#include <algorithm>
#include <climits>

#include "kernels/blas/rows.h"
#include "kernels/float_ops.h"
#include "kernels/weight_decode.h"
#include "numerics/dual_level.h"
#include "numerics/float_type.h"
#include "numerics/mx.h"

namespace mezzotint::blas {
namespace {

// k of one conversion: [256][1024] floats are 1 MiB, whole blocks of 512. Longer sums continue in y
// (beta = 1).
constexpr int64_t kBlockK = 1024;
constexpr int64_t kFloatBytes = sizeof(float);

// A row-major f32 matrix that sgemm reads.
struct Panel {
  const float* data;
  int64_t stride;
};

// Where a tile's f32 copies go.
struct TileScratch {
  float* x;
  float* w;
  float* y;
};

TileScratch split_scratch(const LinearTile& tile) {
  auto* x = reinterpret_cast<float*>(tile.scratch);
  float* w = x + kTileM * kBlockK;
  return {x, w, w + kTileN * kBlockK};
}

// Row m of the codes of x as floats: MX with their scales, integers without.
void widen_codes(const LinearTile& tile, const FloatOps& ops, int64_t m, int64_t k, int64_t depth,
                 float* out) {
  const int8_t* codes = tile.xq + m * tile.xq_stride + k;
  if (tile.x_block_scale == nullptr) {
    ops.widen_int8(codes, out, depth);
    return;
  }
  const float* dual = tile.x_dual_scale == nullptr
                          ? nullptr
                          : tile.x_dual_scale + m * dual_blocks(tile.k) + k / kDualBlock;
  decode_mx_bytes(reinterpret_cast<const uint8_t*>(codes), tile.x_element,
                  tile.x_block_scale + m * mx_blocks(tile.k) + k / kMxBlock, dual, depth, out);
}

// Rows [begin, end) and columns [k, k + depth) of x as floats: in place when they are floats.
Panel widen_x(const LinearTile& tile, const FloatOps& ops, int64_t k, int64_t depth, float* out) {
  if (tile.xq != nullptr) {
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      widen_codes(tile, ops, m, k, depth, out + (m - tile.m_begin) * depth);
    }
    return {out, depth};
  }
  if (tile.x_type == FloatType::kF32 && tile.x_stride >= tile.k) {
    return {static_cast<const float*>(tile.x) + tile.m_begin * tile.x_stride + k, tile.x_stride};
  }
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    ops.widen(offset_floats(tile.x, tile.x_type, m * tile.x_stride + k), tile.x_type,
              out + (m - tile.m_begin) * depth, depth);
  }
  return {out, depth};
}

bool is_float(Element element) {
  return element == Element::kF32 || element == Element::kBF16 || element == Element::kF16;
}

// Codes as floats, with their scales unless one scale per row can stand behind the sum.
Panel decode_w(const LinearTile& tile, const FloatOps& ops, int64_t k, int64_t depth, float* out) {
  WeightView w = weight_view(tile);
  if (is_plain_channel(tile)) w.scale = nullptr;
  for (int64_t n = tile.n_begin; n < tile.n_end; ++n) {
    float* row = out + (n - tile.n_begin) * depth;
    if (w.element == Element::kInt8 && w.scale == nullptr) {
      ops.widen_int8(reinterpret_cast<const int8_t*>(w.codes) + n * tile.k + k, row, depth);
    } else {
      decode_weights(w, n, k, k + depth, row);
    }
  }
  return {out, depth};
}

Panel widen_w(const LinearTile& tile, const FloatOps& ops, int64_t k, int64_t depth, float* out) {
  if (!is_float(tile.w_element)) return decode_w(tile, ops, k, depth, out);
  if (tile.w_element == Element::kF32) {
    return {reinterpret_cast<const float*>(tile.w) + tile.n_begin * tile.k + k, tile.k};
  }
  const FloatType type = tile.w_element == Element::kBF16 ? FloatType::kBF16 : FloatType::kF16;
  for (int64_t n = tile.n_begin; n < tile.n_end; ++n) {
    ops.widen(offset_floats(tile.w, type, n * tile.k + k), type, out + (n - tile.n_begin) * depth,
              depth);
  }
  return {out, depth};
}

// y = x w^T, or y += x w^T when `beta` is 1.
void multiply(const LinearTile& tile, Panel x, Panel w, int64_t depth, float beta, float* y,
              int64_t y_stride) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(tile.m_end - tile.m_begin),
              static_cast<int>(tile.n_end - tile.n_begin), static_cast<int>(depth), 1.0f, x.data,
              static_cast<int>(x.stride), w.data, static_cast<int>(w.stride), beta, y,
              static_cast<int>(y_stride));
}

// y = sums * w_scale + bias + addend for row m of the tile.
void finish_row(const LinearTile& tile, const FloatOps& ops, int64_t m, const float* w_scale,
                float* sums) {
  const float* bias = tile.bias == nullptr ? nullptr : tile.bias + tile.n_begin;
  const int64_t columns = tile.n_end - tile.n_begin;
  void* y = offset_floats(tile.y, tile.y_type, m * tile.y_stride + tile.n_begin);
  if (tile.addend == nullptr) {
    ops.scale_bias(sums, w_scale, bias, y, tile.y_type, columns);
    return;
  }
  ops.scale_bias(sums, w_scale, bias, sums, FloatType::kF32, columns);
  const float* addend = tile.addend + m * tile.addend_stride + tile.n_begin;
  for (int64_t n = 0; n < columns; ++n) sums[n] += addend[n];
  if (y != sums) ops.narrow(sums, y, tile.y_type, columns);
}

void run_tile(const LinearTile& tile, const FloatOps& ops) {
  const TileScratch scratch = split_scratch(tile);
  const bool y_in_place = tile.y_type == FloatType::kF32;
  float* y = y_in_place ? static_cast<float*>(tile.y) + tile.m_begin * tile.y_stride + tile.n_begin
                        : scratch.y;
  const int64_t y_stride = y_in_place ? tile.y_stride : kTileN;
  const bool in_place = tile.xq == nullptr && tile.x_type == FloatType::kF32 &&
                        tile.w_element == Element::kF32 && tile.x_stride >= tile.k;
  const int64_t block = in_place ? tile.k : kBlockK;
  for (int64_t k = 0; k < tile.k; k += block) {
    const int64_t depth = std::min(block, tile.k - k);
    multiply(tile, widen_x(tile, ops, k, depth, scratch.x), widen_w(tile, ops, k, depth, scratch.w),
             depth, k == 0 ? 0.0f : 1.0f, y, y_stride);
  }
  const float* w_scale = is_plain_channel(tile) ? tile.w_scale + tile.n_begin : nullptr;
  if (y_in_place && w_scale == nullptr && tile.bias == nullptr && tile.x_scale == nullptr &&
      tile.addend == nullptr) {
    return;
  }
  for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
    float* row = y + (m - tile.m_begin) * y_stride;
    if (tile.x_scale != nullptr) ops.multiply(tile.x_scale[m], row, tile.n_end - tile.n_begin);
    finish_row(tile, ops, m, w_scale, row);
  }
}

}  // namespace

// Integer codes are exact as floats; one scale per row stands behind the sum over k.
template <Isa isa>
void linear(const LinearTile& tile) noexcept {
  run_tile(tile, float_ops(isa));
}

template void linear<Isa::kPortable>(const LinearTile&) noexcept;
template void linear<Isa::kAvx2>(const LinearTile&) noexcept;
template void linear<Isa::kAvx512>(const LinearTile&) noexcept;

int64_t linear_scratch_bytes(int64_t) {
  return ((kTileM + kTileN) * kBlockK + kTileM * kTileN) * kFloatBytes;
}

const char* declines_linear(const LinearQuery& query) noexcept {
  constexpr int64_t kMaxStride = INT_MAX;
  const bool fits = query.m <= kMaxStride && query.n <= kMaxStride && query.k <= kMaxStride;
  return fits ? nullptr : "this OpenBLAS has 32-bit sizes";
}

}  // namespace mezzotint::blas
