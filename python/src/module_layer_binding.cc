// _core.Layer, _core.BoundLinear and load_model(): what QuantLinear and quantize() stand on.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "held_layer_tuple.h"
#include "load_model.h"
#include "mezzotint/context.h"
#include "mezzotint/report.h"
#include "module_layer.h"
#include "quant/layer_selection.h"
#include "slot_tuples.h"
#include "torch_tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

using Form = std::tuple<std::string, std::string, std::vector<int64_t>>;

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16};  // by modules.py's codes

// A Linear on memory of Python's, which must stay while it runs.
struct BoundLinear {
  Linear linear;

  // dtype: of both x and y.
  void run(uintptr_t x, uintptr_t y, int dtype, int64_t rows, int64_t cols, int64_t row_stride,
           int step, const ExecContext& context) const {
    const nb::gil_scoped_release no_gil;
    const DType type = kDTypes[dtype];
    const ConstMatrix in = {reinterpret_cast<const void*>(x), type, rows, cols, row_stride};
    const Matrix out = {reinterpret_cast<void*>(y), type, rows, linear.out_features(),
                        linear.out_features()};
    if (step < 0) {
      linear.run(in, out, context);
    } else {
      linear.run(in, out, context.at_step(step));
    }
  }
};

// One x for all of them, quantized once for those that agree on how. y: address and row stride of
// each.
void run_bound_group(const std::vector<BoundLinear*>& members, uintptr_t x, int dtype, int64_t rows,
                     int64_t cols, int64_t row_stride,
                     const std::vector<std::pair<uintptr_t, int64_t>>& y, int step,
                     const ExecContext& context) {
  const nb::gil_scoped_release no_gil;
  const DType type = kDTypes[dtype];
  LinearGroup group;
  std::vector<Matrix> outputs;
  for (size_t i = 0; i < members.size(); ++i) {
    Linear& linear = members[i]->linear;
    group.members.push_back(&linear);
    const auto& [address, stride] = y.at(i);
    outputs.push_back(
        {reinterpret_cast<void*>(address), type, rows, linear.out_features(), stride});
  }
  const ConstMatrix in = {reinterpret_cast<const void*>(x), type, rows, cols, row_stride};
  run_group(group, in, outputs, step < 0 ? context : context.at_step(step));
}

Compat compat_of(bool upstream) { return upstream ? Compat::kUpstream : Compat::kNone; }

LayerDescription describe(const std::string& name, const std::string& algorithm, int64_t n,
                          int64_t k, bool upstream, const std::string& policy) {
  return {.name = name,
          .algorithm = algorithm,
          .n = n,
          .k = k,
          .compat = compat_of(upstream),
          .policy = policy.empty() ? TimestepPolicy() : TimestepPolicy::parse(policy)};
}

nb::tuple layer_from_tensors(const std::string& name, const std::string& algorithm, int64_t n,
                             int64_t k, bool upstream, const std::string& policy,
                             const NamedTorchTensors& tensors) {
  const auto hold = [&] {
    const nb::gil_scoped_release no_gil;
    LayerTensors named;
    for (const auto& [tensor_name, tensor] : tensors) {
      named.push_back({.name = tensor_name, .label = {}, .tensor = borrowed(tensor)});
    }
    return layer_of_tensors(describe(name, algorithm, n, k, upstream, policy), named);
  };
  return held_tuple(hold());
}

nb::tuple layer_from_float(const std::string& name, const std::string& algorithm,
                           const TorchTensor& weight, const std::optional<TorchTensor>& bias,
                           int64_t group_size, int64_t svd_rank, bool upstream,
                           const ExecContext& context) {
  const auto hold = [&] {
    const nb::gil_scoped_release no_gil;
    FloatLayer source = {.name = name, .weight = borrowed(weight), .bias = std::nullopt};
    if (bias) source.bias = borrowed(*bias);
    return layer_of_float(
        describe(name, algorithm, source.weight.dim(0), source.weight.dim(1), upstream, {}), source,
        {.group_size = group_size, .rank = branch_rank(svd_rank), .compat = compat_of(upstream)},
        context);
  };
  return held_tuple(hold());
}

// The layer with the branch, and the buffer "adapter" to keep beside the others, or None.
nb::tuple with_adapter(const ModuleLayer& self, const std::optional<TorchTensor>& down,
                       const std::optional<TorchTensor>& up) {
  const auto tensor = [](const std::optional<TorchTensor>& t) {
    return t ? borrowed(*t) : Tensor();
  };
  const ModuleLayer::Adapted adapted = self.with_adapter(tensor(down), tensor(up));
  return nb::make_tuple(adapted.layer, adapted.part ? part_view(*adapted.part) : nb::none());
}

nb::dict file_tensors(const ModuleLayer& self, const std::vector<uintptr_t>& addresses) {
  const auto unpack = [&] {
    const nb::gil_scoped_release no_gil;
    return self.file_tensors(addresses);
  };
  nb::dict tensors;
  for (const NamedTensor& t : unpack()) tensors[t.name.c_str()] = torch_bytes(t.tensor);
  return tensors;
}

std::vector<Form> forms(const ModuleLayer& self) {
  std::vector<Form> forms;
  for (const TensorPlan& form : self.forms()) {
    forms.emplace_back(form.name, dtype_name(form.dtype), form.shape);
  }
  return forms;
}

std::vector<Form> parts(const ModuleLayer& self) {
  std::vector<Form> parts;
  for (const auto& part : self.part_shapes()) {
    parts.emplace_back(part.name, dtype_name(part.dtype), part.shape);
  }
  return parts;
}

nb::dict report_dict(const Report& report) {
  nb::list layers;
  for (const LayerReport& row : report.layers) {
    layers.append(nb::make_tuple(row.name, row.algorithm, row.reason, row.out_features,
                                 row.in_features, row.bytes_before, row.bytes_after));
  }
  nb::dict dict;
  dict["layers"] = layers;
  dict["unmatched"] = report.unmatched;
  dict["notes"] = report.notes;
  dict["summary"] = summary(report);
  return dict;
}

nb::tuple load(const std::vector<SlotTuple>& slots, const std::vector<std::string>& modules,
               const std::string& path, bool strict, std::optional<int> rank,
               const std::optional<std::string>& policy, bool upstream,
               const ExecContext& context) {
  QuantizeOptions options = {.strictness = strict ? Strictness::kStrict : Strictness::kLenient,
                             .rank = rank,
                             .timestep_policy = std::nullopt,
                             .compat = compat_of(upstream)};
  if (policy) options.timestep_policy = TimestepPolicy::parse(*policy);
  const auto run = [&] {
    const nb::gil_scoped_release no_gil;
    const ModelSlots model = {.linears = slots_of(slots),
                              .modules = {modules.begin(), modules.end()}};
    return load_model(model, path, options, context);
  };
  const LoadedModel loaded = run();
  nb::list layers;
  for (const HeldLayer& layer : loaded.layers) layers.append(held_tuple(layer));
  nb::list attentions;
  for (const LoadedAttention& attention : loaded.attentions) {
    attentions.append(
        nb::make_tuple(attention.name, torch_bytes(attention.q_rot), torch_bytes(attention.k_rot)));
  }
  return nb::make_tuple(report_dict(loaded.report), layers, attentions);
}

std::vector<std::pair<std::string, std::string>> choose(
    const std::vector<SlotTuple>& slots, const std::string& algorithm,
    const std::vector<std::pair<std::string, std::string>>& rules,
    const std::vector<std::string>& exclude, int64_t svd_rank,
    const std::optional<Preset>& preset) {
  ExportOptions options = {.algorithm = algorithm, .exclude = exclude, .svd_rank = svd_rank};
  for (const auto& [pattern, name] : rules) {
    options.rules.push_back({.pattern = pattern, .algorithm = name});
  }
  std::vector<std::pair<std::string, std::string>> choices;
  for (const SlotChoice& choice : choose_algorithms(slots_of(slots), options, preset)) {
    choices.emplace_back(choice.algorithm, choice.reason);
  }
  return choices;
}

// Weights per scale that an algorithm would have; 0: it has no groups.
int64_t wanted_group(const std::string& algorithm, int64_t given) {
  const AlgorithmRow& row = served_algorithm(algorithm);
  if (!has_groups(row)) return 0;
  return given != 0 ? given : row.parameters.group;
}

// "12 quantized, ..." of rows (name, algorithm, reason, n, k, bytes before, bytes after).
std::string summary_of(const std::vector<std::tuple<std::string, std::string, std::string, int64_t,
                                                    int64_t, int64_t, int64_t>>& rows) {
  Report report;
  for (const auto& [name, algorithm, reason, n, k, before, after] : rows) {
    report.layers.push_back({.name = name, .algorithm = algorithm, .reason = reason});
    report.bytes_before += before;
    report.bytes_after += after;
  }
  return summary(report);
}

}  // namespace

void bind_module_layers(nb::module_& module) {
  nb::class_<BoundLinear>(module, "BoundLinear", "A layer on memory of the caller's.")
      .def("run", &BoundLinear::run, "x"_a, "y"_a, "dtype"_a, "rows"_a, "cols"_a, "row_stride"_a,
           "step"_a, "context"_a)
      .def("kernel",
           [](const BoundLinear& self, int64_t m) { return std::string(self.linear.kernel(m)); });

  module.def("run_group", &run_bound_group, "members"_a, "x"_a, "dtype"_a, "rows"_a, "cols"_a,
             "row_stride"_a, "y"_a, "step"_a, "context"_a);

  nb::class_<ModuleLayer>(module, "Layer", "A quantized linear without its bytes.")
      .def_static("from_tensors", &layer_from_tensors, "name"_a, "algorithm"_a, "out_features"_a,
                  "in_features"_a, "upstream"_a, "policy"_a, "tensors"_a)
      .def_static("from_float", &layer_from_float, "name"_a, "algorithm"_a, "weight"_a,
                  "bias"_a.none(), "group_size"_a, "svd_rank"_a, "upstream"_a, "context"_a)
      .def(
          "bind",
          [](const ModuleLayer& self, const std::vector<uintptr_t>& addresses) {
            return BoundLinear{self.bind(addresses)};
          },
          "addresses"_a)
      .def("file_tensors", &file_tensors, "addresses"_a)
      .def("with_adapter", &with_adapter, "down"_a.none(), "up"_a.none())
      .def(
          "with_policy",
          [](const ModuleLayer& self, const std::string& policy) {
            return self.with_policy(TimestepPolicy::parse(policy));
          },
          "policy"_a)
      .def_prop_ro("forms", &forms, "Name, dtype and shape of its tensors in a file.")
      .def_prop_ro("parts", &parts, "Name, dtype and shape of its buffers.")
      .def_prop_ro("name", [](const ModuleLayer& self) { return self.description().name; })
      .def_prop_ro("algorithm",
                   [](const ModuleLayer& self) { return self.description().algorithm; })
      .def_prop_ro("out_features", [](const ModuleLayer& self) { return self.description().n; })
      .def_prop_ro("in_features", [](const ModuleLayer& self) { return self.description().k; })
      .def_prop_ro(
          "upstream",
          [](const ModuleLayer& self) { return self.description().compat == Compat::kUpstream; })
      .def_prop_ro("policy",
                   [](const ModuleLayer& self) { return self.description().policy.text(); })
      .def_prop_ro("bits",
                   [](const ModuleLayer& self) {
                     const Element element = self.outline().plan.weight.element;
                     return code_row_bytes(element, 8);  // bytes of 8 codes
                   })
      .def_prop_ro("group",
                   [](const ModuleLayer& self) { return self.outline().plan.weight.group; })
      .def_prop_ro("steps", [](const ModuleLayer& self) {
        const LinearPlan& plan = self.outline().plan;
        return plan.activation_mode == ActivationMode::kPolicy ? plan.steps : 0;
      });

  module.def("load_model", &load, "slots"_a, "modules"_a, "path"_a, "strict"_a, "rank"_a.none(),
             "policy"_a.none(), "upstream"_a, "context"_a);
  module.def("choose_algorithms", &choose, "slots"_a, "algorithm"_a, "rules"_a, "exclude"_a,
             "svd_rank"_a, "preset"_a.none());
  module.def("summary", &summary_of, "rows"_a);
  module.def("wanted_group", &wanted_group, "algorithm"_a, "given"_a);
}

}  // namespace mezzotint
