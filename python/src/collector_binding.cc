// _core.Collector and what else Python does with files of statistics.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.h"
#include "format/model_identity.h"
#include "format/statistics.h"
#include "mezzotint/context.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "model_collector.h"
#include "slot_tuples.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

// name, linears that read it, K, rows
using InputTuple = std::tuple<std::string, std::vector<std::string>, int64_t, int64_t>;

std::vector<InputTuple> input_tuples(const Statistics& statistics) {
  std::vector<InputTuple> inputs;
  for (const InputStatistics& input : statistics.inputs) {
    inputs.emplace_back(input.name, input.members, input.k, input.rows);
  }
  return inputs;
}

void make(ModelCollector* self, const std::string& identity, int64_t steps,
          const std::vector<float>& sigmas, int64_t tokens, bool histograms,
          const std::vector<std::string>& gram, const std::vector<std::string>& linears,
          const std::optional<std::string>& earlier) {
  const nb::gil_scoped_release no_gil;
  std::optional<Statistics> known;
  if (earlier) known = read_statistics(*earlier);
  new (self) ModelCollector(
      identity,
      {.steps = steps, .sigmas = sigmas, .tokens = tokens, .histograms = histograms, .gram = gram},
      linears, known ? &*known : nullptr);
}

// dtype: 0 F32, 1 BF16, 2 F16.
void see(ModelCollector& self, int64_t input, uintptr_t address, int dtype, int64_t rows,
         int64_t cols, int64_t row_stride, int step, const ExecContext& context) {
  constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
  const nb::gil_scoped_release no_gil;
  self.see(input, {reinterpret_cast<const void*>(address), kDTypes[dtype], rows, cols, row_stride},
           step, context);
}

void merge(const std::vector<std::string>& files, const std::string& out) {
  const nb::gil_scoped_release no_gil;
  Statistics merged = read_statistics(files.at(0));
  for (size_t i = 1; i < files.size(); ++i) {
    merged = merge_statistics(merged, read_statistics(files[i]));
  }
  write_statistics(out, merged);
}

}  // namespace

void bind_collector(nb::module_& module) {
  nb::class_<ModelCollector>(module, "Collector", "The accumulators of a model's inputs.")
      .def("__init__", &make, "identity"_a, "steps"_a, "sigmas"_a, "tokens"_a, "histograms"_a,
           "gram"_a, "linears"_a, "earlier"_a.none())
      .def("add_input", &ModelCollector::add_input, "name"_a, "k"_a)
      .def("add_reader", &ModelCollector::add_reader, "input"_a, "linear"_a)
      .def("see", &see, "input"_a, "x"_a, "dtype"_a, "rows"_a, "cols"_a, "row_stride"_a, "step"_a,
           "context"_a)
      .def("inputs", [](const ModelCollector& self) { return input_tuples(self.statistics()); })
      .def(
          "write",
          [](const ModelCollector& self, const std::string& file) {
            const nb::gil_scoped_release no_gil;
            write_statistics(file, self.statistics());
          },
          "file"_a);
  module.def(
      "model_identity",
      [](const NamedTorchTensors& tensors) {
        const nb::gil_scoped_release no_gil;
        return model_identity(store_of(tensors));
      },
      "tensors"_a);
  module.def(
      "file_identity",
      [](const std::string& path) {
        const nb::gil_scoped_release no_gil;
        return model_identity(WeightStore::open(path));
      },
      "path"_a);
  module.def(
      "statistics_inputs",
      [](const std::string& file) { return input_tuples(read_statistics(file)); }, "file"_a);
  module.def("merge_statistics", &merge, "files"_a, "out"_a);
}

}  // namespace mezzotint
