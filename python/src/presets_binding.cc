// What is known of architectures, for models in memory: _core.Preset, patterns over names,
// rotations of attention. The presets' texts stay with the tool, which wrote presets.json into the
// wheel: the extension holds no YAML.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <tuple>
#include <vector>

#include "base/glob.h"
#include "bindings.h"
#include "quant/presets.h"
#include "solve/hadamard.h"
#include "torch_tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

// pattern over layers, why they stay float, whether only when activations are quantized
using KeptTuple = std::tuple<std::string, std::string, bool>;

void make_preset(Preset* self, const std::string& name, const std::vector<KeptTuple>& kept) {
  new (self) Preset();
  self->name = name;
  for (const auto& [pattern, why, with_activations_only] : kept) {
    self->kept.push_back(
        {.pattern = pattern,
         .why = why,
         .when = with_activations_only ? KeepWhen::kQuantizedActivations : KeepWhen::kAlways});
  }
}

// Those of `names` that the pattern matches.
std::vector<std::string> matches(const std::string& pattern,
                                 const std::vector<std::string>& names) {
  const NamePattern compiled(pattern);
  std::vector<std::string> matching;
  for (const std::string& name : names) {
    if (compiled.matches(name)) matching.push_back(name);
  }
  return matching;
}

}  // namespace

void bind_presets(nb::module_& module) {
  nb::class_<Preset>(module, "Preset", "Which layers of an architecture stay float.")
      .def("__init__", &make_preset, "name"_a, "kept"_a)
      .def_ro("name", &Preset::name);
  module.def("matches", &matches, "pattern"_a, "names"_a);
  module.def(
      "make_rotation",
      [](int64_t head_dim) { return torch_bytes(make_rotation(head_dim, kRotationSeed)); },
      "head_dim"_a, "As an export with FP8 attention writes it.");
}

}  // namespace mezzotint
