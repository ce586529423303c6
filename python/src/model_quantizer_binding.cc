// _core.ModelQuantizer: what quantize_model() stands on.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "held_layer_tuple.h"
#include "mezzotint/error.h"
#include "model_quantizer.h"
#include "slot_tuples.h"
#include "torch_tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace mezzotint {
namespace {

// The value at the word's place; Error(kUsage) lists the words.
template <size_t kSize>
size_t index_of(const char* argument, const std::string& word,
                const std::array<const char*, kSize>& words) {
  std::string known;
  for (size_t i = 0; i < kSize; ++i) {
    if (word == words[i]) return i;
    known += (i == 0 ? "" : ", ") + std::string(words[i]);
  }
  throw Error(ErrorCode::kUsage, argument, {.expected = "one of " + known, .found = word});
}

constexpr std::array kRanges = {"mse", "minmax", "percentile"};  // in the order of RangeRule
constexpr std::array kOrders = {"auto", "off", "on"};            // in the order of FeedbackOrder

// statistics file, identity of the model, range, smooth, feedback, its order, tolerance
using CalibrationTuple = std::tuple<std::string, std::string, std::string, bool, bool, std::string,
                                    std::optional<double>>;

Calibration calibration_of(const CalibrationTuple& tuple) {
  const auto& [file, model, range, smooth, feedback, order, tolerance] = tuple;
  return {.statistics = file,
          .model = model,
          .range = static_cast<RangeRule>(index_of("range", range, kRanges)),
          .smoothing = smooth ? Smoothing::kSearch : Smoothing::kNone,
          .feedback = feedback ? ErrorFeedback::kAlways : ErrorFeedback::kByName,
          .order = static_cast<FeedbackOrder>(index_of("act_order", order, kOrders)),
          .static_tolerance = tolerance.value_or(kStaticTolerance)};
}

void make(ModelQuantizer* self, const NamedTorchTensors& weights,
          const std::vector<SlotTuple>& slots, const std::string& algorithm,
          const RuleTuples& rules, const std::vector<std::string>& exclude, int64_t group_size,
          int64_t svd_rank, bool upstream, const std::optional<CalibrationTuple>& calibration,
          const ExecContext& context) {
  ExportOptions options = selection_options(algorithm, rules, exclude);
  options.group_size = group_size;
  options.svd_rank = svd_rank;
  options.compat = upstream ? Compat::kUpstream : Compat::kNone;
  if (calibration) options.calibration = calibration_of(*calibration);
  const nb::gil_scoped_release no_gil;
  new (self) ModelQuantizer(store_of(weights), slots_of(slots), std::move(options), context);
}

nb::tuple layer(ModelQuantizer& self, const std::string& name) {
  const auto quantize = [&] {
    const nb::gil_scoped_release no_gil;
    return self.layer(name);
  };
  const ModelQuantizer::Quantized quantized = quantize();
  return nb::make_tuple(held_tuple(quantized.layer), quantized.weight_sqnr_db);
}

}  // namespace

void bind_model_quantizer(nb::module_& module) {
  nb::class_<ModelQuantizer>(module, "ModelQuantizer",
                             "Quantizes float layers in memory, whose tensors must stay.")
      .def("__init__", &make, "weights"_a, "slots"_a, "algorithm"_a, "rules"_a, "exclude"_a,
           "group_size"_a, "svd_rank"_a, "upstream"_a, "calibration"_a.none(), "context"_a)
      .def_prop_ro("choices",
                   [](const ModelQuantizer& self) { return choice_tuples(self.choices()); })
      .def_prop_ro("notes", &ModelQuantizer::notes)
      .def("layer", &layer, "name"_a);
}

}  // namespace mezzotint
