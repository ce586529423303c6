// A row in pieces of 512 that stay in the first-level cache: first both sides as floats, with what
// is counted of them, then the sums of products in double, two at a time. All four and their
// operands are more than 16 registers: together they spill, and take 2.8 cycles an element.
#include "kernels/coded_row.h"

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/avx2/vec16.h"
#include "kernels/vector_rows.h"
#include "numerics/dual_level.h"

#define MZ_ISA avx2
#include "kernels/vec16_blocks.inl"

namespace mezzotint::avx2 {
namespace {

constexpr int64_t kPiece = kDualBlock;
static_assert(kPiece % kLanes == 0 && kCodedRowWidth % kLanes == 0);

struct Piece {
  alignas(64) float w[kPiece];
  alignas(64) float decoded[kPiece];
};

// --- codes ---------------------------------------------------------------------------------------

// 16 values, of 8 bytes.
template <Element kElement>
[[gnu::always_inline]] inline Vec load_nibbles(const uint8_t* p) {
  constexpr bool kIsInt4 = kElement == Element::kInt4;
  // Twice the value of an e2m1.
  const __m128i values =
      kIsInt4 ? _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1)
              : _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m128i nibbles =
      _mm_and_si128(_mm_unpacklo_epi8(bytes, _mm_srli_epi16(bytes, 4)), _mm_set1_epi8(15));
  const __m128i q = _mm_shuffle_epi8(values, nibbles);
  const Vec v = {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8)))};
  return kIsInt4 ? v : v * splat(0.5f);
}

template <Element kElement>
[[gnu::always_inline]] inline Vec load_codes(const uint8_t* p) {
  if constexpr (kElement == Element::kInt8) return load_int8(reinterpret_cast<const int8_t*>(p));
  if constexpr (kElement == Element::kE4M3) return load_e4m3(p);
  if constexpr (kElement == Element::kInt4 || kElement == Element::kE2M1) {
    return load_nibbles<kElement>(p);
  }
}

template <Element kElement>
constexpr int64_t kCodesPerByte = kElement == Element::kInt4 || kElement == Element::kE2M1 ? 2 : 1;

template <Element kElement>
[[gnu::always_inline]] inline Vec codes_at(WholeBlock, const uint8_t* codes, int64_t i) {
  return load_codes<kElement>(codes + i / kCodesPerByte<kElement>);
}
template <Element kElement>
Vec codes_at(PartOfBlock part, const uint8_t* codes, int64_t i) {
  constexpr int64_t kPerByte = kCodesPerByte<kElement>;
  uint8_t block[kLanes] = {};
  __builtin_memcpy(block, codes + i / kPerByte,
                   static_cast<size_t>((part.count + kPerByte - 1) / kPerByte));
  return load_codes<kElement>(block);
}

// --- what is counted -----------------------------------------------------------------------------

struct Counts {
  Vec amax = splat(0.0f);                   // of |w|
  __m256i values = _mm256_setzero_si256();  // less than nothing: those of the codes that are not 0
  __m256i outside = _mm256_setzero_si256();
};

[[gnu::always_inline]] inline void count(__m256 is, __m256i& lanes) {
  lanes = _mm256_add_epi32(lanes, _mm256_castps_si256(is));  // -1 where it is so
}
[[gnu::always_inline]] inline void count_values(__m256 v, __m256i& lanes) {
  count(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_OQ), lanes);
}
[[gnu::always_inline]] inline void count_outside(__m256 v, __m256 low, __m256 high,
                                                 __m256i& lanes) {
  count(_mm256_or_ps(_mm256_cmp_ps(v, low, _CMP_LT_OQ), _mm256_cmp_ps(v, high, _CMP_GT_OQ)), lanes);
}

[[gnu::always_inline]] inline int64_t counted(__m256i lanes) {
  return -int64_t{sum_lanes(Integers{lanes, _mm256_setzero_si256()})};
}

// Elements under one scale.
struct Run {
  int64_t first, count;
  float scale, offset, outer;
};

template <Element kElement, FloatType kType>
void decode_run(const CodedRow& row, const Run& run, int64_t piece_first, Piece& piece,
                Counts& counts) {
  const auto* codes = reinterpret_cast<const uint8_t*>(row.codes);
  const Vec scale = splat(run.scale), outer = splat(run.outer), offset = splat(run.offset);
  const float both = run.scale * run.outer;
  const float lowest = (row.lowest - run.offset) * both;
  const Vec low = splat(lowest), high = splat((row.highest - run.offset) * both);
  Counts sums = counts;
  for_each_block(run.count, [&](int64_t block, auto part) __attribute__((always_inline)) {
    const int64_t i = run.first + block;
    const Vec w = load_as(FloatTypeTag<kType>{}, part, row.w, i);
    const Vec code = codes_at<kElement>(part, codes, i);
    const Vec decoded = zero_rest(part, (code - offset) * scale * outer);
    store(piece.w + (i - piece_first), w);
    store(piece.decoded + (i - piece_first), decoded);
    const Vec inside = load_lanes(part, piece.w + (i - piece_first), lowest);
    sums.amax = max_magnitude(sums.amax, magnitude(w));
    count_values(decoded.lo, sums.values);
    count_values(decoded.hi, sums.values);
    count_outside(inside.lo, low.lo, high.lo, sums.outside);
    count_outside(inside.hi, low.hi, high.hi, sums.outside);
  });
  counts = sums;
}

using DecodeRun = void (*)(const CodedRow&, const Run&, int64_t, Piece&, Counts&);

template <Element kElement>
DecodeRun decode_run_of(FloatType type) {
  switch (type) {
    case FloatType::kF32:
      return decode_run<kElement, FloatType::kF32>;
    case FloatType::kBF16:
      return decode_run<kElement, FloatType::kBF16>;
    case FloatType::kF16:
      return decode_run<kElement, FloatType::kF16>;
  }
  return nullptr;
}
DecodeRun decode_run_of(Element element, FloatType type) {
  if (element == Element::kInt8) return decode_run_of<Element::kInt8>(type);
  if (element == Element::kInt4) return decode_run_of<Element::kInt4>(type);
  if (element == Element::kE2M1) return decode_run_of<Element::kE2M1>(type);
  return decode_run_of<Element::kE4M3>(type);
}

// --- sums ----------------------------------------------------------------------------------------

constexpr int kParts = 4;  // of 16 lanes, 4 doubles to a register

// sum += a * b, and of b * b.
template <typename Operands>
[[gnu::always_inline]] inline void add_two_products(int64_t n, const Operands& operands,
                                                    Doubles& first, Doubles& second) {
  Doubles one = first, two = second;
  for (int64_t i = 0; i < n; i += kLanes) {
#pragma GCC unroll 4
    for (int part = 0; part < kParts; ++part)
      operands(i + 4 * part, one.part[part], two.part[part]);
  }
  first = one;
  second = two;
}

struct DoubleSums {
  Doubles exact = zero_doubles(), decoded = zero_doubles();
  Doubles product = zero_doubles(), noise = zero_doubles();
};

// n is a multiple of 16.
void add_piece(const Piece& piece, int64_t n, DoubleSums& sums) {
  add_two_products(
      n,
      [&](int64_t i, __m256d& exact, __m256d& product) __attribute__((always_inline)) {
        const __m256d w = _mm256_cvtps_pd(_mm_load_ps(piece.w + i));
        const __m256d decoded = _mm256_cvtps_pd(_mm_load_ps(piece.decoded + i));
        exact = _mm256_fmadd_pd(w, w, exact);
        product = _mm256_fmadd_pd(w, decoded, product);
      },
      sums.exact, sums.product);
  add_two_products(
      n,
      [&](int64_t i, __m256d& all, __m256d& noise) __attribute__((always_inline)) {
        const __m128 w4 = _mm_load_ps(piece.w + i), decoded4 = _mm_load_ps(piece.decoded + i);
        const __m256d decoded = _mm256_cvtps_pd(decoded4);
        const __m256d miss = _mm256_cvtps_pd(_mm_sub_ps(w4, decoded4));
        all = _mm256_fmadd_pd(decoded, decoded, all);
        noise = _mm256_fmadd_pd(miss, miss, noise);
      },
      sums.decoded, sums.noise);
}

}  // namespace

void add_coded_row(const CodedRow& row, CodedRowSums& sums) noexcept {
  const DecodeRun decode = decode_run_of(row.element, row.type);
  Piece piece;
  Counts counts;
  DoubleSums doubles;
  for (int64_t first = 0; first < row.k; first += kPiece) {
    const int64_t end = first + kPiece < row.k ? first + kPiece : row.k;
    const float outer = row.outer == nullptr ? 1.0f : row.outer[first / kDualBlock];
    for (int64_t at = first; at < end;) {
      const int64_t group = at / row.width, group_end = (group + 1) * row.width;
      const int64_t run_end = group_end < end ? group_end : end;
      decode(row,
             {.first = at,
              .count = run_end - at,
              .scale = row.scale[group],
              .offset = row.offset == nullptr ? 0.0f : row.offset[group],
              .outer = outer},
             first, piece, counts);
      at = run_end;
    }
    add_piece(piece, (end - first + kLanes - 1) / kLanes * kLanes, doubles);
  }
  sums.pairs.exact += sum_doubles(doubles.exact);
  sums.pairs.decoded += sum_doubles(doubles.decoded);
  sums.pairs.product += sum_doubles(doubles.product);
  sums.pairs.noise += sum_doubles(doubles.noise);
  sums.pairs.zeros += row.k - counted(counts.values);
  sums.outside += counted(counts.outside);
  const float largest = largest_lane(counts.amax);
  sums.pairs.amax = largest > sums.pairs.amax ? largest : sums.pairs.amax;
}

}  // namespace mezzotint::avx2
