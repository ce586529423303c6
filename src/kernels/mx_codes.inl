// Codes of an MX block. Included after an ISA's vec16.h, with MZ_ISA naming its
// namespace; guarded because quantize_mx.inl and weight_ops.inl use it.
#ifndef MEZZOTINT_KERNELS_MX_CODES_INL_
#define MEZZOTINT_KERNELS_MX_CODES_INL_

#include <cstdint>

#include "numerics/quant_scheme.h"

namespace mezzotint::MZ_ISA {
namespace {

template <Element kElement, typename V>
[[gnu::always_inline]] inline void store_elements(uint8_t* codes, const V& v) {
  if constexpr (kElement == Element::kE4M3) {
    store_small_e4m3(codes, v);
  } else {
    store_small_e2m1(codes, v);
  }
}

// Whether the ISA makes codes of v * 2^(127 - byte) without that product, and those codes.
template <Element kElement, typename V>
constexpr bool kMakesScaledCodes =
    requires(uint8_t* codes, const V& v) { store_scaled_codes<kElement>(codes, v, uint8_t{0}); };
template <Element kElement, typename V>
[[gnu::always_inline]] inline void store_scaled(uint8_t* codes, const V& v, uint8_t byte) {
  store_scaled_codes<kElement>(codes, v, byte);
}

}  // namespace
}  // namespace mezzotint::MZ_ISA

#endif  // MEZZOTINT_KERNELS_MX_CODES_INL_
