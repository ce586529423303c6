// Attention with online softmax (Dao et al., "FlashAttention", 2022; the recipe is that of
// docs/numerics.md), the kAttentionOps of one ISA. Included after that ISA's vectors, with MZ_ISA
// naming its namespace and, in it,
//   kPerStep                      elements in a word: 1 float, or 2 bf16
//   kStripRows, kPanelVectors     the tile of both products: rows x vectors of 16 columns
//   words_of_run(v[kPerStep])     16 words of the elements of all vectors, in order
//   words_of_lanes(v[kPerStep])   16 words, each of one lane of the vectors, in this order
//   multiply_words(a, b, acc)     acc + the products of the elements of a and b, per lane
//   exponent_part(a)              |a| with a mantissa of 1.0
//   multiply_add(a, b, c)         a * b + c, fused or not
//   round_small(a)                half to even, |a| <= 2^22
//   times_power(a, n)             a * 2^n for n of [-127, 127]; 0 for n = -127
//
// A word is moved as a float and only multiply_words() looks inside. Both products are
//   acc[row][column] += a[row][step] b[step][column]
// with a broadcast from memory and b, packed in panels of 16 kPanelVectors columns, in vectors.
// A strip of rows runs through all three phases of a block of keys (scores, softmax, values), so
// that its scores, numerators and outputs stay in the first-level cache, while k and v, of which a
// block has 64 KB each as bf16 and 128 columns, stream from the second at kPanelVectors 64 bytes
// per kStripRows kPanelVectors products.

#include <cstdint>

#include "kernels/attention_rows.h"
#include "kernels/exp2_polynomial.h"
#include "kernels/vec16_blocks.inl"

namespace mezzotint::MZ_ISA {
namespace {

constexpr int64_t kPanel = kPanelVectors * kLanes;  // keys, or columns of v
constexpr int64_t kGroup = kPerStep * kLanes;       // elements of a vector of words
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kMinusInfinity = -__builtin_inff();
static_assert(kPanel % kGroup == 0 && kKeyBlock % kPanel == 0);

constexpr int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
constexpr int64_t steps_of(int64_t dim) { return (dim + kPerStep - 1) / kPerStep; }
constexpr int64_t columns_of(int64_t dim) { return rounded_up(dim, kLanes); }
constexpr int64_t kQueryRows = rounded_up(kQueryBlock, kStripRows);
constexpr int64_t kWord = sizeof(float);

int64_t query_bytes(int64_t dim) noexcept {
  return rounded_up(kQueryRows * steps_of(dim) * kWord, 64);
}
int64_t key_bytes(int64_t dim) noexcept { return kKeyBlock / kPerStep * columns_of(dim) * kWord; }

}  // namespace
}  // namespace mezzotint::MZ_ISA

#include "kernels/flash_attention_pack.inl"

namespace mezzotint::MZ_ISA {
namespace {

// --- both products -------------------------------------------------------------------------------

// Rows by threes from one base pointer each: p, p + stride and p + 2 stride are addressing modes.
constexpr int kRowsPerBase = 3;
constexpr int kBases = (kStripRows + kRowsPerBase - 1) / kRowsPerBase;

constexpr int64_t kPrefetch = 256;  // words ahead in the panels of k and v

template <int kVectors>
using Accumulators = Vec[kStripRows][kVectors];

template <int kVectors>
[[gnu::always_inline]] inline void multiply(const float* a, int64_t a_stride, const float* b,
                                            int64_t steps, Accumulators<kVectors>& acc) {
  const float* base[kBases];
#pragma GCC unroll 16
  for (int i = 0; i < kBases; ++i) base[i] = a + i * kRowsPerBase * a_stride;
#pragma GCC unroll 16
  for (int i = 0; i < kStripRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) acc[i][v] = splat(0.0f);
  }
  for (int64_t s = 0; s < steps; ++s, b += kVectors * kLanes) {
    Vec columns[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      columns[v] = load(b + v * kLanes);
      __builtin_prefetch(b + v * kLanes + kPrefetch);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kStripRows; ++i) {
      const Vec row = splat(base[i / kRowsPerBase][i % kRowsPerBase * a_stride + s]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) acc[i][v] = multiply_words(row, columns[v], acc[i][v]);
    }
  }
}

// scores:[kStripRows][kKeyBlock] = factor q k^T for kPanel keys.
[[gnu::noinline]] void attention_scores_hot(const float* q, const float* k, int64_t steps,
                                            float factor, float* scores) {
  Accumulators<kPanelVectors> acc;
  multiply<kPanelVectors>(q, steps, k, steps, acc);
#pragma GCC unroll 16
  for (int i = 0; i < kStripRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kPanelVectors; ++v) {
      store(scores + i * kKeyBlock + v * kLanes, acc[i][v] * splat(factor));
    }
  }
}

constexpr int64_t kNumeratorStride = kKeyBlock / kPerStep;

// out:[kStripRows][out_stride] = out * rescale[row] + factor * numerators v for kVectors vectors of
// columns.
template <int kVectors>
[[gnu::noinline]] void attention_values_hot(const float* numerators, const float* v, int64_t steps,
                                            const float* rescale, float factor, float* out,
                                            int64_t out_stride) {
  Accumulators<kVectors> acc;
  multiply<kVectors>(numerators, kNumeratorStride, v, steps, acc);
#pragma GCC unroll 16
  for (int i = 0; i < kStripRows; ++i) {
#pragma GCC unroll 4
    for (int u = 0; u < kVectors; ++u) {
      float* const to = out + i * out_stride + u * kLanes;
      store(to, multiply_add(load(to), splat(rescale[i]), acc[i][u] * splat(factor)));
    }
  }
}

// --- softmax -------------------------------------------------------------------------------------

// 2^t for t <= 8 or so; 0 below 2^-127, NaN for NaN. The polynomial's error is 2.7 * 2^-24 with its
// own roundings.
[[gnu::always_inline]] inline Vec exp2_of(Vec t) {
  const Vec limited = max_of(splat(-127.0f), t);
  const Vec n = round_small(limited);
  const Vec r = limited - n;
  Vec p = splat(kExp2Polynomial[5]);
#pragma GCC unroll 5
  for (int i = 4; i >= 0; --i) p = multiply_add(p, r, splat(kExp2Polynomial[i]));
  return times_power(p, n);
}

// The value of e4m3_from_float(p) for p >= 0; see round_e4m3() of cpu/avx512/vec16.h.
[[gnu::always_inline]] inline Vec round_numerator(Vec p) {
  const Vec limited = min_of(splat(448.0f), p);
  const Vec place = max_of(splat(0x1p-6f), exponent_part(limited)) * splat(0x1.8p20f);
  return (limited + place) - place;
}

[[gnu::always_inline]] inline float largest_of(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  float largest = kMinusInfinity;
  for (const float lane : lanes) largest = largest > lane ? largest : lane;
  return largest;
}

// The largest of a row of scores; a NaN may be lost.
float largest_score(const float* scores, int64_t keys) {
  Vec largest = splat(kMinusInfinity);
  for (int64_t j = 0; j < keys; j += kLanes) largest = max_of(load(scores + j), largest);
  return largest_of(largest);
}

// words = numerators 2^(score - shift), of which the sum is returned.
template <AttentionForm kForm>
float make_numerators(const float* scores, int64_t keys, float shift, float* words) {
  Vec sum[kPerStep];
  for (int p = 0; p < kPerStep; ++p) sum[p] = splat(0.0f);
  for (int64_t j = 0; j < keys; j += kGroup, words += kLanes) {
    Vec v[kPerStep];
    for (int p = 0; p < kPerStep; ++p) {
      v[p] = exp2_of(load(scores + j + p * kLanes) - splat(shift));
      sum[p] = sum[p] + v[p];
      if (kForm == AttentionForm::kFp8) v[p] = round_numerator(v[p]);
    }
    store(words, words_of_run(v));
  }
  for (int p = 1; p < kPerStep; ++p) sum[0] = sum[0] + sum[p];
  return sum_lanes(sum[0]);
}

// --- the tile ------------------------------------------------------------------------------------

// Scratch of a tile. Maxima are of scores in units of log2(e).
struct Memory {
  float* scores;      // [kStripRows][kKeyBlock]
  float* numerators;  // [kStripRows][kNumeratorStride] words
  float* out;         // [kQueryRows][columns]
  float* row_max;     // [kQueryRows]
  float* row_sum;     // [kQueryRows]
};

constexpr int64_t kPaddedStrip = rounded_up(kStripRows, kLanes);
constexpr int64_t kStateRows = kQueryRows + kPaddedStrip;

int64_t scratch_bytes(int64_t dim) noexcept {
  return (kStripRows * (kKeyBlock + kNumeratorStride) + kQueryRows * columns_of(dim) +
          2 * rounded_up(kStateRows, kLanes)) *
         kWord;
}

Memory split_scratch(std::byte* scratch, int64_t dim) {
  auto* const scores = reinterpret_cast<float*>(scratch);
  float* const numerators = scores + kStripRows * kKeyBlock;
  float* const out = numerators + kStripRows * kNumeratorStride;
  float* const row_max = out + kQueryRows * columns_of(dim);
  return {scores, numerators, out, row_max, row_max + rounded_up(kStateRows, kLanes)};
}

struct Block {
  const float* k;
  const float* v;
  int64_t keys;
  float score_factor;  // of products of q and k, log2(e) included
  float value_factor;
};

// Numerators of rows [0, rows) of a strip; what was summed under the old maxima is to be multiplied
// by rescale[row].
template <AttentionForm kForm>
void strip_softmax(const Memory& m, int64_t row, int64_t rows, int64_t keys, float log2_p_scale,
                   float* rescale) {
  float shift[kPaddedStrip] = {};
  for (int64_t i = 0; i < rows; ++i) {
    const float largest = largest_score(m.scores + i * kKeyBlock, keys);
    const float old_max = m.row_max[row + i];
    const float new_max = largest > old_max ? largest : old_max;
    // A row of only -inf so far has no weight; any finite shift keeps it 0.
    shift[i] = new_max == kMinusInfinity ? 0.0f : new_max;
    rescale[i] = old_max - shift[i];
    m.row_max[row + i] = new_max;
  }
  for (int64_t i = 0; i < kPaddedStrip; i += kLanes) {
    store(rescale + i, exp2_of(load(rescale + i)));
  }
  for (int64_t i = 0; i < rows; ++i) {
    const float sum =
        make_numerators<kForm>(m.scores + i * kKeyBlock, keys, shift[i] - log2_p_scale,
                               m.numerators + i * kNumeratorStride);
    m.row_sum[row + i] = m.row_sum[row + i] * rescale[i] + sum;
  }
}

template <AttentionForm kForm>
void run_strip(const AttentionTile& tile, const Block& block, const Memory& m, int64_t row,
               float log2_p_scale) {
  const int64_t steps = steps_of(tile.dim), columns = columns_of(tile.dim);
  const int64_t rows = tile.q_rows - row < kStripRows ? tile.q_rows - row : kStripRows;
  const int64_t keys = rounded_up(block.keys, kPanel);
  const float* const q = reinterpret_cast<const float*>(tile.q) + row * steps;
  for (int64_t j = 0; j < keys; j += kPanel) {
    attention_scores_hot(q, block.k + j * steps, steps, block.score_factor, m.scores + j);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = block.keys; j < keys; ++j) m.scores[i * kKeyBlock + j] = kMinusInfinity;
  }
  float rescale[kPaddedStrip] = {};
  strip_softmax<kForm>(m, row, rows, keys, log2_p_scale, rescale);
  for (int64_t c = 0; c < columns; c += kPanel) {
    const float* const v = block.v + c * keys / kPerStep;
    float* const out = m.out + row * columns + c;
    if (columns - c >= kPanel) {
      attention_values_hot<kPanelVectors>(m.numerators, v, keys / kPerStep, rescale,
                                          block.value_factor, out, columns);
    } else {
      attention_values_hot<1>(m.numerators, v, keys / kPerStep, rescale, block.value_factor, out,
                              columns);
    }
  }
}

// out = sums / row_sum, the numerators' scale being in both; rows without keys are zeros.
void write_out(const AttentionTile& tile, const Memory& m) {
  const int64_t columns = columns_of(tile.dim);
  for (int64_t i = 0; i < tile.q_rows; ++i) {
    const Vec factor = splat(m.row_sum[i] == 0.0f ? 0.0f : 1.0f / m.row_sum[i]);
    for_each_block(tile.dim, [&](int64_t d, auto part) {
      store_lanes(part, tile.out + i * tile.dim + d, load(m.out + i * columns + d) * factor);
    });
  }
}

template <AttentionForm kForm>
void run_form(const AttentionTile& tile) {
  const Memory m = split_scratch(tile.scratch, tile.dim);
  const int64_t columns = columns_of(tile.dim);
  for (int64_t i = 0; i < rounded_up(tile.q_rows, kStripRows) * columns; ++i) m.out[i] = 0.0f;
  for (int64_t i = 0; i < kQueryRows; ++i) {
    m.row_max[i] = kMinusInfinity;
    m.row_sum[i] = 0.0f;
  }
  for (int64_t i = 0; i < kStripRows * kNumeratorStride; ++i) m.numerators[i] = 0.0f;
  const float log2_p_scale = tile.p_scale == 1.0f ? 0.0f : __builtin_log2f(tile.p_scale);
  for (int64_t first = 0; first < tile.keys; first += kKeyBlock) {
    const int64_t b = first / kKeyBlock;
    const bool fp8 = kForm == AttentionForm::kFp8;
    const float product_scale = fp8 ? tile.q_scale * tile.k_scale[b] : 1.0f;
    const Block block = {
        .k = reinterpret_cast<const float*>(tile.k + b * key_bytes(tile.dim)),
        .v = reinterpret_cast<const float*>(tile.v + b * key_bytes(tile.dim)),
        .keys = tile.keys - first < kKeyBlock ? tile.keys - first : kKeyBlock,
        .score_factor = tile.scale * product_scale * kLog2E,
        .value_factor = fp8 ? tile.v_scale[b] : 1.0f,
    };
    for (int64_t row = 0; row < tile.q_rows; row += kStripRows) {
      run_strip<kForm>(tile, block, m, row, log2_p_scale);
    }
  }
  write_out(tile, m);
}

void run(const AttentionTile& tile) noexcept {
  if (tile.form == AttentionForm::kFp8) {
    run_form<AttentionForm::kFp8>(tile);
  } else {
    run_form<AttentionForm::kFloat>(tile);
  }
}

}  // namespace

constinit const AttentionOps kAttentionOps = {
    query_bytes, key_bytes, scratch_bytes, pack_queries, pack_keys, pack_values, run};

}  // namespace mezzotint::MZ_ISA
