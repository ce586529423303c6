// What kind of numbers a tensor holds once quantized: plain data, shared by plans, layouts and
// kernels.
#pragma once

#include <cstdint>

namespace mezzotint {

// Floats that callers hand in and get back.
enum class FloatType : uint8_t { kF32, kBF16, kF16 };

constexpr int64_t float_size(FloatType t) { return t == FloatType::kF32 ? 4 : 2; }

enum class Element : uint8_t { kF32, kBF16, kF16, kInt8, kInt4, kE4M3, kE2M1, kE5M2 };

// Over what one scale is shared. w:[n,k] per channel = per row of w; x:[m,k] per token = per row.
enum class Granularity : uint8_t {
  kNone,
  kPerTensor,
  kPerChannel,
  kPerToken,
  kPerGroup,
  kMxBlock,    // one e8m0 power of two per 32 elements of k
  kDualLevel,  // kMxBlock, and one float per 512 elements of k
};

struct QuantScheme {
  Element element = Element::kF32;
  Granularity granularity = Granularity::kNone;
  int64_t group = 0;        // elements along k that share a scale; kPerGroup only
  bool asymmetric = false;  // value = (code - offset) * scale

  bool operator==(const QuantScheme&) const = default;
};

}  // namespace mezzotint
