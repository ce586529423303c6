// ParamSpec: one tensor of a file contract, as data. The loader, the exporter, `inspect`, the
// tables in docs/ and the generator of random valid files all read the same list.
//
//   {.suffix = "weight_scale", .dtypes = kFloats, .shapes = "N,1 | N | 1,N", .values = kScale}
//
// Letters: X is the layer's dotted name; P is X.linear when the file holds X.div.mul_scale, else X.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mezzotint/error.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

enum class PrefixRule : uint8_t { kWeight, kLayer };    // the tensor's name is P.suffix or X.suffix
enum class LabelRule : uint8_t { kAlgorithm, kFloat };  // what the descriptor says of it
enum class Presence : uint8_t { kRequired, kOptional };  // on reading

// When the exporter writes a tensor: always, or with the part of a layer it belongs to.
enum class Part : uint8_t { kCore, kBias, kSmoothing };

// What the values must be. kZero: anything else is a feature this version does not serve.
enum class ValueRule : uint8_t { kAny, kFinite, kScale, kZero };  // scale: finite and >= 0

struct ParamSpec {
  std::string_view suffix;
  std::span<const DType> dtypes;  // accepted on reading; the first one is what we write
  // Alternatives separated by '|', dimensions by ','. A dimension is N, K or a number. The first
  // alternative is what we write.
  std::string_view shapes;
  Presence presence = Presence::kRequired;
  Part part = Part::kCore;
  PrefixRule prefix = PrefixRule::kWeight;
  LabelRule label = LabelRule::kAlgorithm;
  ValueRule values = ValueRule::kAny;
  std::string_view meaning = {};  // for docs
};

// What the letters of a shape stand for. Zero: not known yet.
struct LayerDims {
  int64_t n = 0;
  int64_t k = 0;
};

bool shape_matches(std::string_view shapes, const Shape& shape, const LayerDims& dims);
std::vector<Shape> accepted_shapes(std::string_view shapes, const LayerDims& dims);
Shape written_shape(std::string_view shapes, const LayerDims& dims);          // the first of these
std::string expected_shapes(std::string_view shapes, const LayerDims& dims);  // "[8,1] or [8]"
std::string expected_dtypes(std::span<const DType> dtypes);                   // "F32 or BF16"

enum class BiasRule : uint8_t {
  kAsStored,  // no model to compare with
  kRequired,  // the model's layer has a bias: a file without one is an error
  kUnwanted,  // the model's layer has none: a stored one is left aside, as upstream does
};

// One layer of a file, as a contract reads it.
struct LayerFile {
  std::string layer;   // X
  std::string prefix;  // P
  std::string file;    // for messages
  std::function<std::optional<Tensor>(const std::string& name)> tensor;
  LayerDims dims{};  // of the model's linear; {0,0} when there is none
  BiasRule bias = BiasRule::kAsStored;
};

std::string tensor_name(const ParamSpec& spec, std::string_view layer, std::string_view prefix);

// The tensors of one layer, checked against a contract: by suffix.
struct CheckedTensors {
  LayerDims dims;
  std::map<std::string, Tensor, std::less<>> by_suffix;

  const Tensor* find(std::string_view suffix) const;
};

// Presence, dtype, shape and values of every ParamSpec. `algorithm` is for messages. Errors:
// kInput for a file that breaks the contract, kUnsupported for what this version does not serve.
CheckedTensors check_params(std::string_view algorithm, std::span<const ParamSpec> params,
                            const LayerFile& file);

// The text an Error about one tensor of a layer starts from.
ErrorDetails layer_error(const LayerFile& file, std::string tensor, std::string expected,
                         std::string found, std::string fix = {});

}  // namespace mezzotint
