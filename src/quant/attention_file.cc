#include "quant/attention_file.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/nearest.h"
#include "quant/coding.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

// Entries of BF16 leave 2^-8 at most; one flipped sign of 128 leaves 2/128.
constexpr double kRotationTolerance = 0.01;

std::string nearest_attention(std::string_view name) {
  std::vector<std::string_view> served;
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (row.attention != nullptr) served.push_back(row.name);
  }
  return did_you_mean(nearest_names(name, served));
}

// The largest |(q_rot k_rot^T - I)[i,j]|.
double distance_from_identity(const AttentionParams& params, int64_t dim) {
  const Tensor q = widened(params.q_rot);
  const Tensor k = widened(params.k_rot);
  double worst = 0;
  for (int64_t i = 0; i < dim; ++i) {
    for (int64_t j = 0; j < dim; ++j) {
      double sum = i == j ? -1 : 0;
      for (int64_t d = 0; d < dim; ++d) {
        sum += double{q.data<float>()[i * dim + d]} * double{k.data<float>()[j * dim + d]};
      }
      worst = std::max(worst, std::abs(sum));
    }
  }
  return worst;
}

void check_rotations(const AttentionParams& params, const LayerFile& file, int64_t dim) {
  const double distance = distance_from_identity(params, dim);
  if (distance <= kRotationTolerance) return;
  throw Error(ErrorCode::kInput, "the rotations change the scores",
              layer_error(file, file.layer + ".q_rot", "q_rot k_rot^T = I",
                          fmt::format("a difference of {:.3g}", distance),
                          "the file is damaged: copy or export it again"));
}

}  // namespace

const AlgorithmRow& served_attention(std::string_view name, ErrorDetails details) {
  const AlgorithmRow* row = find_algorithm(name);
  if (row != nullptr && row->attention != nullptr) return *row;
  details.expected = "an algorithm of attention (mezzotint list-algorithms)";
  details.found = std::string(name);
  std::string what = "unknown algorithm of attention";
  if (row != nullptr && row->status == AlgorithmStatus::kServed) {
    what = fmt::format("{} is an algorithm of linears, not of attention", row->name);
  } else if (row != nullptr) {
    what = fmt::format("algorithm {} is not served by this version ({})", row->name, row->summary);
  }
  if (details.fix.empty()) details.fix = nearest_attention(name);
  throw Error(ErrorCode::kUnsupported, what, std::move(details));
}

AttentionParams read_attention_params(const AlgorithmRow& row, const LayerFile& file) {
  const CheckedTensors checked = check_params(row.name, row.attention->params, file);
  AttentionParams params;
  for (const CheckedTensor& tensor : checked.tensors) {
    params.*tensor.spec->attention_field = decode_param(tensor, checked.dims, file);
  }
  check_rotations(params, file, checked.dims.head_dim);
  params.algorithm = std::string(row.canonical);
  return params;
}

std::vector<PlannedTensor> plan_attention_tensors(const AlgorithmRow& row, const std::string& layer,
                                                  int64_t head_dim) {
  MZ_CHECK(row.attention != nullptr);
  if (head_dim < 1 || head_dim > row.attention->max_head_dim) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} does not serve this head_dim", row.canonical),
                {.layer = layer,
                 .expected = fmt::format("1..{}", row.attention->max_head_dim),
                 .found = std::to_string(head_dim)});
  }
  std::vector<PlannedTensor> planned;
  for (const ParamSpec& spec : row.attention->params) {
    planned.push_back({.tensor = {.name = tensor_name(spec, layer, layer),
                                  .dtype = spec.dtypes.front(),
                                  .shape = written_shape(spec.shapes, {.head_dim = head_dim})},
                       .label = "FLOAT"});
  }
  return planned;
}

LayerTensors write_attention_params(const AlgorithmRow& row, const std::string& layer,
                                    int64_t head_dim) {
  const AttentionParams params = row.attention->make(head_dim);
  LayerTensors tensors;
  for (const ParamSpec& spec : row.attention->params) {
    tensors.push_back({.name = tensor_name(spec, layer, layer),
                       .label = "FLOAT",
                       .tensor = params.*spec.attention_field});
  }
  return tensors;
}

LayerTensors rewrite_attention_params(const AlgorithmRow& row, const AttentionParams& params,
                                      const LayerFile& file) {
  LayerTensors tensors;
  for (const ParamSpec& spec : row.attention->params) {
    const std::string name = tensor_name(spec, file.layer, file.prefix);
    const Tensor& field = params.*spec.attention_field;
    Tensor tensor = Tensor::allocate(field.dtype(), field.shape());
    encode_param(spec, field, {.head_dim = field.dim(0)}, tensor);
    tensors.push_back({.name = name, .label = "FLOAT", .tensor = std::move(tensor)});
  }
  return tensors;
}

}  // namespace mezzotint
