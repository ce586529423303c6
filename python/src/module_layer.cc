#include "module_layer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/registry.h"
#include "mezzotint/error.h"
#include "quant/upstream_reader.h"

namespace mezzotint {
namespace {

constexpr int64_t kAlignment = 64;

struct FloatPart {
  const char* name;
  Tensor LinearState::* member;
};
constexpr std::array kFloatParts = {
    FloatPart{"weight_scale", &LinearState::weight_scale},
    FloatPart{"weight_offset", &LinearState::weight_offset},
    FloatPart{"dual_scale", &LinearState::dual_scale},
    FloatPart{"mul_scale", &LinearState::mul_scale},
    FloatPart{"bias", &LinearState::bias},
    FloatPart{"input_scale", &LinearState::input_scale},
    FloatPart{"input_offset", &LinearState::input_offset},
    FloatPart{"deq_scale", &LinearState::deq_scale},
};

constexpr const char* kAdapterPart = "adapter";  // two blobs: down, up

// What "packed" holds, in this order: blobs, then tensors that are no F32.
constexpr std::array kTensorSegments = {&LinearState::block_scale, &LinearState::quant_bias};
constexpr size_t kBlobs = 3;  // the weight and the two low-rank factors
constexpr size_t kSegments = kBlobs + kTensorSegments.size();

Tensor blob_tensor(const Buffer& blob) { return {DType::kU8, {blob.size()}, blob}; }

// Absent ones are empty.
std::array<Tensor, kSegments> segments_of(const LinearState& state) {
  std::array<Tensor, kSegments> segments = {blob_tensor(state.blob)};
  if (state.low_rank_down != nullptr) {
    segments[1] = blob_tensor(state.low_rank_down->blob);
    segments[2] = blob_tensor(state.low_rank_up->blob);
  }
  for (size_t i = 0; i < kTensorSegments.size(); ++i) {
    segments[kBlobs + i] = state.*kTensorSegments[i];
  }
  return segments;
}

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::shared_ptr<const LinearState> without_bytes(const std::shared_ptr<const LinearState>& factor) {
  if (factor == nullptr) return nullptr;
  LinearState outline = *factor;
  outline.blob = {};
  return std::make_shared<const LinearState>(std::move(outline));
}

std::shared_ptr<const LinearState> with_blob(const LinearState& factor, Buffer blob) {
  LinearState state = factor;
  state.blob = std::move(blob);
  return std::make_shared<const LinearState>(std::move(state));
}

// A module's buffers are its own; a state's may be those of a mapped file.
Tensor copied_floats(const Tensor& tensor) {
  const std::span<const float> values = {tensor.data<float>(), static_cast<size_t>(tensor.size())};
  return Tensor::copy_of(values, tensor.shape());
}

std::string full_name(const std::string& layer, const std::string& relative) {
  return layer + "." + relative;
}

LayerTensors named_from_root(const std::string& layer, const LayerTensors& tensors) {
  LayerTensors named = tensors;
  for (NamedTensor& t : named) t.name = full_name(layer, t.name);
  return named;
}

// As in files: the weight stands under X.linear where x is smoothed.
std::string prefix_of(const std::string& layer, const LayerTensors& tensors) {
  const bool below = std::ranges::any_of(
      tensors, [](const NamedTensor& t) { return t.name.starts_with("linear."); });
  return below ? layer + ".linear" : layer;
}

// Whether a layer of this kind has a tensor of this name.
bool is_of_contract(const FileContract& contract, std::string_view relative) {
  constexpr std::string_view kBelow = "linear.";
  const bool below = relative.starts_with(kBelow);
  const std::string_view bare = below ? relative.substr(kBelow.size()) : relative;
  return std::ranges::any_of(contract.params,
                             [&](const ParamSpec& spec) { return spec.suffix == bare; });
}

std::vector<TensorPlan> forms_of(const FileContract& contract, const LayerTensors& tensors) {
  std::vector<TensorPlan> forms;
  for (const NamedTensor& t : tensors) {
    if (!is_of_contract(contract, t.name)) continue;  // the caller's: an unexpected key
    forms.push_back({.name = t.name, .dtype = t.tensor.dtype(), .shape = t.tensor.shape()});
  }
  return forms;
}

}  // namespace

ModuleLayer::ModuleLayer(LayerDescription description, std::vector<TensorPlan> forms)
    : description_(std::move(description)), forms_(std::move(forms)) {}

std::vector<ModulePart> ModuleLayer::take(const LinearState& state) {
  std::vector<ModulePart> parts;
  parts.push_back({"packed", take_segments(segments_of(state))});
  outline_ = state;
  outline_.blob = {};
  outline_.low_rank_down = without_bytes(state.low_rank_down);
  outline_.low_rank_up = without_bytes(state.low_rank_up);
  for (const auto member : kTensorSegments) outline_.*member = {};
  for (const FloatPart& part : kFloatParts) {
    const Tensor& tensor = state.*part.member;
    if (!tensor.empty()) parts.push_back({part.name, copied_floats(tensor)});
    outline_.*part.member = {};
  }
  part_shapes_.clear();
  for (const ModulePart& part : parts) {
    part_shapes_.push_back({part.name, part.tensor.dtype(), part.tensor.shape()});
  }
  return parts;
}

// One after the other; a weight that is alone is taken as it is.
Tensor ModuleLayer::take_segments(std::span<const Tensor> tensors) {
  int64_t size = 0;
  segments_.clear();
  for (const Tensor& tensor : tensors) {
    segments_.push_back({size, tensor.dtype(), tensor.shape()});
    size += tensor.empty() ? 0 : aligned(tensor.byte_size());
  }
  if (size == aligned(tensors[0].byte_size())) return tensors[0];
  Tensor packed = Tensor::allocate(DType::kU8, {size});
  uint8_t* out = packed.mutable_data<uint8_t>();
  std::memset(out, 0, static_cast<size_t>(size));
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].empty()) continue;
    std::memcpy(out + segments_[i].offset, tensors[i].raw(),
                static_cast<size_t>(tensors[i].byte_size()));
  }
  return packed;
}

LinearState ModuleLayer::state(std::span<const uintptr_t> addresses) const {
  MZ_CHECK(addresses.size() == part_shapes_.size());
  const auto borrow = [](uintptr_t address, DType dtype, const Shape& shape) {
    const void* data = reinterpret_cast<const void*>(address);
    return Tensor(dtype, shape, Buffer::borrow_const(data, byte_count(dtype, shape)));
  };
  const auto segment = [&](size_t i) {
    const Segment& s = segments_[i];
    return borrow(addresses[0] + static_cast<uintptr_t>(s.offset), s.dtype, s.shape);
  };
  LinearState state = outline_;
  state.blob = segment(0).buffer();
  if (state.low_rank_down != nullptr) {
    state.low_rank_down = with_blob(*outline_.low_rank_down, segment(1).buffer());
    state.low_rank_up = with_blob(*outline_.low_rank_up, segment(2).buffer());
  }
  for (size_t i = 0; i < kTensorSegments.size(); ++i) {
    state.*kTensorSegments[i] = segment(kBlobs + i);
  }
  for (size_t i = 1; i < part_shapes_.size(); ++i) {
    const PartShape& shape = part_shapes_[i];
    if (shape.name == kAdapterPart) {
      borrow_adapter(addresses[i], state);
      continue;
    }
    const auto part =
        std::ranges::find_if(kFloatParts, [&](const FloatPart& p) { return p.name == shape.name; });
    state.*part->member = borrow(addresses[i], shape.dtype, shape.shape);
  }
  return state;
}

Linear ModuleLayer::bind(std::span<const uintptr_t> addresses) const {
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (addresses[i] != 0) continue;
    throw Error(ErrorCode::kUsage, "a buffer of the layer holds no bytes",
                {.layer = description_.name,
                 .tensor = part_shapes_.at(i).name,
                 .expected = "a tensor on the CPU",
                 .found = "one without memory (the meta device?)",
                 .fix = "load_state_dict() fills it"});
  }
  const Linear linear(description_.name, description_.n, description_.k,
                      std::make_shared<const LinearState>(state(addresses)));
  (void)packed_header(linear.state()->blob);
  return linear;
}

LayerTensors ModuleLayer::file_tensors(std::span<const uintptr_t> addresses) const {
  const LinearParams params = params_of(state(addresses));
  return rewrite_layer_params(
      served_algorithm(description_.algorithm, {.layer = description_.name}), params, forms_);
}

void ModuleLayer::borrow_adapter(uintptr_t address, LinearState& state) const {
  const auto* data = reinterpret_cast<const std::byte*>(address);
  const int64_t size = part_shapes_.back().shape[0];
  state.adapter_down =
      with_blob(*outline_.adapter_down, Buffer::borrow_const(data, adapter_up_offset_));
  state.adapter_up =
      with_blob(*outline_.adapter_up,
                Buffer::borrow_const(data + adapter_up_offset_, size - adapter_up_offset_));
}

ModuleLayer::Adapted ModuleLayer::with_adapter(const Tensor& down, const Tensor& up) const {
  Adapted adapted = {.layer = *this, .part = std::nullopt};
  ModuleLayer& layer = adapted.layer;
  std::erase_if(layer.part_shapes_,
                [](const PartShape& part) { return part.name == kAdapterPart; });
  layer.outline_.adapter_down = layer.outline_.adapter_up = nullptr;
  if (down.empty()) return adapted;
  if (down.shape().size() != 2 || up.shape().size() != 2 || down.dim(0) != up.dim(1) ||
      down.dim(1) != description_.k || up.dim(0) != description_.n) {
    throw Error(ErrorCode::kUsage, "an adapter does not fit the layer",
                {.layer = description_.name,
                 .expected = fmt::format("[rank,{}] and [{},rank]", description_.k, description_.n),
                 .found = to_string(down.shape()) + " and " + to_string(up.shape())});
  }
  const auto down_state = factor_state(down, outline_.isa);
  const auto up_state = factor_state(up, outline_.isa);
  layer.adapter_up_offset_ = aligned(down_state->blob.size());
  Tensor part = Tensor::allocate(DType::kU8, {layer.adapter_up_offset_ + up_state->blob.size()});
  auto* bytes = part.mutable_data<uint8_t>();
  std::memset(bytes, 0, static_cast<size_t>(part.byte_size()));
  for (const auto& [blob, offset] : {std::pair(down_state->blob, int64_t{0}),
                                     std::pair(up_state->blob, layer.adapter_up_offset_)}) {
    std::memcpy(bytes + offset, blob.data(), static_cast<size_t>(blob.size()));
  }
  layer.outline_.adapter_down = without_bytes(down_state);
  layer.outline_.adapter_up = without_bytes(up_state);
  layer.part_shapes_.push_back({kAdapterPart, DType::kU8, part.shape()});
  adapted.part = ModulePart{kAdapterPart, std::move(part)};
  return adapted;
}

ModuleLayer ModuleLayer::with_policy(TimestepPolicy policy) const {
  ModuleLayer other = *this;
  other.description_.policy = policy;
  other.outline_.policy = std::move(policy);
  return other;
}

HeldLayer hold_layer(LayerDescription description, std::vector<TensorPlan> forms,
                     const LinearState& state) {
  // What was left aside: a bias that the model's layer has not, what upstream does not compute
  // with.
  std::erase_if(forms, [&](const TensorPlan& form) {
    const bool is_bias = form.name == "bias" || form.name == "linear.bias";
    return (is_bias && state.bias.empty()) ||
           (form.name == "div.mul_scale" && state.mul_scale.empty());
  });
  description.algorithm = state.algorithm;
  description.policy = state.policy;
  HeldLayer held = {.layer = ModuleLayer(std::move(description), std::move(forms)), .parts = {}};
  held.parts = held.layer.take(state);
  return held;
}

HeldLayer layer_of_tensors(const LayerDescription& description, const LayerTensors& tensors) {
  const std::string& name = description.name;
  const AlgorithmRow& row = served_algorithm(description.algorithm, {.layer = name});
  const LayerTensors named = named_from_root(name, tensors);
  const LayerFile file = {.layer = name,
                          .prefix = prefix_of(name, tensors),
                          .file = "",
                          .tensor = [&](const std::string& wanted) -> std::optional<Tensor> {
                            const auto it = std::ranges::find_if(
                                named, [&](const auto& t) { return t.name == wanted; });
                            if (it == named.end()) return std::nullopt;
                            return it->tensor;
                          },
                          .dims = {.n = description.n, .k = description.k}};
  LinearParams params = read_layer_params(row, file);
  if (description.compat == Compat::kUpstream) leave_out_like_upstream(params);
  const auto state = make_linear_state(params, active_isa(), description.policy);
  return hold_layer(description, forms_of(contract_of(row, file), tensors), *state);
}

HeldLayer layer_of_float(const LayerDescription& description, const FloatLayer& source,
                         const WriteOptions& how, const ExecContext& ctx) {
  const AlgorithmRow& row = served_algorithm(description.algorithm, {.layer = description.name});
  LayerTensors tensors = write_layer_params(row, source, how, ctx);
  for (NamedTensor& t : tensors) t.name.erase(0, description.name.size() + 1);
  return layer_of_tensors(description, tensors);
}

}  // namespace mezzotint
