// kInt8Vnni weights for processors without VNNI: codes widened to int16, vpmaddwd, int32 sums.
// (vpmaddubsw would need no widening, but saturates at 2 * 255 * 127.) A tile goes through k in
// blocks whose x and panel of weights stay in the first-level cache: rows of x are widened once per
// block into scratch, weights by vpmovzxbw where they are loaded, and sums wait in scratch.
//
// A step is 4 k of 4 outputs per register, against the 4 codes of x broadcast: lanes 2 j and 2 j +
// 1 of a sum belong to output j. A tile of 6 rows x 8 outputs: 12 sums, 2 registers of weights, 1
// of x, 1 of products.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/output.h"
#include "kernels/int8_rows.h"
#include "kernels/int8_vnni_layout.h"
#include "numerics/int8.h"

namespace mezzotint::avx2 {
namespace {

constexpr int kMaxRows = 6;
constexpr int kVectors = 2;
constexpr int64_t kColumns = 8;
constexpr int64_t kWidth = 16;  // codes of one widening
constexpr int64_t kInt16Bytes = 2;
constexpr int64_t kPanelStepBytes = kVnniPanel * kVnniStep;

constexpr int64_t kBlockK = 384;
constexpr int64_t kXStride = kBlockK + 32;  // rows of x in different sets of the cache
constexpr int64_t kLine = 64;

// Codes of x are padded with zeros to padded_k(k).
void widen_row(const int8_t* q, int64_t k, int16_t* out) {
  for (int64_t i = 0; i < k; i += kWidth) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i), _mm256_cvtepi8_epi16(codes));
  }
}

[[gnu::always_inline]] inline __m256i load_weights(const uint8_t* w) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
}

[[gnu::always_inline]] inline __m256i broadcast_step(const int16_t* x) {
  int64_t step;
  __builtin_memcpy(&step, x, sizeof step);
  return _mm256_set1_epi64x(step);
}

// Sums of 8 outputs out of their lanes; vphaddd leaves the outputs 0 1 | 4 5 | 2 3 | 6 7.
[[gnu::always_inline]] inline __m256i add_pairs(__m256i lower, __m256i upper) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(lower, upper), 0xd8);
}

// sums[i] += 8 outputs of x[i] times codes + 128.
template <int kRows>
[[gnu::noinline]] void int8_block_hot(const int16_t* x, const uint8_t* w, int64_t steps,
                                      int32_t* sums) noexcept {
  __m256i acc[kRows][kVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
  for (int64_t step = 0; step < steps; ++step) {
    const __m256i w0 = load_weights(w), w1 = load_weights(w + kWidth);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const __m256i codes = broadcast_step(x + i * kXStride);
      acc[i][0] = _mm256_add_epi32(acc[i][0], _mm256_madd_epi16(w0, codes));
      acc[i][1] = _mm256_add_epi32(acc[i][1], _mm256_madd_epi16(w1, codes));
      asm("" : "+x"(acc[i][0]), "+x"(acc[i][1]));  // else products are gathered, and sums spill
    }
    x += kVnniStep;
    w += kPanelStepBytes;
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    auto* sum = reinterpret_cast<__m256i*>(sums + i * kInt8TileN);
    _mm256_store_si256(sum,
                       _mm256_add_epi32(_mm256_load_si256(sum), add_pairs(acc[i][0], acc[i][1])));
  }
}

using BlockFn = void (*)(const int16_t*, const uint8_t*, int64_t, int32_t*) noexcept;
constexpr BlockFn kBlockFns[kMaxRows + 1] = {
    nullptr,           int8_block_hot<1>, int8_block_hot<2>, int8_block_hot<3>,
    int8_block_hot<4>, int8_block_hot<5>, int8_block_hot<6>};

// One block of k of a panel. Every call asks for its part of the same block of the next panel: in
// the loop a line a step, most of them again and again, cost a tenth of the time.
void panel_block(const int16_t* x, int64_t rows, const uint8_t* w, int64_t steps,
                 const uint8_t* next, int64_t columns, int32_t* sums) noexcept {
  const int64_t calls = (columns + kColumns - 1) / kColumns * ((rows + kMaxRows - 1) / kMaxRows);
  const int64_t bytes = (steps * kPanelStepBytes / calls + kLine - 1) / kLine * kLine;
  for (int64_t n = 0; n < columns; n += kColumns) {
    for (int64_t m = 0; m < rows; m += kMaxRows) {
      const int64_t count = rows - m < kMaxRows ? rows - m : kMaxRows;
      for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(next + at);
      next += bytes;
      kBlockFns[count](x + m * kXStride, w + n * kVnniStep, steps, sums + m * kInt8TileN + n);
    }
  }
}

// One row uses a code once: a panel is read from end to end, all 32 outputs together. Bytes ahead
// in the panel, which goes on with the next one: to the second-level cache, which keeps more misses
// in flight than the first, and from there.
constexpr int64_t kFarAhead = 8192;
constexpr int64_t kNearAhead = 1024;
constexpr int kPanelVectors = 8;  // of 4 outputs

[[gnu::noinline]] void int8_row_hot(const int16_t* x, const uint8_t* w, int64_t steps,
                                    int32_t* sums) noexcept {
  __m256i acc[kPanelVectors];
#pragma GCC unroll 8
  for (__m256i& sum : acc) sum = _mm256_setzero_si256();
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 2
    for (int64_t line = 0; line < kPanelStepBytes; line += kLine) {
      _mm_prefetch(w + kFarAhead + line, _MM_HINT_T1);
      _mm_prefetch(w + kNearAhead + line, _MM_HINT_T0);
    }
    const __m256i codes = broadcast_step(x);
#pragma GCC unroll 8
    for (int v = 0; v < kPanelVectors; ++v) {
      const __m256i products = _mm256_madd_epi16(load_weights(w + v * kWidth), codes);
      acc[v] = _mm256_add_epi32(acc[v], products);
    }
    x += kVnniStep;
    w += kPanelStepBytes;
  }
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors; v += 2) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums + v / 2 * kColumns),
                       add_pairs(acc[v], acc[v + 1]));
  }
}

// y of row m and the columns from n on.
void write_columns(const LinearTile& tile, int64_t m, int64_t n, const Int8Columns& columns,
                   const int32_t* sums) {
  const __m256i offset = _mm256_set1_epi32(kVnniOffset * tile.x_sum[m]);
  const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums));
  write_int8(tile, m, n, columns, _mm256_sub_epi32(sum, offset));
}

void multiply_row(const LinearTile& tile, int16_t* x) {
  const int64_t m = tile.m_begin;
  widen_row(tile.xq + m * tile.xq_stride, tile.k, x);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kVnniPanel) {
    alignas(32) int32_t sums[kVnniPanel];
    int8_row_hot(x, reinterpret_cast<const uint8_t*>(tile.w) + vnni_offset(n, 0, tile.k),
                 vnni_steps(tile.k), sums);
    for (int64_t j = 0; j < kVnniPanel && n + j < tile.n_end; j += kColumns) {
      write_columns(tile, m, n + j, int8_columns(tile, n + j), sums + j);
    }
  }
}

}  // namespace

int64_t int8_vnni_scratch_bytes(int64_t) {
  constexpr int64_t kBytes =
      kInt8TileM * (kXStride * kInt16Bytes + kInt8TileN * int64_t{sizeof(int32_t)});
  static_assert(kBytes >= (kIntegerSumMaxK + kWidth) * kInt16Bytes, "one row of x, widened");
  return kBytes;
}

void int8_vnni_linear(const LinearTile& tile) noexcept {
  auto* sums = reinterpret_cast<int32_t*>(tile.scratch);
  auto* x = reinterpret_cast<int16_t*>(sums + kInt8TileM * kInt8TileN);
  const auto* w = reinterpret_cast<const uint8_t*>(tile.w);
  const int64_t rows = tile.m_end - tile.m_begin;
  if (rows == 1) return multiply_row(tile, reinterpret_cast<int16_t*>(tile.scratch));
  __builtin_memset(sums, 0, static_cast<size_t>(rows * kInt8TileN) * sizeof(int32_t));
  for (int64_t k = 0; k < tile.k; k += kBlockK) {
    const int64_t depth = tile.k - k < kBlockK ? tile.k - k : kBlockK;
    for (int64_t m = 0; m < rows; ++m) {
      widen_row(tile.xq + (tile.m_begin + m) * tile.xq_stride + k, depth, x + m * kXStride);
    }
    for (int64_t n = tile.n_begin; n < tile.n_end; n += kVnniPanel) {
      const int64_t columns = tile.n_end - n < kVnniPanel ? tile.n_end - n : kVnniPanel;
      const uint8_t* block = w + vnni_offset(n, k, tile.k);
      panel_block(x, rows, block, vnni_steps(depth), block + vnni_panel_bytes(tile.k), columns,
                  sums + (n - tile.n_begin));
    }
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kColumns) {
    const Int8Columns columns = int8_columns(tile, n);
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      write_columns(tile, m, n, columns, sums + (m - tile.m_begin) * kInt8TileN + n - tile.n_begin);
    }
  }
}

}  // namespace mezzotint::avx2
