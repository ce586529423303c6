// Attention in whatever vectors the compiler has.
#include "kernels/cpu/portable/vec16.h"

#define MZ_ISA portable

namespace mezzotint::portable {
namespace {

constexpr int kPerStep = 1;
constexpr int kStripRows = 2;
constexpr int kPanelVectors = 1;

[[gnu::always_inline]] inline Vec words_of_run(const Vec (&v)[kPerStep]) { return v[0]; }
[[gnu::always_inline]] inline Vec words_of_lanes(const Vec (&v)[kPerStep]) { return v[0]; }
[[gnu::always_inline]] inline Vec multiply_words(Vec a, Vec b, Vec acc) {
  return multiply_add(a, b, acc);
}

}  // namespace
}  // namespace mezzotint::portable

#include "kernels/flash_attention.inl"
