// The contract of every op that a kernel row implements.
//
// A kernel computes one tile and knows nothing of threads, files or tensors: plain pointers in,
// plain pointers out, noexcept. linear_driver.h splits a call into tiles by shape alone, so results
// are the same for any number of threads. Files under cpu/<isa>/ include this header and numerics
// only.
//
// Letters: x:[m,k] activations, w:[n,k] weights, y:[m,n] output; y = x w^T + bias.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mezzotint/compat.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

// --- activation quantizer: rows of x -> integer codes, one scale per row -------------------------

// A scale and zero point from the file, the same for every row.
struct StaticScale {
  float scale = 1.0f;
  float zero_point = 0.0f;

  bool operator==(const StaticScale&) const = default;
};

// Measured per row (numerics/int8.h, int4.h: int4 codes take a byte each), or, with `fixed`, given:
// scale[m] is then 1, or NaN where the row holds a value that is not finite.
// Codes are padded with zeros from k to q_stride = padded_k(k), so that GEMM rows may read whole
// vectors.
struct QuantizeRowsTile {
  const void* x = nullptr;  // [m,k]
  FloatType x_type = FloatType::kF32;
  int64_t x_stride = 0;        // elements
  const float* mul = nullptr;  // [k] smoothing, x*mul in f32 before the scale; or null
  int64_t k = 0;
  Element element = Element::kInt8;    // or kInt4
  Compat compat = Compat::kNone;       // kUpstream: the reference row only (numerics/upstream.h)
  const StaticScale* fixed = nullptr;  // kInt8 only
  int8_t* q = nullptr;                 // [m,q_stride]
  int64_t q_stride = 0;                // bytes
  float* scale = nullptr;              // [m]
  int32_t* sum = nullptr;              // [m] sum of the codes of a row
  int64_t m_begin = 0;
  int64_t m_end = 0;
};
using QuantizeRowsFn = void (*)(const QuantizeRowsTile&) noexcept;

// --- activation quantizer: rows of x -> MX codes (numerics/mx.h, dual_level.h) -------------------

// The floor rule, elements half to even. One code per byte, no padding; the last block of a row may
// be short.
struct QuantizeMxTile {
  const void* x = nullptr;  // [m,k]
  FloatType x_type = FloatType::kF32;
  int64_t x_stride = 0;        // elements
  const float* mul = nullptr;  // [k] smoothing in f32, or null
  int64_t k = 0;
  Element element = Element::kE4M3;  // or kE2M1
  Compat compat = Compat::kNone;     // kUpstream: the reference row only
  uint8_t* q = nullptr;              // [m,k]
  uint8_t* block_scale = nullptr;    // [m, mx_blocks(k)] e8m0
  float* dual_scale = nullptr;       // [m, dual_blocks(k)], or null: one level
  int64_t m_begin = 0;
  int64_t m_end = 0;
};
using QuantizeMxFn = void (*)(const QuantizeMxTile&) noexcept;

// --- linear --------------------------------------------------------------------------------------

// What a linear row reads as x.
enum class ActivationForm : uint8_t {
  kFloat,     // x as the caller gave it (already smoothed when the plan says so)
  kInt8Rows,  // integer codes, one byte each: output of the row quantizer
  kMxRows,    // output of the MX quantizer
};

// A quantized w:[n,k] as a file describes it: codes row-major, two per byte where they have four
// bits (low nibble = even k, rows of (k + 1) / 2 bytes).
struct WeightView {
  const std::byte* codes = nullptr;
  Element element = Element::kF32;
  int64_t n = 0, k = 0;
  int64_t group = 0;                     // elements of k per scale; 0: one scale per row
  const float* scale = nullptr;          // [n] or [n, k / group]; null for MX and float weights
  const float* offset = nullptr;         // like scale: value = (code - offset) * scale; or null
  const uint8_t* block_scale = nullptr;  // MX: [n, mx_blocks(k)] e8m0
  const float* dual_scale = nullptr;     // dual level: [n, dual_blocks(k)]
};

// What a row is asked to serve.
struct LinearQuery {
  int64_t m = 0, n = 0, k = 0;
  FloatType x_type = FloatType::kF32;  // of x as the caller gave it; kFloat rows alone read it
  QuantScheme weight{};
};

struct LinearTile {
  const void* x = nullptr;  // kFloat
  FloatType x_type = FloatType::kF32;
  int64_t x_stride = 0;        // elements
  const int8_t* xq = nullptr;  // kInt8Rows; kMxRows: codes of x_element
  int64_t xq_stride = 0;       // bytes
  const float* x_scale = nullptr;
  const int32_t* x_sum = nullptr;
  Element x_element = Element::kInt8;
  const uint8_t* x_block_scale = nullptr;  // kMxRows: [m, mx_blocks(k)]
  const float* x_dual_scale = nullptr;     // kMxRows: [m, dual_blocks(k)] or null

  const std::byte* w = nullptr;  // payload of the packed weight, 64-byte aligned
  Element w_element = Element::kF32;
  const float* w_scale = nullptr;  // [n] per channel, or null for float weights
  int64_t w_group = 0;             // these four: see WeightView
  const float* w_offset = nullptr;
  const uint8_t* w_block_scale = nullptr;
  const float* w_dual_scale = nullptr;
  const int32_t* acc_bias = nullptr;  // [n] added to the integer sum of codes times codes, or null
  const float* bias = nullptr;        // [n] or null
  const float* addend = nullptr;      // [m,n] added to y before it is rounded, or null: kFloat rows
  int64_t addend_stride = 0;
  int64_t m = 0, n = 0, k = 0;  // of the whole call

  void* y = nullptr;  // [m,n]; y_type differs from x_type when x was smoothed into f32
  FloatType y_type = FloatType::kF32;
  int64_t y_stride = 0;

  Compat compat = Compat::kNone;  // kUpstream: the reference row only

  int64_t m_begin = 0, m_end = 0;  // this tile
  int64_t n_begin = 0, n_end = 0;
  std::byte* scratch = nullptr;  // row's scratch_bytes(), private to this tile, 64-byte aligned
};
using LinearFn = void (*)(const LinearTile&) noexcept;

// --- attention: one block of query rows of one head against all its keys -------------------------

// Rows of k and v that the online softmax takes at once and, as e4m3, share a scale; rows of q that
// a tile holds and that share one (docs/numerics.md).
inline constexpr int64_t kKeyBlock = 256;
inline constexpr int64_t kQueryBlock = 128;

enum class AttentionForm : uint8_t {
  kFloat,  // q, k and v as they are; the softmax's numerators in the row's operand type
  kFp8,    // q, k, v and the numerators as e4m3
};

// Rows of q, k or v of one head on their way into the order in which a row reads them: up to
// kQueryBlock rows of q, up to kKeyBlock of k or v.
struct AttentionPack {
  AttentionForm form = AttentionForm::kFloat;
  const void* x = nullptr;  // [rows,dim]
  FloatType x_type = FloatType::kF32;
  int64_t x_stride = 0;  // elements
  int64_t rows = 0, dim = 0;
  float scale = 1.0f;           // kFp8: x becomes e4m3(x / scale), or 0 where it is not positive
  std::byte* packed = nullptr;  // query_bytes(dim) or key_bytes(dim)
};
using AttentionPackFn = void (*)(const AttentionPack&) noexcept;

struct AttentionTile {
  AttentionForm form = AttentionForm::kFloat;
  const std::byte* q = nullptr;  // packed, with one scale
  const std::byte* k = nullptr;  // packed blocks, key_bytes(dim) apart
  const std::byte* v = nullptr;
  float q_scale = 1.0f;            // these three: kFp8 only
  const float* k_scale = nullptr;  // per block
  const float* v_scale = nullptr;
  int64_t q_rows = 0, keys = 0, dim = 0;
  float scale = 1.0f;            // of the scores
  float p_scale = 1.0f;          // of the numerators before they become e4m3; kFloat: 1
  float* out = nullptr;          // [q_rows,dim]; zeros when there are no keys
  std::byte* scratch = nullptr;  // scratch_bytes(dim), 64-byte aligned
};
using AttentionFn = void (*)(const AttentionTile&) noexcept;

// The parts of an attention row; sizes are multiples of 64 bytes.
struct AttentionOps {
  int64_t (*query_bytes)(int64_t dim) noexcept;
  int64_t (*key_bytes)(int64_t dim) noexcept;
  int64_t (*scratch_bytes)(int64_t dim) noexcept;
  AttentionPackFn pack_queries;
  AttentionPackFn pack_keys;
  AttentionPackFn pack_values;
  AttentionFn run;
};

constexpr int64_t mx_blocks(int64_t k) { return (k + 31) / 32; }
constexpr int64_t dual_blocks(int64_t k) { return (k + 511) / 512; }

// Bytes of one row of k codes as a file and the row-major layouts hold it.
constexpr int64_t code_row_bytes(Element element, int64_t k) {
  return element == Element::kInt4 || element == Element::kE2M1 ? (k + 1) / 2 : k;
}

// Codes are padded to a multiple of 64; a further 64 keep rows off the same L1 set when the stride
// would be a multiple of 1024 bytes (64 sets x 64 bytes, 8 ways: 14 rows would thrash).
constexpr int64_t padded_k(int64_t k) {
  const int64_t padded = (k + 63) / 64 * 64;
  return padded % 1024 == 0 ? padded + 64 : padded;
}

}  // namespace mezzotint
