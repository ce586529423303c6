#include "models/flux_loader.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mezzotint/error.h"
#include "quant/algorithm.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr size_t kMaxListed = 8;

bool is_linear_dtype(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

}  // namespace

FluxLoader::FluxLoader(const WeightStore& store, Missing missing)
    : store_(store), missing_(missing) {}

bool FluxLoader::is_float_weight(const std::string& name) const {
  const TensorInfo* info = store_.find(name);
  return info && is_linear_dtype(info->dtype);
}

Tensor FluxLoader::read(const std::string& name, const Shape& shape) {
  const TensorInfo& info = store_.info(name);  // throws when absent
  const std::string file = store_.files().at(static_cast<size_t>(info.file)).string();
  if (info.shape != shape) {
    throw Error(ErrorCode::kInput, "a tensor has the wrong shape",
                {.tensor = name,
                 .file = file,
                 .expected = to_string(shape),
                 .found = to_string(info.shape),
                 .fix = "config.json must belong to these weights"});
  }
  if (!is_linear_dtype(info.dtype)) {
    throw Error(ErrorCode::kUnsupported, "a tensor of the model has an unsupported dtype",
                {.tensor = name,
                 .file = file,
                 .expected = "F32, BF16 or F16",
                 .found = std::string(dtype_name(info.dtype)),
                 .fix = "a quantized folder loads together with its descriptor"});
  }
  read_.insert(name);
  return store_.read(name);
}

Linear FluxLoader::linear(const std::string& name, int64_t out_features, int64_t in_features) {
  const std::string weight_name = name + ".weight";
  const std::string bias_name = name + ".bias";
  if (missing_ == Missing::kLeaveEmpty && !is_float_weight(weight_name)) {
    empty_.push_back(name + ".");
    return Linear(name, out_features, in_features, nullptr);
  }
  const Tensor weight = read(weight_name, {out_features, in_features});
  Linear linear = Linear::from_float(name, weight, read(bias_name, {out_features}));
  store_.release(weight_name);
  return linear;
}

Tensor FluxLoader::vector(const std::string& name, int64_t size) {
  return widened(read(name, {size}));
}

Attention FluxLoader::attention(const std::string& name, const AttentionShape& shape) {
  for (const AlgorithmRow& row : algorithm_rows()) {
    if (missing_ == Missing::kRefuse || row.attention == nullptr) continue;
    for (const ParamSpec& spec : row.attention->params) {
      of_attentions_.insert(tensor_name(spec, name, name));
    }
  }
  return Attention(name, shape);
}

bool FluxLoader::belongs_to_empty_linear(const std::string& tensor) const {
  return std::ranges::any_of(empty_,
                             [&](const std::string& prefix) { return tensor.starts_with(prefix); });
}

void FluxLoader::refuse_unread() const {
  std::vector<std::string> unread;
  for (const TensorInfo& info : store_.tensors()) {
    if (read_.contains(info.name) || of_attentions_.contains(info.name)) continue;
    if (!belongs_to_empty_linear(info.name)) unread.push_back(info.name);
  }
  if (unread.empty()) return;
  const size_t count = unread.size();
  unread.resize(std::min(count, kMaxListed));
  throw Error(ErrorCode::kInput, "the file holds tensors that the model does not have",
              {.file = store_.files().front().string(),
               .expected = fmt::format("{} tensors", read_.size()),
               .found = fmt::format("{} more: {}{}", count, fmt::join(unread, ", "),
                                    count > kMaxListed ? ", ..." : ""),
               .fix = "config.json must belong to these weights"});
}

}  // namespace mezzotint
