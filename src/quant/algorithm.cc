#include "quant/algorithm.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <deque>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/nearest.h"
#include "numerics/int8.h"
#include "quant/algorithms/contracts.h"
#include "quant/coding.h"

namespace mezzotint {
namespace {

#define MZ_ALGORITHM(name, canonical, contract, alternative, parameters, summary)               \
  AlgorithmRow{name,    canonical, AlgorithmStatus::kServed, contract, alternative, parameters, \
               summary, nullptr},
#define MZ_ATTENTION(name, contract, summary) \
  AlgorithmRow{name, name, AlgorithmStatus::kServed, nullptr, nullptr, {}, summary, contract},
#define MZ_PLANNED(name, canonical, summary) \
  AlgorithmRow{name, canonical, AlgorithmStatus::kPlanned, nullptr, nullptr, {}, summary, nullptr},
#define MZ_FOREIGN(name, summary) \
  AlgorithmRow{name, name, AlgorithmStatus::kForeign, nullptr, nullptr, {}, summary, nullptr},
constexpr AlgorithmRow kRows[] = {
#include "quant/algorithms.inc"
};
#undef MZ_ALGORITHM
#undef MZ_ATTENTION
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
    if (row.contract != nullptr) served.push_back(row.name);
  }
  return did_you_mean(nearest_names(name, served));
}

// The upstream exporter's name of an algorithm whose files hold low-rank factors.
std::string low_rank_name(std::string_view name) {
  constexpr std::string_view kDynamic = "_DYNAMIC";
  const bool is_dynamic = name.ends_with(kDynamic);
  if (is_dynamic) name.remove_suffix(kDynamic.size());
  return fmt::format("{}_SVD{}", name, is_dynamic ? kDynamic : "");
}

// Rows that no line of algorithms.inc names: every linear algorithm, by each of its names, beside a
// low-rank branch. X_DYNAMIC is X_SVD_DYNAMIC with one; X_DYNAMIC_SVD means the same.
struct LowRankRows {
  std::deque<std::string> names;
  std::vector<AlgorithmRow> rows;

  LowRankRows() {
    for (const AlgorithmRow& row : kRows) {
      if (row.contract == nullptr || row.parameters.low_rank) continue;
      const std::string& canonical = names.emplace_back(low_rank_name(row.canonical));
      add(row, low_rank_name(row.name), canonical);
      if (row.name.ends_with("_DYNAMIC")) add(row, fmt::format("{}_SVD", row.name), canonical);
    }
  }

 private:
  void add(AlgorithmRow row, const std::string& name, std::string_view canonical) {
    row.name = names.emplace_back(name);
    row.canonical = canonical;
    row.parameters.low_rank = true;
    rows.push_back(row);
  }
};

const AlgorithmRow* find_row(std::span<const AlgorithmRow> rows, std::string_view name) {
  const auto it = std::ranges::find_if(
      rows, [&](const auto& row) { return equal_in_any_case(row.name, name); });
  return it == rows.end() ? nullptr : &*it;
}

bool is_written(const ParamSpec& spec, const AlgorithmRow& row, HasBias has_bias,
                Smoothed smoothed) {
  switch (spec.part) {
    case Part::kCore:
      return true;
    case Part::kBias:
      return has_bias == HasBias::kYes;
    case Part::kLowRank:
      return row.parameters.low_rank;
    case Part::kSmoothing:
      return smoothed == Smoothed::kYes;
    case Part::kReadOnly:
      return false;
  }
  MZ_CHECK(false);
}

// --- reading -------------------------------------------------------------------------------------

LinearParams decode_fields(const CheckedTensors& checked, const LayerFile& file) {
  LinearParams params;
  for (const CheckedTensor& tensor : checked.tensors) {
    params.*tensor.spec->field = decode_param(tensor, checked.dims, file);
  }
  return params;
}

bool all_zero(const Tensor& floats) {
  const float* values = floats.data<float>();
  return std::all_of(values, values + floats.size(), [](float v) { return v == 0; });
}

QuantScheme weight_scheme(Element element, const LinearParams& params, const LayerDims& dims) {
  QuantScheme scheme = {.element = element, .granularity = Granularity::kPerChannel};
  if (!params.block_scale.empty()) {
    scheme.granularity =
        params.dual_scale.empty() ? Granularity::kMxBlock : Granularity::kDualLevel;
  } else if (dims.groups > 0) {
    scheme.granularity = Granularity::kPerGroup;
    scheme.group = dims.k / dims.groups;
  }
  scheme.asymmetric = !params.weight_offset.empty();
  return scheme;
}

// Factors beside X.linear were made from the smoothed weight. Below it they were made before what
// is left was smoothed, which upstream's exporter does when told in that order: they fit x itself.
BranchInput branch_input(const CheckedTensors& checked, const LayerFile& file) {
  if (file.prefix == file.layer) return BranchInput::kSmoothed;
  const bool below = std::ranges::any_of(checked.tensors, [&](const CheckedTensor& t) {
    return t.spec->field == &LinearParams::low_rank_down && t.name.starts_with(file.prefix + ".");
  });
  return below ? BranchInput::kGiven : BranchInput::kSmoothed;
}

void check_low_rank(const AlgorithmRow& row, const LayerFile& file, const LinearParams& params) {
  const bool down = !params.low_rank_down.empty();
  const bool up = !params.low_rank_up.empty();
  if (down && up) return;
  if (!down && !up && !row.parameters.low_rank) return;
  const std::string missing = down ? "svd_lowrank_l2" : "svd_lowrank_l1";
  throw Error(ErrorCode::kInput, fmt::format("{} is missing", missing),
              layer_error(file, fmt::format("{}.{}", file.layer, missing),
                          "both factors of the low-rank branch", "no such tensor",
                          fmt::format("the layer is {}: export it again", row.name)));
}

// Integer sums stay within 32 bits whatever x is: |codes of x| <= 128, |codes of w| <= 128.
void check_quant_bias(const LayerFile& file, const LinearParams& params) {
  if (params.quant_bias.empty()) return;
  constexpr int64_t kLargestProduct = int64_t{128} * 128;
  const int64_t room = std::numeric_limits<int32_t>::max() - kLargestProduct * params.plan.k;
  const int32_t* values = params.quant_bias.data<int32_t>();
  for (int64_t i = 0; i < params.quant_bias.size(); ++i) {
    if (std::abs(int64_t{values[i]}) <= room) continue;
    throw Error(ErrorCode::kUnsupported, "quant_bias leaves no room in 32 bits for the sum",
                layer_error(file, file.prefix + ".quant_bias", fmt::format("at most {}", room),
                            fmt::format("{} at {}", values[i], i),
                            "keep the layer float, or give it W8A8_DYNAMIC"));
  }
}

bool sums_integers(const FileContract& contract) {
  const auto is_integer = [](Element e) { return e == Element::kInt8 || e == Element::kInt4; };
  return contract.mode != ActivationMode::kFloat && is_integer(contract.activation.element) &&
         is_integer(contract.weight_element);
}

const FileContract& contract_of(const AlgorithmRow& row, bool has_input_scale) {
  MZ_CHECK(row.contract != nullptr);
  if (row.alternative == nullptr) return *row.contract;
  return (row.contract->mode == ActivationMode::kStatic) == has_input_scale ? *row.contract
                                                                            : *row.alternative;
}

std::string label_of(const ParamSpec& spec, const AlgorithmRow& row) {
  return std::string(spec.label == LabelRule::kFloat ? "FLOAT" : row.canonical);
}

}  // namespace

std::span<const AlgorithmRow> algorithm_rows() { return kRows; }

void require_exact_sums(const AlgorithmRow& row, const FileContract& contract, int64_t k,
                        ErrorDetails details) {
  if (k <= kIntegerSumMaxK || !sums_integers(contract)) return;
  details.expected = fmt::format("K of at most {}", kIntegerSumMaxK);
  details.found = fmt::format("K = {}", k);
  details.fix =
      "give the layer an algorithm without such sums: weight-only (W8A16, W4A16) or MX "
      "(W8A8_MXFP8, W4A4_MXFP4); or keep it float";
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: integer sums over K may leave 32 bits", row.name),
              std::move(details));
}

const AlgorithmRow* find_algorithm(std::string_view name) {
  static const LowRankRows low_rank;
  const AlgorithmRow* row = find_row(kRows, name);
  return row != nullptr ? row : find_row(low_rank.rows, name);
}

const AlgorithmRow& served_algorithm(std::string_view name, ErrorDetails details) {
  const AlgorithmRow* row = find_algorithm(name);
  if (row != nullptr && row->contract != nullptr) return *row;
  if (details.expected.empty()) details.expected = "an algorithm of `mezzotint list-algorithms`";
  details.found = std::string(name);
  std::string what = "unknown algorithm";
  if (row != nullptr && row->attention != nullptr) {
    what = fmt::format("{} is an algorithm of attention, not of linears", row->name);
    if (details.fix.empty()) details.fix = "quantize --fa writes it";
  } else if (row != nullptr) {
    what = fmt::format("algorithm {} is not served by this version ({})", row->name, row->summary);
  }
  if (details.fix.empty()) details.fix = nearest_served(name);
  throw Error(ErrorCode::kUnsupported, what, std::move(details));
}

bool is_float_label(std::string_view label) { return equal_in_any_case(label, "FLOAT"); }

std::string_view contract_name(const AlgorithmRow& row) {
  if (row.attention != nullptr) return row.attention->name;
  return row.contract == nullptr ? std::string_view() : row.contract->name;
}

std::span<const ParamSpec> contract_tensors(const AlgorithmRow& row) {
  if (row.attention != nullptr) return row.attention->params;
  return row.contract == nullptr ? std::span<const ParamSpec>() : row.contract->params;
}

const FileContract& contract_of(const AlgorithmRow& row, const LayerFile& file) {
  return contract_of(row, file.tensor(file.prefix + ".input_scale").has_value());
}

const ParamSpec& spec_of(const FileContract& contract, std::string_view name) {
  const ParamSpec* best = nullptr;
  for (const ParamSpec& spec : contract.params) {
    const bool fits = name.ends_with(spec.suffix);
    if (fits && (best == nullptr || spec.suffix.size() > best->suffix.size())) best = &spec;
  }
  MZ_CHECK(best != nullptr);
  return *best;
}

LinearPlan plan_of(const FileContract& contract, const LinearParams& params,
                   const LayerDims& dims) {
  return {.n = dims.n,
          .k = dims.k,
          .prologue = params.mul_scale.empty() ? Prologue::kNone : Prologue::kSmooth,
          .activation_mode = contract.mode,
          .activation = contract.activation,
          .weight = weight_scheme(contract.weight_element, params, dims),
          .steps = params.input_scale.empty() ? 0 : params.input_scale.size(),
          .rank = dims.rank,
          .has_bias = !params.bias.empty()};
}

LinearParams read_layer_params(const AlgorithmRow& row, const LayerFile& file) {
  const FileContract& contract = contract_of(row, file);
  const CheckedTensors checked = check_params(row.name, contract.params, file);
  require_exact_sums(row, contract, checked.dims.k,
                     {.layer = file.layer, .tensor = checked.tensors[0].name, .file = file.file});
  LinearParams params = decode_fields(checked, file);
  if (!params.weight_offset.empty() && all_zero(params.weight_offset)) params.weight_offset = {};
  check_low_rank(row, file, params);
  params.plan = plan_of(contract, params, checked.dims);
  params.plan.branch_input = branch_input(checked, file);
  check_quant_bias(file, params);
  params.algorithm = std::string(row.canonical);
  return params;
}

LayerDims written_dims(const AlgorithmRow& row, int64_t n, int64_t k, const WriteOptions& options) {
  LayerDims dims = {.n = n, .k = k};
  const int64_t group = options.group_size != 0 ? options.group_size : row.parameters.group;
  if (has_groups(row) && group > 0 && k % group == 0 && k > group) dims.groups = k / group;
  if (row.parameters.low_rank) dims.rank = std::min({options.rank, n, k});
  if (row.contract->mode == ActivationMode::kPolicy) dims.steps = options.steps;
  return dims;
}

bool has_groups(const AlgorithmRow& row) {
  return row.contract != nullptr && row.parameters.weights == Granularity::kPerChannel &&
         std::ranges::any_of(row.contract->params, [](const ParamSpec& spec) {
           return spec.field == &LinearParams::weight_scale && spec.canonical == "N,G";
         });
}

bool has_mx_blocks(const FileContract& contract) {
  return contract.weight_element == Element::kE4M3 || contract.weight_element == Element::kE2M1;
}

void require_writable(const AlgorithmRow& row, HasStatistics statistics, ErrorDetails details) {
  if (!row.parameters.needs_statistics || statistics == HasStatistics::kYes) return;
  details.expected = "--stats, or an algorithm that needs weights alone";
  details.found = std::string(row.name);
  details.fix = "mezzotint collect MODEL -o stats.safetensors, then --stats stats.safetensors";
  throw Error(ErrorCode::kUsage, fmt::format("{} needs statistics: mezzotint collect", row.name),
              std::move(details));
}

std::vector<PlannedTensor> plan_layer_tensors(const AlgorithmRow& row, std::string_view layer,
                                              const LayerDims& dims, HasBias has_bias,
                                              Compat compat, Smoothed smoothed) {
  MZ_CHECK(row.contract != nullptr);
  require_exact_sums(row, *row.contract, dims.k, {.layer = std::string(layer)});
  const std::string prefix =
      std::string(layer) + (smoothed == Smoothed::kYes ? std::string(kSmoothedSuffix) : "");
  std::vector<PlannedTensor> planned;
  for (const ParamSpec& spec : row.contract->params) {
    if (!is_written(spec, row, has_bias, smoothed)) continue;
    WrittenForm form = written_form(spec, dims, compat);
    planned.push_back({.tensor = {.name = tensor_name(spec, layer, prefix),
                                  .dtype = form.dtype,
                                  .shape = std::move(form.shape)},
                       .label = label_of(spec, row)});
  }
  return planned;
}

LayerTensors rewrite_layer_params(const AlgorithmRow& row, const LinearParams& params,
                                  const LayerFile& file) {
  const CheckedTensors checked = check_params(row.name, contract_of(row, file).params, file);
  std::vector<TensorPlan> forms;
  for (const CheckedTensor& stored : checked.tensors) {
    forms.push_back(
        {.name = stored.name, .dtype = stored.tensor.dtype(), .shape = stored.tensor.shape()});
  }
  return rewrite_layer_params(row, params, forms);
}

LayerTensors rewrite_layer_params(const AlgorithmRow& row, const LinearParams& params,
                                  std::span<const TensorPlan> forms) {
  const bool is_static = std::ranges::any_of(
      forms, [](const TensorPlan& form) { return form.name.ends_with("input_scale"); });
  const FileContract& contract = contract_of(row, is_static);
  LayerDims dims = {.n = params.plan.n, .k = params.plan.k};
  LayerTensors tensors;
  for (const TensorPlan& form : forms) {
    const ParamSpec& spec = spec_of(contract, form.name);
    const std::optional<LayerDims> matched = match_shape(spec.shapes, form.shape, dims);
    MZ_CHECK(matched.has_value());
    dims = *matched;
    Tensor tensor = Tensor::allocate(form.dtype, form.shape);
    encode_param(spec, params.*spec.field, dims, tensor);
    tensors.push_back(
        {.name = form.name, .label = label_of(spec, row), .tensor = std::move(tensor)});
  }
  return tensors;
}

}  // namespace mezzotint
