#include "mezzotint/tensor.h"

#include "mezzotint/error.h"

namespace mezzotint {

Tensor::Tensor(DType dtype, Shape shape, Buffer buffer)
    : dtype_(dtype),
      shape_(std::move(shape)),
      size_(element_count(shape_)),
      buffer_(std::move(buffer)) {
  const int64_t bytes = byte_count(dtype_, shape_);
  if (bytes != buffer_.size()) {
    throw Error(ErrorCode::kUsage, "the shape does not fill the buffer",
                {.expected = std::to_string(bytes) + " bytes for " +
                             std::string(dtype_name(dtype_)) + " " + to_string(shape_),
                 .found = std::to_string(buffer_.size())});
  }
  const auto address = reinterpret_cast<uintptr_t>(buffer_.data());
  if (bytes > 0 && address % static_cast<uintptr_t>(dtype_size(dtype_)) != 0) {
    throw Error(ErrorCode::kUsage, "the bytes of a tensor are not aligned to its element type",
                {.expected = "a multiple of " + std::to_string(dtype_size(dtype_)),
                 .fix = "copy the bytes into a buffer of Buffer::allocate"});
  }
}

Tensor Tensor::allocate(DType dtype, Shape shape) {
  const int64_t bytes = byte_count(dtype, shape);
  return Tensor(dtype, std::move(shape), Buffer::allocate(bytes));
}

Tensor Tensor::reshaped(Shape shape) const { return Tensor(dtype_, std::move(shape), buffer_); }

void Tensor::require(DType dtype) const {
  if (dtype == dtype_) return;
  throw Error(ErrorCode::kInternal, "a tensor is read as another type",
              {.expected = std::string(dtype_name(dtype)),
               .found = std::string(dtype_name(dtype_)) + " " + to_string(shape_)});
}

void Tensor::require_count(int64_t elements) const {
  if (elements == size_) return;
  throw Error(ErrorCode::kUsage, "the number of values does not fit the shape",
              {.expected = std::to_string(size_) + " for " + to_string(shape_),
               .found = std::to_string(elements)});
}

}  // namespace mezzotint
