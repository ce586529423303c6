#include "solve/widen.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/float_ops.h"
#include "kernels/weight_ops.h"
#include "numerics/bf16.h"
#include "numerics/f16.h"

namespace mezzotint {
namespace {

// Tensors of a file may stand at any byte, so elements are copied out and in.
template <typename T, typename Convert>
void read_elements(const Tensor& t, int64_t first, std::span<float> values, Convert convert) {
  const std::byte* source = t.raw() + first * static_cast<int64_t>(sizeof(T));
  for (float& value : values) {
    T element;
    std::memcpy(&element, source, sizeof(T));
    value = convert(element);
    source += sizeof(T);
  }
}

template <typename T, typename Convert>
void write_elements(std::span<const float> values, const Tensor& t, int64_t first,
                    Convert convert) {
  std::byte* target = t.buffer().mutable_data() + first * static_cast<int64_t>(sizeof(T));
  for (const float value : values) {
    const T element = convert(value);
    std::memcpy(target, &element, sizeof(T));
    target += sizeof(T);
  }
}

}  // namespace

std::optional<FloatType> vector_type(const Tensor& t) {
  const int64_t bytes = dtype_size(t.dtype());
  if (reinterpret_cast<uintptr_t>(t.raw()) % static_cast<uintptr_t>(bytes) != 0) return {};
  if (t.dtype() == DType::kF32) return FloatType::kF32;
  if (t.dtype() == DType::kBF16) return FloatType::kBF16;
  return t.dtype() == DType::kF16 ? std::optional(FloatType::kF16) : std::nullopt;
}

void widen_range(const Tensor& t, int64_t first, std::span<float> values) {
  const int64_t count = static_cast<int64_t>(values.size());
  MZ_CHECK(is_floating(t.dtype()) && first >= 0 && first + count <= t.size());
  if (const std::optional<FloatType> type = vector_type(t)) {
    const std::byte* from = t.raw() + first * dtype_size(t.dtype());
    float_ops(active_isa()).widen(from, *type, values.data(), count);
  } else if (t.dtype() == DType::kF32) {
    read_elements<float>(t, first, values, [](float v) { return v; });
  } else if (t.dtype() == DType::kBF16) {
    read_elements<uint16_t>(t, first, values, bf16_to_float);
  } else if (t.dtype() == DType::kF16) {
    read_elements<uint16_t>(t, first, values, f16_to_float);
  } else {
    read_elements<double>(t, first, values, [](double v) { return static_cast<float>(v); });
  }
}

void widen_into(const Tensor& t, std::span<float> values) {
  MZ_CHECK(static_cast<int64_t>(values.size()) == t.size());
  widen_range(t, 0, values);
}

Tensor widened(const Tensor& t) {
  Tensor wide = Tensor::allocate(DType::kF32, t.shape());
  widen_into(t, {wide.mutable_data<float>(), static_cast<size_t>(wide.size())});
  return wide;
}

float amax_of_range(const Tensor& t, int64_t first, int64_t count) {
  MZ_CHECK(is_floating(t.dtype()) && first >= 0 && first + count <= t.size());
  if (const std::optional<FloatType> type = vector_type(t)) {
    const std::byte* from = t.raw() + first * dtype_size(t.dtype());
    return weight_ops(active_isa()).amax(from, *type, count);
  }
  std::vector<float> values(static_cast<size_t>(count));
  widen_range(t, first, values);
  return weight_ops(active_isa()).amax(values.data(), FloatType::kF32, count);
}

void narrow_range(std::span<const float> values, const Tensor& t, int64_t first) {
  MZ_CHECK(is_floating(t.dtype()) && first >= 0 &&
           first + static_cast<int64_t>(values.size()) <= t.size());
  if (const std::optional<FloatType> type = vector_type(t)) {
    std::byte* to = t.buffer().mutable_data() + first * dtype_size(t.dtype());
    float_ops(active_isa()).narrow(values.data(), to, *type, static_cast<int64_t>(values.size()));
  } else if (t.dtype() == DType::kF32) {
    write_elements<float>(values, t, first, [](float v) { return v; });
  } else if (t.dtype() == DType::kBF16) {
    write_elements<uint16_t>(values, t, first, bf16_from_float);
  } else if (t.dtype() == DType::kF16) {
    write_elements<uint16_t>(values, t, first, f16_from_float);
  } else {
    write_elements<double>(values, t, first, [](float v) { return static_cast<double>(v); });
  }
}

}  // namespace mezzotint
