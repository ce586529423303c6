// f32 attention, and FP8 attention without bf16 dot products: FMA on zmm registers.
#include "kernels/cpu/avx512/vec16.h"

#define MZ_ISA avx512

namespace mezzotint::avx512 {
namespace {

constexpr int kPerStep = 1;
constexpr int kStripRows = 8;     // divides kQueryBlock
constexpr int kPanelVectors = 2;  // 16 accumulators: a latency of 4 cycles on one 512-bit pipe

[[gnu::always_inline]] inline Vec words_of_run(const Vec (&v)[kPerStep]) { return v[0]; }
[[gnu::always_inline]] inline Vec words_of_lanes(const Vec (&v)[kPerStep]) { return v[0]; }
[[gnu::always_inline]] inline Vec multiply_words(Vec a, Vec b, Vec acc) {
  return multiply_add(a, b, acc);
}

}  // namespace
}  // namespace mezzotint::avx512

#include "kernels/flash_attention.inl"
