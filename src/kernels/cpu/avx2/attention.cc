// f32 attention, and FP8 attention without bf16 dot products: FMA on ymm registers.
#include "kernels/cpu/avx2/vec16.h"

#define MZ_ISA avx2

namespace mezzotint::avx2 {
namespace {

constexpr int kPerStep = 1;
constexpr int kStripRows = 6;
constexpr int kPanelVectors = 1;  // two ymm: 12 accumulators, 2 of columns, 1 of a row

[[gnu::always_inline]] inline Vec words_of_run(const Vec (&v)[kPerStep]) { return v[0]; }
[[gnu::always_inline]] inline Vec words_of_lanes(const Vec (&v)[kPerStep]) { return v[0]; }
[[gnu::always_inline]] inline Vec multiply_words(Vec a, Vec b, Vec acc) {
  return multiply_add(a, b, acc);
}

}  // namespace
}  // namespace mezzotint::avx2

#include "kernels/flash_attention.inl"
