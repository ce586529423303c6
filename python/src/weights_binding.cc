// _core.Weights: the tensors of a quantized folder that no layer takes.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/nearest.h"
#include "bindings.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/weights.h"
#include "torch_tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {

void bind_weights(nb::module_& module) {
  nb::class_<WeightStore>(module, "Weights", "The tensors beside a descriptor.")
      .def_static(
          "of_quantized",
          [](const std::string& path, std::optional<int> rank) {
            return WeightStore::open(find_quantized_files(path, rank).weights);
          },
          "path"_a, "rank"_a.none())
      .def_static(
          "of_file", [](const std::string& path) { return WeightStore::open_file(path); }, "path"_a)
      .def("metadata", &WeightStore::metadata)
      .def("names",
           [](const WeightStore& self) {
             std::vector<std::string> names;
             for (const TensorInfo& tensor : self.tensors()) names.push_back(tensor.name);
             return names;
           })
      .def("read", [](const WeightStore& self, const std::string& name) {
        return torch_bytes(self.read(name));  // mapped: read-only
      });
  module.def(
      "did_you_mean",
      [](const std::string& name, const std::vector<std::string>& candidates, size_t limit) {
        return did_you_mean(nearest_names(name, candidates, limit));
      },
      "name"_a, "candidates"_a, "limit"_a = 3);
}

}  // namespace mezzotint
