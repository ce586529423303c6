// Runs of any length in blocks of 16 lanes, and the float types of ops.h as types. Included after
// an ISA's vec16.h, with MZ_ISA naming its namespace; guarded because several .inl files use it.
#ifndef MEZZOTINT_KERNELS_VEC16_BLOCKS_INL_
#define MEZZOTINT_KERNELS_VEC16_BLOCKS_INL_

#include <cstdint>

#include "numerics/quant_scheme.h"

namespace mezzotint::MZ_ISA {
namespace {

constexpr int64_t kLanes = 16;

// Whether 16 floats are one register, and a pass over them a quarter or half of what it is
// elsewhere.
constexpr bool kOneRegister = alignof(Vec) == sizeof(Vec);

struct WholeBlock {};
struct PartOfBlock {
  int64_t count;  // 1..15
};

// body(i, WholeBlock{}) for full blocks, then body(i, PartOfBlock{rest}).
template <typename Body>
[[gnu::always_inline]] inline void for_each_block(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, WholeBlock{});
  if (i < n) body(i, PartOfBlock{n - i});
}

[[gnu::always_inline]] inline Vec load_lanes(WholeBlock, const float* p, float) { return load(p); }
[[gnu::always_inline]] inline void store_lanes(WholeBlock, float* p, Vec v) { store(p, v); }

// Lanes behind the end hold `fill`.
inline Vec load_lanes(PartOfBlock part, const float* p, float fill) {
  float lanes[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) lanes[i] = i < part.count ? p[i] : fill;
  return load(lanes);
}
inline void store_lanes(PartOfBlock part, float* p, Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int64_t i = 0; i < part.count; ++i) p[i] = lanes[i];
}

// v with 0 in the lanes behind the end.
[[gnu::always_inline]] inline Vec zero_rest(WholeBlock, Vec v) { return v; }
inline Vec zero_rest(PartOfBlock part, Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  return load_lanes(part, lanes, 0.0f);
}

template <FloatType T>
struct FloatTypeTag {};

template <typename Body>
[[gnu::always_inline]] inline void with_float_type(FloatType type, const Body& body) {
  switch (type) {
    case FloatType::kF32:
      return body(FloatTypeTag<FloatType::kF32>{});
    case FloatType::kBF16:
      return body(FloatTypeTag<FloatType::kBF16>{});
    case FloatType::kF16:
      return body(FloatTypeTag<FloatType::kF16>{});
  }
}

template <FloatType T>
[[gnu::always_inline]] inline Vec load_block(const void* x, int64_t i) {
  if constexpr (T == FloatType::kF32) return load(static_cast<const float*>(x) + i);
  if constexpr (T == FloatType::kBF16) return load_bf16(static_cast<const uint16_t*>(x) + i);
  if constexpr (T == FloatType::kF16) return load_f16(static_cast<const uint16_t*>(x) + i);
}

template <FloatType T>
[[gnu::always_inline]] inline void store_block(void* y, int64_t i, Vec v) {
  if constexpr (T == FloatType::kF32) store(static_cast<float*>(y) + i, v);
  if constexpr (T == FloatType::kBF16) store_bf16(static_cast<uint16_t*>(y) + i, v);
  if constexpr (T == FloatType::kF16) store_f16(static_cast<uint16_t*>(y) + i, v);
}

template <FloatType T>
[[gnu::always_inline]] inline Vec load_as(FloatTypeTag<T>, WholeBlock, const void* x, int64_t i) {
  return load_block<T>(x, i);
}
template <FloatType T>
[[gnu::always_inline]] inline void store_as(FloatTypeTag<T>, WholeBlock, void* y, int64_t i,
                                            Vec v) {
  store_block<T>(y, i, v);
}

// Lanes behind the end are 0.
template <FloatType T>
Vec load_as(FloatTypeTag<T>, PartOfBlock part, const void* x, int64_t i) {
  alignas(64) unsigned char block[kLanes * 4] = {};
  __builtin_memcpy(block, static_cast<const char*>(x) + i * float_size(T),
                   static_cast<size_t>(part.count * float_size(T)));
  return load_block<T>(block, 0);
}
template <FloatType T>
void store_as(FloatTypeTag<T>, PartOfBlock part, void* y, int64_t i, Vec v) {
  alignas(64) unsigned char block[kLanes * 4];
  store_block<T>(block, 0, v);
  __builtin_memcpy(static_cast<char*>(y) + i * float_size(T), block,
                   static_cast<size_t>(part.count * float_size(T)));
}

}  // namespace
}  // namespace mezzotint::MZ_ISA

#endif  // MEZZOTINT_KERNELS_VEC16_BLOCKS_INL_
