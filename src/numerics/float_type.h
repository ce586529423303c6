// Reading and writing one element of an array whose float type is known at run time.
#pragma once

#include <cstdint>

#include "numerics/bf16.h"
#include "numerics/f16.h"
#include "numerics/quant_scheme.h"

namespace mezzotint {

[[gnu::always_inline]] inline float load_float(const void* data, FloatType type, int64_t i) {
  switch (type) {
    case FloatType::kF32:
      return static_cast<const float*>(data)[i];
    case FloatType::kBF16:
      return bf16_to_float(static_cast<const uint16_t*>(data)[i]);
    case FloatType::kF16:
      return f16_to_float(static_cast<const uint16_t*>(data)[i]);
  }
  __builtin_unreachable();
}

[[gnu::always_inline]] inline void store_float(float value, void* data, FloatType type, int64_t i) {
  switch (type) {
    case FloatType::kF32:
      static_cast<float*>(data)[i] = value;
      return;
    case FloatType::kBF16:
      static_cast<uint16_t*>(data)[i] = bf16_from_float(value);
      return;
    case FloatType::kF16:
      static_cast<uint16_t*>(data)[i] = f16_from_float(value);
      return;
  }
}

[[gnu::always_inline]] inline const void* offset_floats(const void* data, FloatType type,
                                                        int64_t elements) {
  return static_cast<const char*>(data) + elements * float_size(type);
}

[[gnu::always_inline]] inline void* offset_floats(void* data, FloatType type, int64_t elements) {
  return static_cast<char*>(data) + elements * float_size(type);
}

}  // namespace mezzotint
