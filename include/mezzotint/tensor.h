// Typed bytes with a shape: what files hold and what callers hand in.
//
//   Tensor w = store.read("proj_out.weight");     // mmapped, no copy
//   const float* p = w.data<float>();             // throws if w is not F32
//
// Tensor and Buffer are cheap handles that share ownership; the bytes behind a read-only handle
// never change, so handles may be used from several threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mezzotint/export.h"

namespace mezzotint {

// The element types of safetensors files; names and sizes in src/tensor/dtypes.inc.
enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
};

MZ_API int64_t dtype_size(DType dtype) noexcept;           // bytes of one element
MZ_API std::string_view dtype_name(DType dtype) noexcept;  // safetensors spelling: "BF16"
MZ_API std::optional<DType> dtype_from_name(std::string_view name) noexcept;
MZ_API bool is_floating(DType dtype) noexcept;  // F16, BF16, F32, F64 (not the 8-bit formats)

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::kU8;
}
template <>
constexpr DType dtype_of<int8_t>() {
  return DType::kI8;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::kF64;
}

using Shape = std::vector<int64_t>;  // row-major; {} is a scalar

MZ_API int64_t element_count(const Shape& shape);        // throws Error on negative or overflow
MZ_API int64_t byte_count(DType dtype, const Shape& s);  // throws Error on overflow
MZ_API std::string to_string(const Shape& shape);        // "[3072,1]"

enum class DeviceType : uint8_t { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

// Shared handle to a range of bytes: owned (64-byte aligned), borrowed from the caller, or mapped
// from a file. Mapped and const-borrowed bytes are read-only.
class MZ_API Buffer {
 public:
  Buffer() = default;
  static Buffer allocate(int64_t bytes);  // uninitialised; throws Error(kResources)
  static Buffer borrow(void* data, int64_t bytes, std::shared_ptr<const void> keep_alive = nullptr);
  static Buffer borrow_const(const void* data, int64_t bytes,
                             std::shared_ptr<const void> keep_alive = nullptr);

  const std::byte* data() const noexcept { return data_; }
  std::byte* mutable_data() const;  // throws Error(kInternal) on read-only bytes
  int64_t size() const noexcept { return size_; }
  bool read_only() const noexcept { return read_only_; }
  bool owned() const noexcept { return owned_; }
  Device device() const noexcept { return device_; }
  Buffer slice(int64_t offset, int64_t bytes) const;  // shares ownership; throws when out of range
  std::span<const std::byte> bytes() const noexcept { return {data_, static_cast<size_t>(size_)}; }

 private:
  std::shared_ptr<const void> keep_alive_;
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  bool read_only_ = false;
  bool owned_ = false;
  Device device_;
};

// A contiguous row-major tensor.
class MZ_API Tensor {
 public:
  Tensor() = default;
  // Throws Error(kUsage) unless the shape fills the buffer exactly and the bytes are aligned to the
  // element type.
  Tensor(DType dtype, Shape shape, Buffer buffer);
  static Tensor allocate(DType dtype, Shape shape);
  template <typename T>
  static Tensor copy_of(std::span<const T> values, Shape shape);

  DType dtype() const noexcept { return dtype_; }
  const Shape& shape() const noexcept { return shape_; }
  int64_t dim(size_t i) const { return shape_.at(i); }
  int64_t size() const noexcept { return size_; }  // elements
  int64_t byte_size() const noexcept { return buffer_.size(); }
  const Buffer& buffer() const noexcept { return buffer_; }
  const std::byte* raw() const noexcept { return buffer_.data(); }
  bool empty() const noexcept { return size_ == 0; }

  template <typename T>
  const T* data() const {
    require(dtype_of<T>());
    return reinterpret_cast<const T*>(buffer_.data());
  }
  template <typename T>
  T* mutable_data() const {
    require(dtype_of<T>());
    return reinterpret_cast<T*>(buffer_.mutable_data());
  }
  Tensor reshaped(Shape shape) const;  // same bytes, other shape; throws when sizes differ

 private:
  void require(DType dtype) const;  // throws Error(kInternal) when this tensor has another dtype
  void require_count(int64_t elements) const;  // throws Error(kUsage) unless size() == elements

  DType dtype_ = DType::kF32;
  Shape shape_{0};
  int64_t size_ = 0;
  Buffer buffer_;
};

template <typename T>
Tensor Tensor::copy_of(std::span<const T> values, Shape shape) {
  Tensor t = allocate(dtype_of<T>(), std::move(shape));
  t.require_count(static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), t.template mutable_data<T>());
  return t;
}

// Views of a matrix with unit column stride, as kernels take them. x:[m,k] -> rows = m, cols = k.
struct ConstMatrix {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // F32, BF16 or F16
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;  // elements
};

struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;

  operator ConstMatrix() const noexcept { return {data, dtype, rows, cols, row_stride}; }
};

}  // namespace mezzotint
