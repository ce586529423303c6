// The layer behind one nn.Module: everything but its bytes, which lie in buffers of the module.
//
//   HeldLayer held = layer_of_tensors(description, tensors);   // of a file, or of a state_dict
//   // the module keeps held.parts: "packed" (U8) and small F32 ones
//   Linear linear = held.layer.bind(parts);                    // borrows them, copies nothing
//   LayerTensors file = held.layer.file_tensors(parts);        // byte for byte what was read
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mezzotint/compat.h"
#include "mezzotint/linear.h"
#include "mezzotint/tensor.h"
#include "mezzotint/timestep.h"
#include "mezzotint/weights.h"
#include "nn/linear_state.h"
#include "quant/algorithm.h"

namespace mezzotint {

struct LayerDescription {
  std::string name;
  std::string algorithm;
  int64_t n = 0;
  int64_t k = 0;
  Compat compat = Compat::kNone;
  TimestepPolicy policy{};
};

// A buffer of the module. "packed" holds the packed weight and whatever else is no F32, each at a
// multiple of 64 bytes; the others are the F32 members of LinearState by name.
struct ModulePart {
  std::string name;
  Tensor tensor;
};

class ModuleLayer {
 public:
  // `forms`: names (relative to the layer), dtypes and shapes of its tensors in the file.
  ModuleLayer(LayerDescription description, std::vector<TensorPlan> forms);

  const LayerDescription& description() const noexcept { return description_; }
  const std::vector<TensorPlan>& forms() const noexcept { return forms_; }
  const LinearState& outline() const noexcept { return outline_; }  // without bytes

  // The state's bytes as parts; what stays here is an outline.
  std::vector<ModulePart> take(const LinearState& state);

  struct PartShape {
    std::string name;
    DType dtype = DType::kU8;
    Shape shape;
  };
  const std::vector<PartShape>& part_shapes() const noexcept { return part_shapes_; }

  // `addresses` of the parts, in the order of part_shapes(); they must stay valid while the result
  // is used. Throws when "packed" does not start at a multiple of 64 or holds something else.
  Linear bind(std::span<const uintptr_t> addresses) const;
  LayerTensors file_tensors(std::span<const uintptr_t> addresses) const;
  ModuleLayer with_policy(TimestepPolicy policy) const;

  // This layer with y += (x down^T) up^T, down:[r,k] and up:[n,r] F32, in place of what it had of
  // the kind; empty tensors: with none. The part, "adapter", comes last.
  struct Adapted;
  Adapted with_adapter(const Tensor& down, const Tensor& up) const;

 private:
  // A range of "packed".
  struct Segment {
    int64_t offset = 0;
    DType dtype = DType::kU8;
    Shape shape;
  };

  Tensor take_segments(std::span<const Tensor> tensors);
  void borrow_adapter(uintptr_t address, LinearState& state) const;
  LinearState state(std::span<const uintptr_t> addresses) const;

  LayerDescription description_;
  std::vector<TensorPlan> forms_;
  LinearState outline_;
  std::vector<PartShape> part_shapes_;
  std::vector<Segment> segments_;  // in the order of kSegments (module_layer.cc)
  int64_t adapter_up_offset_ = 0;  // in the part "adapter", where there is one
};

struct ModuleLayer::Adapted {
  ModuleLayer layer;
  std::optional<ModulePart> part;
};

struct HeldLayer {
  ModuleLayer layer;
  std::vector<ModulePart> parts;
};

// A layer that quantize() read: its state, in the forms of the file.
HeldLayer hold_layer(LayerDescription description, std::vector<TensorPlan> forms,
                     const LinearState& state);

// `tensors` have names relative to the layer: "weight", "weight_scale", "div.mul_scale", ...
// Checked like those of a file.
HeldLayer layer_of_tensors(const LayerDescription& description, const LayerTensors& tensors);

// Quantizes a float weight; the tensors are those an export would write.
HeldLayer layer_of_float(const LayerDescription& description, const FloatLayer& source,
                         const WriteOptions& how, const ExecContext& ctx);

}  // namespace mezzotint
