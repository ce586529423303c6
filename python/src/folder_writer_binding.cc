// _core.FolderWriter: what save() stands on.
#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.h"
#include "folder_writer.h"
#include "mezzotint/error.h"
#include "torch_tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

using Form = std::tuple<std::string, std::string, std::vector<int64_t>>;  // name, dtype, shape

std::vector<TensorPlan> plan_of_forms(const std::vector<Form>& forms) {
  std::vector<TensorPlan> plan;
  for (const auto& [name, dtype_name, shape] : forms) {
    const std::optional<DType> dtype = dtype_from_name(dtype_name);
    if (!dtype) {
      throw Error(ErrorCode::kUnsupported, "a tensor has a dtype that files do not hold",
                  {.tensor = name, .found = dtype_name});
    }
    plan.push_back({.name = name, .dtype = *dtype, .shape = shape});
  }
  return plan;
}

void make(FolderWriter* self, const std::string& out, const std::vector<Form>& forms,
          const std::string& quant_type, const std::map<std::string, std::string>& facts,
          const std::vector<std::pair<std::string, std::string>>& attentions,
          const std::string& config, int64_t max_shard_bytes, bool overwrite) {
  const nb::gil_scoped_release no_gil;
  new (self) FolderWriter(out, plan_of_forms(forms),
                          {.quant_type = quant_type,
                           .facts = facts,
                           .attentions = attentions,
                           .config = config,
                           .max_shard_bytes = max_shard_bytes,
                           .existing = overwrite ? Existing::kReplace : Existing::kRefuse});
}

}  // namespace

void bind_folder_writer(nb::module_& module) {
  nb::class_<FolderWriter>(module, "FolderWriter", "A quantized folder, tensor by tensor.")
      .def("__init__", &make, "out"_a, "plan"_a, "quant_type"_a, "facts"_a, "attentions"_a,
           "config"_a, "max_shard_bytes"_a, "overwrite"_a)
      .def(
          "put",
          [](FolderWriter& self, const std::string& name, const TorchTensor& tensor) {
            const nb::gil_scoped_release no_gil;
            self.put(name, borrowed(tensor));
          },
          "name"_a, "tensor"_a)
      .def(
          "put_layer",
          [](FolderWriter& self, const std::string& name, const ModuleLayer& layer,
             const std::vector<uintptr_t>& addresses) {
            const nb::gil_scoped_release no_gil;
            self.put_layer(name, layer, addresses);
          },
          "name"_a, "layer"_a, "addresses"_a)
      .def("finish", [](FolderWriter& self) {
        const nb::gil_scoped_release no_gil;
        self.finish();
      });
}

}  // namespace mezzotint
