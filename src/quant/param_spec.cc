#include "quant/param_spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/ops.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

constexpr float kLowestZeroPoint = -128;
constexpr float kHighestZeroPoint = 127;

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t at = text.find(separator);
    parts.push_back(trimmed(text.substr(0, at)));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

// The letter's own field; null for numbers and derived letters.
int64_t LayerDims::* free_letter(std::string_view symbol) {
  if (symbol == "N") return &LayerDims::n;
  if (symbol == "K") return &LayerDims::k;
  if (symbol == "G") return &LayerDims::groups;
  if (symbol == "T") return &LayerDims::steps;
  if (symbol == "E") return &LayerDims::head_dim;
  return symbol == "R" ? &LayerDims::rank : nullptr;
}

// The size a symbolic dimension stands for; 0 when it is not known yet.
int64_t dim_size(std::string_view symbol, const LayerDims& dims) {
  if (const auto field = free_letter(symbol)) return dims.*field;
  if (symbol == "H") return (dims.k + 1) / 2;
  if (symbol == "M") return dims.n / 2;
  if (symbol == "B") return mx_blocks(dims.k);
  if (symbol == "D") return dual_blocks(dims.k);
  int64_t number = 0;
  const char* end = symbol.data() + symbol.size();
  const std::from_chars_result result = std::from_chars(symbol.data(), end, number);
  MZ_CHECK(result.ec == std::errc() && result.ptr == end);
  return number;
}

// Groups are at least two, of whole size.
bool fits_letter(std::string_view symbol, int64_t size, const LayerDims& dims) {
  if (symbol != "G") return true;
  return size >= 2 && (dims.k == 0 || dims.k % size == 0);
}

std::optional<LayerDims> match_form(std::string_view form, const Shape& shape, LayerDims dims) {
  const std::vector<std::string_view> symbols = split(form, ',');
  if (symbols.size() != shape.size()) return std::nullopt;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const int64_t expected = dim_size(symbols[i], dims);
    if (shape[i] <= 0 || (expected != 0 && expected != shape[i])) return std::nullopt;
    if (!fits_letter(symbols[i], shape[i], dims)) return std::nullopt;
    const auto field = free_letter(symbols[i]);
    if (expected == 0 && field != nullptr) dims.*field = shape[i];
  }
  return dims;
}

void check_dtype(const ParamSpec& spec, const LayerFile& file, const std::string& name,
                 const Tensor& tensor) {
  for (const DType dtype : spec.dtypes) {
    if (dtype == tensor.dtype()) return;
  }
  throw Error(
      ErrorCode::kInput, fmt::format("{} has the wrong dtype", spec.suffix),
      layer_error(file, name, expected_dtypes(spec.dtypes), std::string(dtype_name(tensor.dtype())),
                  "export the layer again, or correct its label in the descriptor"));
}

LayerDims check_shape(const ParamSpec& spec, const LayerFile& file, const std::string& name,
                      const Tensor& tensor, const LayerDims& dims) {
  if (const auto matched = match_shape(spec.shapes, tensor.shape(), dims)) return *matched;
  throw Error(ErrorCode::kInput, fmt::format("{} has the wrong shape", spec.suffix),
              layer_error(file, name, expected_shapes(spec.shapes, dims), to_string(tensor.shape()),
                          "the file must come from a model with the same layers; export again"));
}

bool is_right(ValueRule rule, float v) {
  if (!std::isfinite(v)) return false;
  switch (rule) {
    case ValueRule::kAny:
    case ValueRule::kFinite:
      return true;
    case ValueRule::kScale:
      return v >= 0;
    case ValueRule::kPositive:
      return v > 0;
    case ValueRule::kZeroPoint:
      return v >= kLowestZeroPoint && v <= kHighestZeroPoint && v == std::floor(v);
    case ValueRule::kZero:
      return v == 0;
  }
  return false;
}

std::string_view expected_values(ValueRule rule) {
  switch (rule) {
    case ValueRule::kScale:
      return "finite values >= 0";
    case ValueRule::kPositive:
      return "finite values > 0";
    case ValueRule::kZeroPoint:
      return "integers of [-128, 127]";
    case ValueRule::kZero:
      return "zeros";
    case ValueRule::kAny:
    case ValueRule::kFinite:
      break;
  }
  return "finite values";
}

void check_values(const ParamSpec& spec, const LayerFile& file, const std::string& name,
                  const Tensor& tensor) {
  if (spec.values == ValueRule::kAny || !is_floating(tensor.dtype())) return;
  const Tensor wide = widened(tensor);
  const float* values = wide.data<float>();
  for (int64_t i = 0; i < wide.size(); ++i) {
    const float v = values[i];
    if (is_right(spec.values, v)) continue;
    const std::string expected(expected_values(spec.values));
    const std::string found = fmt::format("{} at {}", v, i);
    if (spec.values == ValueRule::kZero && std::isfinite(v)) {
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("{} is not zero: int8 weights of static layers are symmetric", spec.suffix),
          layer_error(file, name, expected, found, "export the layer with symmetric weights"));
    }
    throw Error(
        ErrorCode::kInput, fmt::format("{} holds a value that cannot be right", spec.suffix),
        layer_error(file, name, expected, found, "the file is damaged: copy or export it again"));
  }
}

bool bias_is_wanted(const LayerFile& file) { return file.bias != BiasRule::kUnwanted; }

// Absence: throws, or says that the tensor may be left out.
void require_present(std::string_view algorithm, const ParamSpec& spec, const LayerFile& file,
                     const std::string& name) {
  const bool model_has_bias = spec.part == Part::kBias && file.bias == BiasRule::kRequired;
  if (spec.presence == Presence::kOptional && !model_has_bias) return;
  throw Error(ErrorCode::kInput, fmt::format("{} is missing", spec.suffix),
              layer_error(file, name,
                          model_has_bias ? "a bias, as the model's layer has one"
                                         : expected_shapes(spec.shapes, file.dims),
                          "no such tensor",
                          fmt::format("the descriptor labels this layer {}: the weight file must "
                                      "hold its tensors; export again",
                                      algorithm)));
}

// The rows that the scales of a layer have: N, where one of them says so.
int64_t scale_rows(std::span<const ParamSpec> params, const LayerFile& file) {
  for (const ParamSpec& spec : params) {
    if (spec.field != &LinearParams::weight_scale) continue;
    const std::optional<Tensor> scale = find_tensor(spec, file).tensor;
    if (!scale || scale->empty()) return 0;
    return scale->shape().size() == 2 && scale->dim(0) == 1 ? scale->dim(1) : scale->dim(0);
  }
  return 0;
}

// int4 codes as bytes of [-8, 7] are not packed; packed bytes are all of these by chance of 2^-4
// per byte.
bool is_unpacked_int4(const Tensor& codes) {
  if (codes.dtype() != DType::kI8) return false;
  const int8_t* q = codes.data<int8_t>();
  return std::all_of(q, q + codes.size(), [](int8_t v) { return v >= -8 && v <= 7; });
}

// N and K from the weight's own shape, where no model says them. Of an odd K that was packed only
// K + 1 is left.
LayerDims dims_of_weight(const ParamSpec& spec, const Tensor& weight, int64_t rows) {
  const int64_t stored_rows = weight.dim(0);
  const int64_t columns = weight.dim(1);
  const bool nibbles = (spec.coding == Coding::kInt4 && !is_unpacked_int4(weight)) ||
                       (spec.coding == Coding::kFp4 && weight.dtype() == DType::kU8);
  if (!nibbles) return {.n = stored_rows, .k = columns};
  if (spec.coding == Coding::kInt4 && rows == 2 * stored_rows) return {.n = rows, .k = columns};
  return {.n = stored_rows, .k = 2 * columns};
}

}  // namespace

LayerDims stored_dims(std::span<const ParamSpec> params, const LayerFile& file) {
  const bool has_weight = params.front().field != nullptr;
  if (file.dims.n != 0 || !has_weight) return file.dims;
  const std::optional<Tensor> weight = find_tensor(params.front(), file).tensor;
  if (!weight || weight->shape().size() != 2) return {};  // reported by the ordinary checks
  return dims_of_weight(params.front(), *weight, scale_rows(params, file));
}

std::optional<LayerDims> match_shape(std::string_view shapes, const Shape& shape,
                                     const LayerDims& dims) {
  for (const std::string_view form : split(shapes, '|')) {
    if (const auto matched = match_form(form, shape, dims)) return matched;
  }
  return std::nullopt;
}

std::vector<Shape> accepted_shapes(std::string_view shapes, const LayerDims& dims) {
  std::vector<Shape> accepted;
  for (const std::string_view form : split(shapes, '|')) {
    Shape shape;
    for (const std::string_view symbol : split(form, ',')) shape.push_back(dim_size(symbol, dims));
    if (std::ranges::find(shape, 0) == shape.end()) accepted.push_back(std::move(shape));
  }
  MZ_CHECK(!accepted.empty());
  return accepted;
}

Shape written_shape(std::string_view shapes, const LayerDims& dims) {
  return accepted_shapes(shapes, dims).front();
}

std::string expected_shapes(std::string_view shapes, const LayerDims& dims) {
  std::string text;
  for (const std::string_view form : split(shapes, '|')) {
    if (!text.empty()) text += " or ";
    std::string separator = "[";
    for (const std::string_view symbol : split(form, ',')) {
      const int64_t size = dim_size(symbol, dims);
      text += separator + (size == 0 ? std::string(symbol) : std::to_string(size));
      separator = ",";
    }
    text += "]";
  }
  return text;
}

std::string expected_dtypes(std::span<const DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) {
    if (!text.empty()) text += " or ";
    text += dtype_name(dtype);
  }
  return text;
}

std::string tensor_name(const ParamSpec& spec, std::string_view layer, std::string_view prefix) {
  return fmt::format("{}.{}", spec.prefix == PrefixRule::kWeight ? prefix : layer, spec.suffix);
}

FoundTensor find_tensor(const ParamSpec& spec, const LayerFile& file) {
  FoundTensor found;
  found.name = tensor_name(spec, file.layer, file.prefix);
  found.tensor = file.tensor(found.name);
  if (!found.tensor && spec.prefix == PrefixRule::kEither) {
    found.name = fmt::format("{}.{}", file.prefix, spec.suffix);
    found.tensor = file.tensor(found.name);
  }
  return found;
}

CheckedTensors check_params(std::string_view algorithm, std::span<const ParamSpec> params,
                            const LayerFile& file) {
  CheckedTensors checked;
  checked.dims = stored_dims(params, file);
  for (const ParamSpec& spec : params) {
    if (spec.part == Part::kBias && !bias_is_wanted(file)) continue;
    FoundTensor found = find_tensor(spec, file);
    if (!found.tensor) {
      require_present(algorithm, spec, file, found.name);
      continue;
    }
    check_dtype(spec, file, found.name, *found.tensor);
    checked.dims = check_shape(spec, file, found.name, *found.tensor, checked.dims);
    check_values(spec, file, found.name, *found.tensor);
    checked.tensors.push_back(
        {.spec = &spec, .name = std::move(found.name), .tensor = std::move(*found.tensor)});
  }
  return checked;
}

ErrorDetails layer_error(const LayerFile& file, std::string tensor, std::string expected,
                         std::string found, std::string fix) {
  return {.layer = file.layer,
          .tensor = std::move(tensor),
          .file = file.file,
          .expected = std::move(expected),
          .found = std::move(found),
          .fix = std::move(fix)};
}

}  // namespace mezzotint
