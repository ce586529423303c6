// Between our tensors and torch's, by address: no libtorch.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "mezzotint/error.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// A torch tensor on the bytes of `tensor`, which it keeps alive.
template <typename T>
nanobind::object torch_view(const Tensor& tensor) {
  auto* owner = new Tensor(tensor);
  const nanobind::capsule keep_alive(
      owner, [](void* held) noexcept { delete static_cast<Tensor*>(held); });
  const std::vector<size_t> shape(tensor.shape().begin(), tensor.shape().end());
  // Whoever hands out read-only bytes copies them before anybody can write.
  auto* data = const_cast<std::byte*>(tensor.raw());
  return nanobind::cast(nanobind::ndarray<nanobind::pytorch, T>(
      reinterpret_cast<T*>(data), shape.size(), shape.data(), keep_alive));
}

// Its bytes as torch.uint8, the dtype's name and the shape: torch views them as what they are.
inline nanobind::tuple torch_bytes(const Tensor& tensor) {
  const Tensor bytes(DType::kU8, {tensor.byte_size()}, tensor.buffer());
  return nanobind::make_tuple(torch_view<uint8_t>(bytes), std::string(dtype_name(tensor.dtype())),
                              nanobind::tuple(nanobind::cast(tensor.shape())));
}

// A contiguous tensor of torch's on the CPU, which outlives the call: address, dtype, shape.
using TorchTensor = std::tuple<uintptr_t, std::string, std::vector<int64_t>>;
inline Tensor borrowed(const TorchTensor& tensor) {
  const auto& [address, name, shape] = tensor;
  const std::optional<DType> dtype = dtype_from_name(name);
  if (!dtype) {
    throw Error(ErrorCode::kUnsupported, "a tensor has a dtype that files do not hold",
                {.found = name});
  }
  return {*dtype, shape,
          Buffer::borrow_const(reinterpret_cast<const void*>(address), byte_count(*dtype, shape))};
}

}  // namespace mezzotint
