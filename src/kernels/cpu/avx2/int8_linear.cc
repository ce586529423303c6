// kInt8Vnni weights for processors without VNNI. A tile goes through k in blocks whose x and panel
// of weights stay in the first-level cache; sums wait in scratch.
//
// vpmaddubsw multiplies codes as they are, 32 at once, and adds pairs of k in 16 bits, which holds
// 255 * 128: pairs of x whose sum is within +-128 are safe with every weight. Of other pairs (one
// in 150 where x is normal and the largest of a row is 3.8 sigma) the excess is cut off and
// multiplied by itself. vpmaddwd by ones gives the sums of 4 k: three instructions for 32 products
// where vpmaddwd on codes widened to 16 bits takes four, of which Zen 3 starts 3.75 in a cycle at
// most. A block of x with more such pairs than that pays for is widened.

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/avx2/output.h"
#include "kernels/int8_rows.h"
#include "kernels/int8_vnni_layout.h"
#include "numerics/int8.h"

namespace mezzotint::avx2 {
namespace {

constexpr int kVectors = 2;
constexpr int64_t kColumns = 8;
constexpr int64_t kPanelStepBytes = kVnniPanel * kVnniStep;

constexpr int64_t kBlockK = 384;
constexpr int64_t kXStride = kBlockK + 32;  // rows of x in different sets of the cache
constexpr int64_t kLine = 64;

// --- safe pairs ----------------------------------------------------------------------------------

constexpr int kPairRows = 5;  // 10 sums, 2 registers of weights, 1 of x, products, ones
constexpr int64_t kPairColumns = kVectors * kColumns;
constexpr int64_t kVectorBytes = 32;
constexpr int32_t kLargestPair = 128;
static_assert(kLargestPair * UINT8_MAX <= INT16_MAX);

// What a step of 4 k of a row is, beside its safe pairs.
struct Excess {
  int32_t codes;
  uint16_t step;
  uint16_t row;
};
// Up to one step in 8; one row more may come before that is noticed.
constexpr int64_t kExcessPart = 8;
constexpr int64_t kMaxExcess = kInt8TileM * kBlockK / kVnniStep / kExcessPart + kBlockK / kVnniStep;

// Codes of x are padded with zeros to padded_k(k), a multiple of 64. Writes whole vectors and
// appends to `list` where the second code of a pair is cut. Returns the new count.
int64_t make_safe(const int8_t* q, int64_t k, uint16_t row, int8_t* out, Excess* list,
                  int64_t count) {
  const __m256i ones = _mm256_set1_epi8(1);
  const __m256i most = _mm256_set1_epi16(kLargestPair), least = _mm256_set1_epi16(-kLargestPair);
  for (int64_t i = 0; i < k; i += kVectorBytes) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + i));
    const __m256i sum = _mm256_maddubs_epi16(ones, codes);
    const __m256i kept = _mm256_max_epi16(least, _mm256_min_epi16(most, sum));
    // [-128, 126], in the byte of the second code.
    const __m256i excess = _mm256_slli_epi16(_mm256_sub_epi16(sum, kept), 8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i), _mm256_sub_epi16(codes, excess));
    const __m256i none = _mm256_cmpeq_epi32(excess, _mm256_setzero_si256());
    auto steps = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(none))) ^ 0xffu;
    if (steps == 0) continue;
    alignas(32) int32_t words[kColumns];
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), excess);
    for (; steps != 0; steps &= steps - 1) {
      const int j = __builtin_ctz(steps);
      list[count++] = {words[j], static_cast<uint16_t>(i / kVnniStep + j), row};
    }
  }
  return count;
}

[[gnu::always_inline]] inline __m256i load_codes(const uint8_t* w) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
}

// Of 8 outputs and 4 k: weights, a line of whose panel starts at a multiple of 64, and safe codes.
[[gnu::always_inline]] inline __m256i multiply_step(__m256i w, __m256i codes) {
  return _mm256_madd_epi16(_mm256_maddubs_epi16(w, codes), _mm256_set1_epi16(1));
}

// sums[i] += 16 outputs of x[i] times codes + 128. Asks for `lines` lines from `next` on every 4
// steps: all of them at once wait for each other.
template <int kRows>
[[gnu::noinline]] void int8_pairs_hot(const int8_t* x, const uint8_t* w, int64_t steps,
                                      const uint8_t* next, int64_t lines, int32_t* sums) noexcept {
  constexpr int64_t kSteps = 4;
  __m256i acc[kRows][kVectors];
#pragma GCC unroll 5
  for (int i = 0; i < kRows; ++i) {
    const auto* sum = reinterpret_cast<const __m256i*>(sums + i * kInt8TileN);
    acc[i][0] = _mm256_load_si256(sum);
    acc[i][1] = _mm256_load_si256(sum + 1);
  }
  const auto add_step = [&](const int8_t* codes,
                            const uint8_t* weights) __attribute__((always_inline)) {
    const __m256i w0 = load_codes(weights), w1 = load_codes(weights + kVectorBytes);
#pragma GCC unroll 5
    for (int i = 0; i < kRows; ++i) {
      int32_t word;
      __builtin_memcpy(&word, codes + i * kXStride, sizeof word);
      const __m256i step = _mm256_set1_epi32(word);
      acc[i][0] = _mm256_add_epi32(acc[i][0], multiply_step(w0, step));
      acc[i][1] = _mm256_add_epi32(acc[i][1], multiply_step(w1, step));
      asm("" : "+x"(acc[i][0]), "+x"(acc[i][1]));  // else products are gathered, and sums spill
    }
  };
  for (; steps >= kSteps; steps -= kSteps) {
    for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(next + line * kLine);
    next += lines * kLine;
#pragma GCC unroll 4
    for (int64_t i = 0; i < kSteps; ++i) add_step(x + i * kVnniStep, w + i * kPanelStepBytes);
    x += kSteps * kVnniStep;
    w += kSteps * kPanelStepBytes;
  }
  for (; steps > 0; --steps) {
    add_step(x, w);
    x += kVnniStep;
    w += kPanelStepBytes;
  }
#pragma GCC unroll 5
  for (int i = 0; i < kRows; ++i) {
    auto* sum = reinterpret_cast<__m256i*>(sums + i * kInt8TileN);
    _mm256_store_si256(sum, acc[i][0]);
    _mm256_store_si256(sum + 1, acc[i][1]);
  }
}

using PairsFn = void (*)(const int8_t*, const uint8_t*, int64_t, const uint8_t*, int64_t,
                         int32_t*) noexcept;
constexpr PairsFn kPairsFns[kPairRows + 1] = {nullptr,           int8_pairs_hot<1>,
                                              int8_pairs_hot<2>, int8_pairs_hot<3>,
                                              int8_pairs_hot<4>, int8_pairs_hot<5>};

void add_excess(const Excess* list, int64_t count, const uint8_t* w, int32_t* sums) {
  for (const Excess* excess = list; excess < list + count; ++excess) {
    const __m256i codes = _mm256_set1_epi32(excess->codes);
    const uint8_t* weights = w + excess->step * kPanelStepBytes;
    auto* sum = reinterpret_cast<__m256i*>(sums + excess->row * kInt8TileN);
#pragma GCC unroll 4
    for (int64_t v = 0; v < kPanelStepBytes / kVectorBytes; ++v) {
      const __m256i products = multiply_step(load_codes(weights + v * kVectorBytes), codes);
      _mm256_store_si256(sum + v, _mm256_add_epi32(_mm256_load_si256(sum + v), products));
    }
  }
}

// One block of k of a panel, with all of its outputs; `next` is the block that follows.
void multiply_pairs(const int8_t* x, int64_t rows, const uint8_t* w, int64_t steps,
                    const uint8_t* next, int32_t* sums) noexcept {
  constexpr int64_t kLines = 4 * kPanelStepBytes / kLine;  // of 4 steps
  const int64_t groups = (rows + kPairRows - 1) / kPairRows;
  const int64_t calls = groups * (kVnniPanel / kPairColumns);
  const int64_t lines = (kLines + calls - 1) / calls;
  int64_t asked = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t m = rows * g / groups, count = rows * (g + 1) / groups - m;
    for (int64_t n = 0; n < kVnniPanel; n += kPairColumns) {
      const int64_t now = asked < kLines ? lines : 0;
      kPairsFns[count](x + m * kXStride, w + n * kVnniStep, steps,
                       next + asked * (steps / 4) * kLine, now, sums + m * kInt8TileN + n);
      asked += now;
    }
  }
}

// --- widened codes -------------------------------------------------------------------------------

// A step is 4 k of 4 outputs per register, against the 4 codes of x broadcast: lanes 2 j and 2 j +
// 1 of a sum belong to output j. A tile of 6 rows x 8 outputs: 12 sums, 2 registers of weights, 1
// of x, 1 of products.
constexpr int kMaxRows = 6;
constexpr int64_t kWidth = 16;  // codes of one widening
constexpr int64_t kInt16Bytes = 2;

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

// One block of k of a panel. Every call asks for its part of the block that follows.
void multiply_wide(const int16_t* x, int64_t rows, const uint8_t* w, int64_t steps,
                   const uint8_t* next, int32_t* sums) noexcept {
  const int64_t calls = kVnniPanel / kColumns * ((rows + kMaxRows - 1) / kMaxRows);
  const int64_t bytes = (steps * kPanelStepBytes / calls + kLine - 1) / kLine * kLine;
  for (int64_t n = 0; n < kVnniPanel; n += kColumns) {
    for (int64_t m = 0; m < rows; m += kMaxRows) {
      const int64_t count = rows - m < kMaxRows ? rows - m : kMaxRows;
      for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(next + at);
      next += bytes;
      kBlockFns[count](x + m * kXStride, w + n * kVnniStep, steps, sums + m * kInt8TileN + n);
    }
  }
}

// --- one row -------------------------------------------------------------------------------------

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

// --- tiles ---------------------------------------------------------------------------------------

// Sums of a tile, and its rows of x for one block of k.
struct TileScratch {
  int32_t* sums;   // [rows][kInt8TileN]
  int16_t* wide;   // [rows][kXStride], or
  int8_t* safe;    // [rows][kXStride] and
  Excess* excess;  // [kMaxExcess]
};
constexpr int64_t kSumsBytes = kInt8TileM * kInt8TileN * int64_t{sizeof(int32_t)};
constexpr int64_t kWideBytes = kInt8TileM * kXStride * kInt16Bytes;
static_assert(kInt8TileM * kXStride + kMaxExcess * int64_t{sizeof(Excess)} <= kWideBytes);

TileScratch scratch_of(const LinearTile& tile) {
  std::byte* x = tile.scratch + kSumsBytes;
  return {reinterpret_cast<int32_t*>(tile.scratch), reinterpret_cast<int16_t*>(x),
          reinterpret_cast<int8_t*>(x), reinterpret_cast<Excess*>(x + kInt8TileM * kXStride)};
}

// The rows of x from k on as safe pairs. Returns how many steps have an excess, -1: too many.
int64_t make_safe_rows(const LinearTile& tile, int64_t k, int64_t depth, const TileScratch& to) {
  const int64_t rows = tile.m_end - tile.m_begin;
  const int64_t most = rows * vnni_steps(depth) / kExcessPart;
  int64_t count = 0;
  for (int64_t m = 0; m < rows && count <= most; ++m) {
    count = make_safe(tile.xq + (tile.m_begin + m) * tile.xq_stride + k, depth,
                      static_cast<uint16_t>(m), to.safe + m * kXStride, to.excess, count);
  }
  return count <= most ? count : -1;
}

// One block of k: sums += x w.
void multiply_block(const LinearTile& tile, int64_t k, int64_t depth, const TileScratch& in) {
  const int64_t rows = tile.m_end - tile.m_begin;
  const int64_t excess = make_safe_rows(tile, k, depth, in);
  for (int64_t m = 0; excess < 0 && m < rows; ++m) {
    widen_row(tile.xq + (tile.m_begin + m) * tile.xq_stride + k, depth, in.wide + m * kXStride);
  }
  const auto* w = reinterpret_cast<const uint8_t*>(tile.w);
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kVnniPanel) {
    const uint8_t* block = w + vnni_offset(n, k, tile.k);
    const uint8_t* next = block + vnni_panel_bytes(tile.k);
    if (n + kVnniPanel >= tile.n_end && k + kBlockK < tile.k) {
      next = w + vnni_offset(tile.n_begin, k + kBlockK, tile.k);
    }
    int32_t* sums = in.sums + (n - tile.n_begin);
    if (excess < 0) {
      multiply_wide(in.wide, rows, block, vnni_steps(depth), next, sums);
    } else {
      multiply_pairs(in.safe, rows, block, vnni_steps(depth), next, sums);
      add_excess(in.excess, excess, block, sums);
    }
  }
}

}  // namespace

int64_t int8_vnni_scratch_bytes(int64_t) {
  constexpr int64_t kBytes = kSumsBytes + kWideBytes;
  static_assert(kBytes >= (kIntegerSumMaxK + kWidth) * kInt16Bytes, "one row of x, widened");
  return kBytes;
}

void int8_vnni_linear(const LinearTile& tile) noexcept {
  const int64_t rows = tile.m_end - tile.m_begin;
  if (rows == 1) return multiply_row(tile, reinterpret_cast<int16_t*>(tile.scratch));
  const TileScratch scratch = scratch_of(tile);
  __builtin_memset(scratch.sums, 0, static_cast<size_t>(rows * kInt8TileN) * sizeof(int32_t));
  for (int64_t k = 0; k < tile.k; k += kBlockK) {
    multiply_block(tile, k, tile.k - k < kBlockK ? tile.k - k : kBlockK, scratch);
  }
  for (int64_t n = tile.n_begin; n < tile.n_end; n += kColumns) {
    const Int8Columns columns = int8_columns(tile, n);
    for (int64_t m = tile.m_begin; m < tile.m_end; ++m) {
      write_columns(tile, m, n, columns,
                    scratch.sums + (m - tile.m_begin) * kInt8TileN + n - tile.n_begin);
    }
  }
}

}  // namespace mezzotint::avx2
