// x and the weights of panels as bf16: [k/2][32][2], pairs of k of 32 columns, and how they meet.
// Included by panel_linear.cc and panel_stream.cc.

#include <cstdint>

#include "kernels/cpu/avx512/vec16.h"

#define MZ_ISA avx512_bf16

namespace mezzotint::avx512_bf16 {
using namespace avx512;  // NOLINT(google-build-using-namespace): the vectors of the lower level
}

#include "kernels/float_panel_rows.h"
#include "kernels/ops.h"
#include "kernels/panel_layout.h"
#include "numerics/e4m3.h"
#include "numerics/e8m0.h"
#include "numerics/mx.h"

namespace mezzotint::avx512_bf16 {
namespace {

constexpr int kWords = 32;   // bf16 of a register: a column each, or a k each
constexpr int kVectors = 2;  // of pairs of k of 16 columns in a panel

// acc += w times the pair at x, broadcast by the instruction itself: a register for the broadcast
// is one more than there are once g++ 12 has moved loads of weights ahead.
[[gnu::always_inline]] inline void dot(__m512& acc, __m512i w, const uint16_t* x) {
  using Pair [[gnu::may_alias]] = uint32_t;
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*reinterpret_cast<const Pair*>(x)));
}

// The same block of the next panel, which is next: it arrives while this one is multiplied.
[[gnu::always_inline]] inline void prefetch_next(const void* codes, int64_t panel_bytes) {
  _mm_prefetch(static_cast<const char*>(codes) + panel_bytes, _MM_HINT_T1);
}

inline void store_words(uint16_t* p, __m512i words) { _mm512_storeu_si512(p, words); }

// One row of bf16 x; zeros behind its end.
struct Bf16X {
  static void convert_x(const LinearTile& tile, int64_t m, int64_t k, int64_t depth,
                        uint16_t* out) {
    const uint16_t* x = static_cast<const uint16_t*>(tile.x) + m * tile.x_stride + k;
    int64_t i = 0;
    for (; i + kWords <= depth; i += kWords) store_words(out + i, _mm512_loadu_si512(x + i));
    if (i < depth) {
      const auto mask = static_cast<__mmask32>((uint64_t{1} << (depth - i)) - 1);
      store_words(out + i, _mm512_maskz_loadu_epi16(mask, x + i));
    }
  }
};

// 16 codes in front, 16 behind: floats whose lower halves are zero -> pairs.
[[gnu::always_inline]] inline __m512i pairs_of(__m512 first, __m512 second) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(first), 16),
                         _mm512_and_si512(_mm512_castps_si512(second), upper));
}

struct Int8Weights : Bf16X {
  static const uint16_t* expand(const LinearTile& tile, int64_t n, int64_t k, int64_t depth,
                                uint16_t* out) {
    const auto* codes = reinterpret_cast<const int8_t*>(tile.w) + byte_panel_offset(n, k, tile.k);
    const int64_t panel_bytes = panel_k(tile.k) * kPanelColumns;
    for (int64_t i = 0; i < panel_k(depth); i += 2) {
      prefetch_next(codes, panel_bytes);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const int8_t* column = codes + half * 16;
        store_words(out + half * kWords,
                    pairs_of(load_int8(column).v, load_int8(column + kPanelColumns).v));
      }
      codes += 2 * kPanelColumns;
      out += 2 * kPanelColumns;
    }
    return out - panel_k(depth) * kPanelColumns;
  }
};

// bf16 of int4 codes, twice: the permutation reads five bits of a word, of which four are the code.
constexpr uint16_t kInt4Words[kWords] = {
    0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0,
    0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
    0x40c0, 0x40e0, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80};

struct Int4Weights : Bf16X {
  static const uint16_t* expand(const LinearTile& tile, int64_t n, int64_t k, int64_t depth,
                                uint16_t* out) {
    const __m512i values = _mm512_loadu_si512(kInt4Words);
    const auto* words = reinterpret_cast<const uint32_t*>(tile.w) + word_panel_offset(n, k, tile.k);
    const int64_t panel_bytes = panel_k(tile.k) * kPanelColumns / 2;
    for (int64_t i = 0; i < panel_k(depth); i += kPanelStep) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        prefetch_next(words + half * 16, panel_bytes);
        const __m512i step = _mm512_load_si512(words + half * 16);
#pragma GCC unroll 4
        for (unsigned pair = 0; pair < 4; ++pair) {
          store_words(out + (2 * pair + half) * kWords,
                      _mm512_permutexvar_epi16(_mm512_srli_epi32(step, 4 * pair), values));
        }
      }
      words += kPanelColumns;
      out += kPanelStep * kPanelColumns;
    }
    return out - panel_k(depth) * kPanelColumns;
  }
};

// Already what the dot product reads.
struct Bf16Weights : Bf16X {
  static const uint16_t* expand(const LinearTile& tile, int64_t n, int64_t k, int64_t, uint16_t*) {
    return reinterpret_cast<const uint16_t*>(tile.w) + bf16_panel_offset(n, k, tile.k);
  }
};

// --- MX blocks of e4m3 ---------------------------------------------------------------------------

constexpr uint16_t kBf16Infinity = 0x7f80;
constexpr uint16_t kBf16NaN = 0xffc0;
constexpr int kBf16MantissaBits = 7;

// Magnitudes of e4m3 as bf16, exact: all are normal numbers there. NaN has its sign set, so that as
// an integer it is no more above zero than 0 is.
struct E4M3Table {
  alignas(64) uint16_t word[128];
};
constexpr E4M3Table make_e4m3_table() {
  E4M3Table table{};
  for (unsigned i = 0; i < 128; ++i) {
    const auto bits = std::bit_cast<uint32_t>(e4m3_to_float(static_cast<uint8_t>(i)));
    table.word[i] = static_cast<uint16_t>(bits >> 16);
  }
  table.word[127] = kBf16NaN;
  return table;
}
constexpr E4M3Table kE4M3Words = make_e4m3_table();

// Powers of two of 32 blocks, to be added to exponents.
struct BlockPowers {
  __m512i step;      // (byte - 127) << 7
  __mmask32 is_nan;  // byte 255
  bool are_small;    // no product leaves the range of normal bf16
};

[[gnu::always_inline]] inline BlockPowers block_powers(__m256i bytes) {
  constexpr int kSmall = 64;  // 2^-9 * 2^-64 and 448 * 2^64 are normal
  const __m512i power = _mm512_sub_epi16(_mm512_cvtepu8_epi16(bytes), _mm512_set1_epi16(kE8M0Bias));
  const __mmask32 large =
      _mm512_cmpgt_epi16_mask(_mm512_abs_epi16(power), _mm512_set1_epi16(kSmall));
  return {_mm512_slli_epi16(power, kBf16MantissaBits),
          _mm512_cmpeq_epi16_mask(power, _mm512_set1_epi16(kE8M0NaN - kE8M0Bias)), large == 0};
}

// The magnitudes of 32 codes, each extended with its sign to 16 bits.
[[gnu::always_inline]] inline __m512i e4m3_magnitudes(__m512i code) {
  const uint16_t* table = kE4M3Words.word;  // a permutation reads the low six bits
  const __m512i low =
      _mm512_permutex2var_epi16(_mm512_load_si512(table), code, _mm512_load_si512(table + kWords));
  const __m512i high = _mm512_permutex2var_epi16(_mm512_load_si512(table + 2 * kWords), code,
                                                 _mm512_load_si512(table + 3 * kWords));
  const __mmask32 is_high = _mm512_test_epi16_mask(code, _mm512_set1_epi16(0x40));
  return _mm512_mask_mov_epi16(low, is_high, high);
}

[[gnu::always_inline]] inline __m512i with_sign(__m512i magnitude, __m512i code) {
  return _mm512_or_si512(magnitude, _mm512_and_si512(code, _mm512_set1_epi16(INT16_MIN)));
}

// 32 codes as bf16 times their powers. What leaves the range of normal bf16 becomes zero or
// infinity.
[[gnu::always_inline]] inline __m512i e4m3_words(__m256i codes, const BlockPowers& powers) {
  const __m512i code = _mm512_cvtepi8_epi16(codes);  // the sign in bit 15
  const __m512i value = e4m3_magnitudes(code);
  const __mmask32 is_number = _mm512_cmpgt_epi16_mask(value, _mm512_setzero_si512());
  __m512i scaled = _mm512_mask_adds_epi16(value, is_number, value, powers.step);
  if (!powers.are_small) {
    scaled = _mm512_mask_max_epi16(scaled, is_number, scaled, _mm512_setzero_si512());
    scaled = _mm512_mask_min_epi16(scaled, is_number, scaled, _mm512_set1_epi16(kBf16Infinity));
    scaled = _mm512_mask_mov_epi16(scaled, powers.is_nan,
                                   _mm512_set1_epi16(static_cast<int16_t>(kBf16NaN)));
  }
  return with_sign(scaled, code);
}

// Word i of a k and word i of the next one beside each other: columns 0..15 and 16..31.
[[gnu::always_inline]] inline void interleave(__m512i first, __m512i second, __m512i& lower,
                                              __m512i& upper) {
  const __m512i place = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40,
                                         8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i half = _mm512_set1_epi16(kWords / 2);
  lower = _mm512_permutex2var_epi16(first, place, second);
  upper = _mm512_permutex2var_epi16(first, _mm512_add_epi16(place, half), second);
}

// The scales of one block of 32 k; 0 behind the last column.
inline void load_block_bytes(const LinearTile& tile, int64_t n, int64_t block,
                             uint8_t (&bytes)[kPanelColumns]) {
  const int64_t blocks = mx_blocks(tile.k);
  for (int64_t c = 0; c < kPanelColumns; ++c) {
    bytes[c] = n + c < tile.n ? tile.w_block_scale[(n + c) * blocks + block] : 0;
  }
}

struct E4M3Weights {
  static void convert_x(const LinearTile& tile, int64_t m, int64_t k, int64_t depth,
                        uint16_t* out) {
    const auto* codes = reinterpret_cast<const uint8_t*>(tile.xq) + m * tile.xq_stride + k;
    const uint8_t* power = tile.x_block_scale + m * mx_blocks(tile.k) + k / kMxBlock;
    for (int64_t i = 0; i < depth; i += kWords) {
      const int64_t count = depth - i < kWords ? depth - i : kWords;
      const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
      const BlockPowers powers =
          block_powers(_mm256_set1_epi8(static_cast<char>(power[i / kMxBlock])));
      const __m512i words = e4m3_words(_mm256_maskz_loadu_epi8(mask, codes + i), powers);
      store_words(out + i, _mm512_maskz_mov_epi16(mask, words));
    }
  }

  static const uint16_t* expand(const LinearTile& tile, int64_t n, int64_t k, int64_t depth,
                                uint16_t* out) {
    const auto* codes = reinterpret_cast<const uint8_t*>(tile.w) + byte_panel_offset(n, k, tile.k);
    for (int64_t i = 0; i < panel_k(depth); i += kMxBlock) {
      alignas(32) uint8_t bytes[kPanelColumns];
      load_block_bytes(tile, n, (k + i) / kMxBlock, bytes);
      const int64_t end = panel_k(depth) - i < kMxBlock ? panel_k(depth) - i : kMxBlock;
      expand_block(codes, panel_k(tile.k) * kPanelColumns, end,
                   block_powers(_mm256_load_si256(reinterpret_cast<__m256i*>(bytes))), out);
      codes += end * kPanelColumns;
      out += end * kPanelColumns;
    }
    return out - panel_k(depth) * kPanelColumns;
  }

 private:
  static void expand_block(const uint8_t* codes, int64_t panel_bytes, int64_t depth,
                           const BlockPowers& powers, uint16_t* out) {
    for (int64_t i = 0; i < depth; i += 2) {
      prefetch_next(codes + i * kPanelColumns, panel_bytes);
      const auto* pair = reinterpret_cast<const __m256i*>(codes + i * kPanelColumns);
      const __m512i first = e4m3_words(_mm256_loadu_si256(pair), powers);
      const __m512i second = e4m3_words(_mm256_loadu_si256(pair + 1), powers);
      __m512i lower, upper;
      interleave(first, second, lower, upper);
      store_words(out + i * kPanelColumns, lower);
      store_words(out + (i + 1) * kPanelColumns, upper);
    }
  }
};

}  // namespace
}  // namespace mezzotint::avx512_bf16
