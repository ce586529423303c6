// ParamSpec: one tensor of a file contract, as data. The loader, the exporter, `inspect`, the
// tables in docs/ and the generator of random valid files all read the same list.
//
//   {.suffix = "weight_scale", .dtypes = kFloats, .shapes = "N,1 | N | 1,N", .coding = kFloat,
//    .field = &LinearParams::weight_scale, .canonical = "N", .values = kScale}
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
#include "quant/plan.h"

namespace mezzotint {

// The tensor's name is P.suffix, X.suffix, or either (X.suffix is what we write).
enum class PrefixRule : uint8_t { kWeight, kLayer, kEither };
enum class LabelRule : uint8_t { kAlgorithm, kFloat };   // what the descriptor says of it
enum class Presence : uint8_t { kRequired, kOptional };  // on reading

// When the exporter writes a tensor: always, or with the part of a layer it belongs to.
enum class Part : uint8_t { kCore, kBias, kSmoothing, kLowRank, kReadOnly };

// What the values must be.
enum class ValueRule : uint8_t {
  kAny,
  kFinite,
  kScale,      // finite and >= 0
  kPositive,   // finite and > 0
  kZeroPoint,  // an integer of [-128, 127]
  kZero,       // anything else is a feature this version does not serve
};

// How a file stores the numbers, and what LinearParams holds of them (coding.h).
enum class Coding : uint8_t {
  kFloat,     // any float dtype -> F32
  kStored,    // kept as it is: int8 codes, int32 sums, low-rank factors
  kInt4,      // nibbles along k or along n, or one code per byte -> nibbles along k
  kFp4,       // nibbles, or e4m3 values -> nibbles
  kE4M3,      // kept; a NaN code is damage
  kE8M0,      // kept; the byte 255 (NaN) is damage
  kDeqScale,  // F32, or its bits in an I64 -> F32
};

struct ParamSpec {
  std::string_view suffix;
  std::span<const DType> dtypes;  // accepted on reading; the first one is what we write
  // Alternatives separated by '|', dimensions by ','. A dimension is a letter of LayerDims or a
  // number. The first alternative is what we write.
  std::string_view shapes;
  Coding coding = Coding::kFloat;
  Tensor LinearParams::* field = nullptr;
  Tensor AttentionParams::* attention_field = nullptr;  // of contracts of attention, instead
  std::string_view canonical = {};  // shape of the field; G is left out where there is one group
  Presence presence = Presence::kRequired;
  Part part = Part::kCore;
  PrefixRule prefix = PrefixRule::kWeight;
  LabelRule label = LabelRule::kAlgorithm;
  ValueRule values = ValueRule::kAny;
  std::string_view meaning = {};  // for docs
};

// What the letters of a shape stand for. Zero: not known yet.
// Derived letters: H = (k+1)/2, M = n/2, B = blocks of 32 along k, D = blocks of 512.
struct LayerDims {
  int64_t n = 0;         // N
  int64_t k = 0;         // K
  int64_t groups = 0;    // G: groups along k, at least 2
  int64_t steps = 0;     // T: calibrated denoising steps
  int64_t rank = 0;      // R: of the low-rank branch
  int64_t head_dim = 0;  // E: elements of one head of an attention

  bool operator==(const LayerDims&) const = default;
};

// The dims with what this shape says of letters not known before; nothing when it fits no form.
std::optional<LayerDims> match_shape(std::string_view shapes, const Shape& shape,
                                     const LayerDims& dims);
// Forms with a letter that is not known are left out.
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
struct CheckedTensor {
  const ParamSpec* spec = nullptr;
  std::string name;
  Tensor tensor;
};
struct CheckedTensors {
  LayerDims dims;
  std::vector<CheckedTensor> tensors;  // in the contract's order
};

// The tensor of a spec under the name that the file uses.
struct FoundTensor {
  std::string name;
  std::optional<Tensor> tensor;
};
FoundTensor find_tensor(const ParamSpec& spec, const LayerFile& file);

// N and K of a layer, of the model or else of the file's weight and scales; {0,0} without a weight.
LayerDims stored_dims(std::span<const ParamSpec> params, const LayerFile& file);

// Presence, dtype, shape and values of every ParamSpec. `algorithm` is for messages. Errors:
// kInput for a file that breaks the contract, kUnsupported for what this version does not serve.
CheckedTensors check_params(std::string_view algorithm, std::span<const ParamSpec> params,
                            const LayerFile& file);

// The text an Error about one tensor of a layer starts from.
ErrorDetails layer_error(const LayerFile& file, std::string tensor, std::string expected,
                         std::string found, std::string fix = {});

}  // namespace mezzotint
