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

#include "numerics/quant_scheme.h"

namespace mezzotint {

// --- activation quantizer: rows of x -> int8 codes, one scale per row (numerics/int8.h) ----------

// Codes are padded with zeros from k to q_stride = padded_k(k), so that GEMM rows may read whole
// vectors.
struct QuantizeRowsTile {
  const void* x = nullptr;  // [m,k]
  FloatType x_type = FloatType::kF32;
  int64_t x_stride = 0;        // elements
  const float* mul = nullptr;  // [k] smoothing, x*mul in f32 before the scale; or null
  int64_t k = 0;
  int8_t* q = nullptr;     // [m,q_stride]
  int64_t q_stride = 0;    // bytes
  float* scale = nullptr;  // [m]
  int32_t* sum = nullptr;  // [m] sum of the codes of a row
  int64_t m_begin = 0;
  int64_t m_end = 0;
};
using QuantizeRowsFn = void (*)(const QuantizeRowsTile&) noexcept;

// --- linear --------------------------------------------------------------------------------------

// What a linear row reads as x.
enum class ActivationForm : uint8_t {
  kFloat,     // x as the caller gave it (already smoothed when the plan says so)
  kInt8Rows,  // output of the activation quantizer
};

struct LinearTile {
  const void* x = nullptr;  // kFloat
  FloatType x_type = FloatType::kF32;
  int64_t x_stride = 0;        // elements
  const int8_t* xq = nullptr;  // kInt8Rows
  int64_t xq_stride = 0;       // bytes
  const float* x_scale = nullptr;
  const int32_t* x_sum = nullptr;

  const std::byte* w = nullptr;  // payload of the packed weight, 64-byte aligned
  Element w_element = Element::kF32;
  const float* w_scale = nullptr;  // [n] per channel, or null for float weights
  const float* bias = nullptr;     // [n] or null
  int64_t m = 0, n = 0, k = 0;     // of the whole call

  void* y = nullptr;  // [m,n]; y_type differs from x_type when x was smoothed into f32
  FloatType y_type = FloatType::kF32;
  int64_t y_stride = 0;

  int64_t m_begin = 0, m_end = 0;  // this tile
  int64_t n_begin = 0, n_end = 0;
  std::byte* scratch = nullptr;  // row's scratch_bytes(), private to this tile, 64-byte aligned
};
using LinearFn = void (*)(const LinearTile&) noexcept;

// --- FP8 attention: one block of query rows of one head against all its keys ---------------------

// Rows of k and v that share a scale, and that the online softmax takes at once; rows of q that
// share one (docs/numerics.md).
inline constexpr int64_t kFp8KeyBlock = 256;
inline constexpr int64_t kFp8QueryBlock = 128;

struct Fp8AttentionTile {
  const uint8_t* q = nullptr;  // [q_rows,dim] e4m3 codes with one scale; q_rows <= kFp8QueryBlock
  const uint8_t* k = nullptr;  // [keys,dim]
  const uint8_t* v = nullptr;  // [keys,dim]
  float q_scale = 0.0f;
  const float* k_scale = nullptr;  // per kFp8KeyBlock keys
  const float* v_scale = nullptr;
  int64_t q_rows = 0, keys = 0, dim = 0;
  float scale = 0.0f;            // of the scores
  float p_scale = 0.0f;          // of the softmax's numerators before they become e4m3
  float* out = nullptr;          // [q_rows,dim]; zeros when there are no keys
  std::byte* scratch = nullptr;  // row's scratch_bytes(dim), 64-byte aligned
};
using Fp8AttentionFn = void (*)(const Fp8AttentionTile&) noexcept;

// Codes are padded to a multiple of 64; a further 64 keep rows off the same L1 set when the stride
// would be a multiple of 1024 bytes (64 sets x 64 bytes, 8 ways: 14 rows would thrash).
constexpr int64_t padded_k(int64_t k) {
  const int64_t padded = (k + 63) / 64 * 64;
  return padded % 1024 == 0 ? padded + 64 : padded;
}

}  // namespace mezzotint
