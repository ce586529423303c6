// One row of codes, a byte each, into the form that a file holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "mezzotint/tensor.h"
#include "numerics/nibbles.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

inline bool has_nibbles(Element element) {
  return element == Element::kInt4 || element == Element::kE2M1;
}

// The dtype of rows of code_row_bytes(): bytes of two codes where they have four bits.
inline DType code_dtype(Element element) {
  if (has_nibbles(element)) return DType::kU8;
  return element == Element::kInt8 ? DType::kI8 : DType::kF8E4M3;
}

inline void store_code_row(Element element, const uint8_t* codes, int64_t k, std::byte* row) {
  if (has_nibbles(element)) {
    pack_nibbles_along_k(codes, k, reinterpret_cast<uint8_t*>(row));
  } else {
    std::memcpy(row, codes, static_cast<size_t>(k));
  }
}

}  // namespace mezzotint
