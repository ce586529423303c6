#include "quant/algorithm.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/nearest.h"
#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

#define MZ_ALGORITHM(name, canonical, contract, parameters, summary) \
  AlgorithmRow{name, canonical, AlgorithmStatus::kServed, &contract, parameters, summary},
#define MZ_PLANNED(name, canonical, summary) \
  AlgorithmRow{name, canonical, AlgorithmStatus::kPlanned, nullptr, {}, summary},
#define MZ_FOREIGN(name, summary) \
  AlgorithmRow{name, name, AlgorithmStatus::kForeign, nullptr, {}, summary},
constexpr AlgorithmRow kRows[] = {
#include "quant/algorithms.inc"
};
#undef MZ_ALGORITHM
#undef MZ_PLANNED
#undef MZ_FOREIGN

bool equal_in_any_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

std::string nearest_served(std::string_view name) {
  std::vector<std::string_view> served;
  for (const AlgorithmRow& row : kRows) {
    if (row.status == AlgorithmStatus::kServed) served.push_back(row.name);
  }
  return did_you_mean(nearest_names(name, served));
}

bool is_written(const ParamSpec& spec, HasBias has_bias) {
  switch (spec.part) {
    case Part::kCore:
      return true;
    case Part::kBias:
      return has_bias == HasBias::kYes;
    case Part::kSmoothing:
      return false;  // nothing here smooths yet
  }
  MZ_CHECK(false);
}

}  // namespace

std::span<const AlgorithmRow> algorithm_rows() { return kRows; }

const AlgorithmRow* find_algorithm(std::string_view name) {
  for (const AlgorithmRow& row : kRows) {
    if (equal_in_any_case(row.name, name)) return &row;
  }
  return nullptr;
}

const AlgorithmRow& served_algorithm(std::string_view name, ErrorDetails details) {
  const AlgorithmRow* row = find_algorithm(name);
  if (row != nullptr && row->status == AlgorithmStatus::kServed) return *row;
  if (details.expected.empty()) details.expected = "an algorithm of `mezzotint list-algorithms`";
  details.found = std::string(name);
  std::string what = "unknown algorithm";
  if (row != nullptr) {
    what = fmt::format("algorithm {} is not served by this version ({})", row->name, row->summary);
  }
  if (details.fix.empty()) details.fix = nearest_served(name);
  throw Error(ErrorCode::kUnsupported, what, std::move(details));
}

bool is_float_label(std::string_view label) { return equal_in_any_case(label, "FLOAT"); }

LinearParams read_layer_params(const AlgorithmRow& row, const LayerFile& file) {
  MZ_CHECK(row.contract != nullptr);
  const CheckedTensors tensors = check_params(row.name, row.contract->params, file);
  LinearParams params = row.contract->read(row, tensors);
  params.algorithm = std::string(row.canonical);
  return params;
}

std::vector<PlannedTensor> plan_layer_tensors(const AlgorithmRow& row, std::string_view layer,
                                              const LayerDims& dims, HasBias has_bias) {
  MZ_CHECK(row.contract != nullptr);
  std::vector<PlannedTensor> planned;
  for (const ParamSpec& spec : row.contract->params) {
    if (!is_written(spec, has_bias)) continue;
    const bool is_float = spec.label == LabelRule::kFloat;
    planned.push_back({.tensor = {.name = tensor_name(spec, layer, layer),
                                  .dtype = spec.dtypes.front(),
                                  .shape = written_shape(spec.shapes, dims)},
                       .label = std::string(is_float ? "FLOAT" : row.canonical)});
  }
  return planned;
}

LayerTensors write_layer_params(const AlgorithmRow& row, const FloatLayer& layer,
                                const ExecContext& ctx) {
  const LayerDims dims = {.n = layer.weight.dim(0), .k = layer.weight.dim(1)};
  LayerTensors tensors;
  for (PlannedTensor& planned :
       plan_layer_tensors(row, layer.name, dims, layer.bias ? HasBias::kYes : HasBias::kNo)) {
    tensors.push_back({.name = std::move(planned.tensor.name),
                       .label = std::move(planned.label),
                       .tensor = Tensor::allocate(planned.tensor.dtype, planned.tensor.shape)});
  }
  row.contract->write(row, layer, tensors, ctx);
  return tensors;
}

}  // namespace mezzotint
