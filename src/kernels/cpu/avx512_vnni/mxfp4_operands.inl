// x and the exponents of w as the hot loop of mxfp4_linear.cc reads them. Included by it only.

namespace mezzotint::avx512_vnni {
namespace {

// A range of the blocks of k.
struct Chunk {
  int64_t first, blocks;
};

// The bytes of e8m0 as exponents of HALF the scale, one half per operand being the 4 that doubling
// both has multiplied by; NaN for the NaN scale.
[[gnu::always_inline]] inline __m512 exponents_of(__m128i bytes) {
  const __m512i wide = _mm512_cvtepu8_epi32(bytes);
  const __m512 exponents =
      _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, _mm512_set1_epi32(kE8M0Bias + 1)));
  const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(wide, _mm512_set1_epi32(kE8M0NaN));
  return _mm512_mask_mov_ps(exponents, is_nan, _mm512_set1_ps(kQuietNaN));
}

// Up to 16 bytes, zeros behind them.
[[gnu::always_inline]] inline __m128i load_bytes(const uint8_t* p, int64_t count) {
  const auto mask = static_cast<__mmask16>(count >= 16 ? 0xffff : (1 << count) - 1);
  return _mm_maskz_loadu_epi8(mask, p);
}

// One row of x, 32 codes at a time, into its places of the group's blocks.
[[gnu::noinline]] void convert_row(const LinearTile& tile, int64_t m, const Chunk& chunk,
                                   int64_t rows, int64_t i, int8_t* group) {
  const __m256i table = _mm256_broadcastsi128_si256(raised_table());
  const int8_t* codes = tile.xq + m * tile.xq_stride + chunk.first * kNibbleBlock;
  const int64_t count = tile.k - chunk.first * kNibbleBlock;
  for (int64_t b = 0; b < chunk.blocks; ++b) {
    const int64_t rest = count - b * kNibbleBlock;
    const __mmask32 mask = rest >= kNibbleBlock ? ~0u : (1u << rest) - 1;
    const __m256i x = _mm256_maskz_loadu_epi8(mask, codes + b * kNibbleBlock);
    const __m256i raised = _mm256_shuffle_epi8(table, x);
    const __m256i doubled = _mm256_sub_epi8(raised, _mm256_set1_epi8(kOffset));
    const __m256i sums = _mm256_sad_epu8(raised, _mm256_setzero_si256());
    const __m128i two =
        _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    const auto sum = static_cast<int32_t>(_mm_cvtsi128_si64(two) + _mm_extract_epi64(two, 1));
    int8_t* block = group + b * rows * kRowBlockBytes;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(block + i * kNibbleBlock), doubled);
    const int32_t start = -kOffset * (sum - kOffset * static_cast<int32_t>(kNibbleBlock));
    __builtin_memcpy(block + rows * kNibbleBlock + i * kWordBytes, &start, sizeof start);
  }
}

void convert_row_exponents(const LinearTile& tile, int64_t m, const Chunk& chunk, int64_t rows,
                           int64_t i, int8_t* group) {
  const uint8_t* scale = tile.x_block_scale + m * mx_blocks(tile.k) + chunk.first;
  int8_t* out = group + rows * (kNibbleBlock + kWordBytes) + i * kWordBytes;
  for (int64_t b = 0; b < chunk.blocks; b += kLanes) {
    alignas(64) float exponents[kLanes];
    _mm512_store_ps(exponents, exponents_of(load_bytes(scale + b, chunk.blocks - b)));
    const int64_t count = chunk.blocks - b < kLanes ? chunk.blocks - b : kLanes;
    for (int64_t j = 0; j < count; ++j) {
      __builtin_memcpy(out + (b + j) * rows * kRowBlockBytes, exponents + j, sizeof(float));
    }
  }
}

// Exponents of the outputs [n, n + 16), n + lanes <= tile.n, of a chunk.
void expand_exponents(const LinearTile& tile, int64_t n, const Chunk& chunk, float* out) {
  const int64_t stride = mx_blocks(tile.k);
  const uint8_t* scale = tile.w_block_scale + n * stride + chunk.first;
  for (int64_t b = 0; b < chunk.blocks; b += kLanes) {
    __m128i v[kLanes];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) {
      _mm_prefetch(scale + (i + kNibblePanel) * stride + b, _MM_HINT_T0);
      v[i] = n + i < tile.n ? load_bytes(scale + i * stride + b, chunk.blocks - b)
                            : _mm_setzero_si128();
    }
    avx512::transpose16(v);  // v[j]: block b + j of every output
#pragma GCC unroll 16
    for (int64_t j = 0; j < kLanes; ++j) {
      if (b + j < chunk.blocks) {
        _mm512_store_ps(out + (b + j) * kNibblePanel, exponents_of(v[j]));
      }
    }
  }
}

}  // namespace
}  // namespace mezzotint::avx512_vnni
