#include "quant/param_spec.h"

#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

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

// The size a symbolic dimension stands for; 0 when it is not known yet.
int64_t dim_size(std::string_view symbol, const LayerDims& dims) {
  if (symbol == "N") return dims.n;
  if (symbol == "K") return dims.k;
  int64_t number = 0;
  const char* end = symbol.data() + symbol.size();
  const std::from_chars_result result = std::from_chars(symbol.data(), end, number);
  MZ_CHECK(result.ec == std::errc() && result.ptr == end);
  return number;
}

bool form_matches(std::string_view form, const Shape& shape, const LayerDims& dims) {
  const std::vector<std::string_view> symbols = split(form, ',');
  if (symbols.size() != shape.size()) return false;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const int64_t expected = dim_size(symbols[i], dims);
    if (expected != 0 && expected != shape[i]) return false;
    if (shape[i] <= 0) return false;
  }
  return true;
}

// A 2-D scale with several columns per row of the weight.
bool looks_grouped(const Shape& shape, const LayerDims& dims) {
  return shape.size() == 2 && shape[0] == dims.n && shape[1] > 1 && dims.k % shape[1] == 0;
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

void check_shape(const ParamSpec& spec, const LayerFile& file, const std::string& name,
                 const Tensor& tensor, const LayerDims& dims) {
  if (shape_matches(spec.shapes, tensor.shape(), dims)) return;
  const bool grouped = spec.label == LabelRule::kAlgorithm && looks_grouped(tensor.shape(), dims);
  throw Error(
      grouped ? ErrorCode::kUnsupported : ErrorCode::kInput,
      grouped ? fmt::format("{} holds one scale per group of {} columns, which this version does "
                            "not serve",
                            spec.suffix, dims.k / tensor.dim(1))
              : fmt::format("{} has the wrong shape", spec.suffix),
      layer_error(file, name, expected_shapes(spec.shapes, dims), to_string(tensor.shape()),
                  grouped ? "export the layer again with one scale per output channel"
                          : "the file must come from a model with the same layers; export again"));
}

void check_values(const ParamSpec& spec, const LayerFile& file, const std::string& name,
                  const Tensor& tensor) {
  if (spec.values == ValueRule::kAny) return;
  const Tensor wide = widened(tensor);
  const float* values = wide.data<float>();
  for (int64_t i = 0; i < wide.size(); ++i) {
    const float v = values[i];
    const bool zero_rule = spec.values == ValueRule::kZero;
    if (std::isfinite(v) && !(spec.values == ValueRule::kScale && v < 0) &&
        !(zero_rule && v != 0)) {
      continue;
    }
    const std::string found = fmt::format("{} at {}", v, i);
    if (zero_rule && std::isfinite(v)) {
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("{} is not zero: asymmetric weights are not served by this version",
                      spec.suffix),
          layer_error(file, name, "zeros", found, "export the layer with symmetric weights"));
    }
    throw Error(
        ErrorCode::kInput, fmt::format("{} holds a value that cannot be right", spec.suffix),
        layer_error(file, name,
                    spec.values == ValueRule::kScale ? "finite values >= 0" : "finite values",
                    found, "the file is damaged: copy or export it again"));
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

// N and K come from the model, else from the weight's own shape.
LayerDims dims_of(std::span<const ParamSpec> params, const LayerFile& file) {
  if (file.dims.n != 0) return file.dims;
  const std::string name = tensor_name(params.front(), file.layer, file.prefix);
  const std::optional<Tensor> weight = file.tensor(name);
  if (!weight || weight->shape().size() != 2) return {};  // reported by the ordinary checks
  return {weight->dim(0), weight->dim(1)};
}

}  // namespace

bool shape_matches(std::string_view shapes, const Shape& shape, const LayerDims& dims) {
  for (const std::string_view form : split(shapes, '|')) {
    if (form_matches(form, shape, dims)) return true;
  }
  return false;
}

std::vector<Shape> accepted_shapes(std::string_view shapes, const LayerDims& dims) {
  std::vector<Shape> accepted;
  for (const std::string_view form : split(shapes, '|')) {
    Shape& shape = accepted.emplace_back();
    for (const std::string_view symbol : split(form, ',')) {
      shape.push_back(dim_size(symbol, dims));
    }
  }
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
  return fmt::format("{}.{}", spec.prefix == PrefixRule::kLayer ? layer : prefix, spec.suffix);
}

const Tensor* CheckedTensors::find(std::string_view suffix) const {
  const auto it = by_suffix.find(suffix);
  return it == by_suffix.end() ? nullptr : &it->second;
}

CheckedTensors check_params(std::string_view algorithm, std::span<const ParamSpec> params,
                            const LayerFile& file) {
  CheckedTensors checked;
  checked.dims = dims_of(params, file);
  for (const ParamSpec& spec : params) {
    if (spec.part == Part::kBias && !bias_is_wanted(file)) continue;
    const std::string name = tensor_name(spec, file.layer, file.prefix);
    const std::optional<Tensor> tensor = file.tensor(name);
    if (!tensor) {
      require_present(algorithm, spec, file, name);
      continue;
    }
    check_dtype(spec, file, name, *tensor);
    check_shape(spec, file, name, *tensor, checked.dims);
    check_values(spec, file, name, *tensor);
    checked.by_suffix.emplace(std::string(spec.suffix), *tensor);
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
