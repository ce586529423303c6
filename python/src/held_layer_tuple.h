// What Python gets of a HeldLayer: the layer, and its buffers as torch tensors by name.
#pragma once

#include <nanobind/nanobind.h>

#include "module_layer.h"
#include "torch_tensor.h"

namespace mezzotint {

inline nanobind::object part_view(const ModulePart& part) {
  const bool is_bytes = part.tensor.dtype() == DType::kU8;
  return is_bytes ? torch_view<uint8_t>(part.tensor) : torch_view<float>(part.tensor);
}

inline nanobind::tuple held_tuple(const HeldLayer& held) {
  nanobind::dict parts;
  for (const ModulePart& part : held.parts) parts[part.name.c_str()] = part_view(part);
  return nanobind::make_tuple(held.layer, parts);
}

}  // namespace mezzotint
