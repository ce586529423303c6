// One pass over a row of a weight and its codes: what weight_decode.h, add_pairs and count_outside
// (weight_ops.h) do in five, each over memory.
//
//   if (const AddCodedRow add = coded_row_op(active_isa())) add(row, sums);
//
// The sums are those of the five passes to the last bit: in the order of 16 lanes, and the values
// of the codes by the same products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu_features.h"
#include "kernels/weight_ops.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// A code stands for (code - offset) * scale * outer. Of scales there is one per `width` elements:
// all k, or a multiple of kCodedRowWidth.
struct CodedRow {
  const void* w = nullptr;  // [k], aligned to its elements
  FloatType type = FloatType::kF32;
  const std::byte* codes = nullptr;  // code_row_bytes()
  Element element = Element::kInt8;  // kInt8, kInt4, kE4M3 or kE2M1
  int64_t k = 0;
  int64_t width = 0;
  const float* scale = nullptr;
  const float* offset = nullptr;  // like scale, or null: 0
  const float* outer = nullptr;   // per kDualBlock, or null: 1
  float lowest = 0;   // codes: w below (lowest - offset) * scale * outer or above that of
  float highest = 0;  // highest is outside
};
inline constexpr int64_t kCodedRowWidth = 16;

struct CodedRowSums {
  PairSums pairs;  // w beside what the codes stand for
  int64_t outside = 0;
};

using AddCodedRow = void (*)(const CodedRow& row, CodedRowSums& sums) noexcept;

AddCodedRow coded_row_op(Isa isa);  // null where the ISA has none

}  // namespace mezzotint
