// The file contracts, one source file each, and the parts that contracts share.
#pragma once

#include <array>

#include "quant/algorithm.h"
#include "solve/mx_weights.h"

namespace mezzotint {

extern const FileContract kWeightOnlyInt8Contract;  // weight_only.cc
extern const FileContract kWeightOnlyInt4Contract;  // weight_only.cc
extern const FileContract kW8A8DynamicContract;     // w8a8_dynamic.cc
extern const FileContract kW8A8StaticContract;      // w8a8_static.cc
extern const FileContract kW8A8TimestepContract;    // w8a8_timestep.cc
extern const FileContract kW4A8Contract;            // w4a8.cc
extern const FileContract kW4A4DynamicContract;     // w4a4_dynamic.cc
extern const FileContract kMxFp8Contract;           // mx.cc
extern const FileContract kMxFp4Contract;           // mx.cc
extern const FileContract kMxDualContract;          // mx_dual.cc

extern const AttentionContract kFp8AttentionContract;  // fp8_attention.cc

inline constexpr std::array<DType, 1> kInt8Codes = {DType::kI8};
inline constexpr std::array<DType, 2> kInt4Codes = {DType::kU8, DType::kI8};
inline constexpr std::array<DType, 1> kE4M3Codes = {DType::kF8E4M3};
inline constexpr std::array<DType, 2> kFp4Codes = {DType::kU8, DType::kF8E4M3};
inline constexpr std::array<DType, 2> kE8M0Codes = {DType::kU8, DType::kF8E8M0};
inline constexpr std::array<DType, 1> kInt32Sums = {DType::kI32};
inline constexpr std::array<DType, 3> kFloatDtypes = {DType::kF32, DType::kBF16, DType::kF16};
inline constexpr std::array<DType, 3> kFactorDtypes = {DType::kBF16, DType::kF32, DType::kF16};
inline constexpr std::array<DType, 2> kDeqDtypes = {DType::kF32, DType::kI64};

// --- codes ---------------------------------------------------------------------------------------

inline constexpr ParamSpec kInt8WeightParam = {.suffix = "weight",
                                               .dtypes = kInt8Codes,
                                               .shapes = "N,K",
                                               .coding = Coding::kStored,
                                               .field = &LinearParams::codes,
                                               .canonical = "N,K",
                                               .meaning = "int8 codes"};
inline constexpr ParamSpec kInt4WeightParam = {
    .suffix = "weight",
    .dtypes = kInt4Codes,
    .shapes = "N,H | N,K | M,K",
    .coding = Coding::kInt4,
    .field = &LinearParams::codes,
    .canonical = "N,H",
    .meaning =
        "int4 codes: two per byte along K, one per byte (I8), or two per byte along N; the "
        "even one in the low nibble"};
inline constexpr ParamSpec kE4M3WeightParam = {.suffix = "weight",
                                               .dtypes = kE4M3Codes,
                                               .shapes = "N,K",
                                               .coding = Coding::kE4M3,
                                               .field = &LinearParams::codes,
                                               .canonical = "N,K",
                                               .meaning = "e4m3 codes"};
inline constexpr ParamSpec kFp4WeightParam = {
    .suffix = "weight",
    .dtypes = kFp4Codes,
    .shapes = "N,H | N,K",
    .coding = Coding::kFp4,
    .field = &LinearParams::codes,
    .canonical = "N,H",
    .meaning = "e2m1 codes: two per byte, even k in the low nibble (U8), or values (F8_E4M3)"};

// --- scales --------------------------------------------------------------------------------------

inline constexpr ParamSpec kWeightScaleParam = {.suffix = "weight_scale",
                                                .dtypes = kFloatDtypes,
                                                .shapes = "N,1 | N | 1,N | N,G | 1 | 1,1",
                                                .field = &LinearParams::weight_scale,
                                                .canonical = "N,G",
                                                .values = ValueRule::kScale,
                                                .meaning = "w = (code - offset) * scale"};
inline constexpr ParamSpec kWeightOffsetParam = {.suffix = "weight_offset",
                                                 .dtypes = kFloatDtypes,
                                                 .shapes = "N,1 | N | 1,N | N,G | 1 | 1,1",
                                                 .field = &LinearParams::weight_offset,
                                                 .canonical = "N,G",
                                                 .presence = Presence::kOptional,
                                                 .values = ValueRule::kFinite,
                                                 .meaning = "zeros where weights are symmetric"};
inline constexpr ParamSpec kBlockScaleParam = {.suffix = "weight_scale",
                                               .dtypes = kE8M0Codes,
                                               .shapes = "N,B",
                                               .coding = Coding::kE8M0,
                                               .field = &LinearParams::block_scale,
                                               .canonical = "N,B",
                                               .meaning = "e8m0: 2^(byte - 127) per 32 columns"};

// Of static layers, whose integer sums know no offsets of w and one scale per row.
constexpr ParamSpec channel_scale_param(Presence presence, Part part, std::string_view meaning) {
  ParamSpec spec = kWeightScaleParam;
  spec.shapes = "N,1 | N | 1,N | 1 | 1,1";
  spec.canonical = "N";
  spec.presence = presence;
  spec.part = part;
  spec.meaning = meaning;
  return spec;
}
constexpr ParamSpec zero_offset_param(Part part) {
  ParamSpec spec = kWeightOffsetParam;
  spec.shapes = "N,1 | N | 1,N | 1 | 1,1";
  spec.canonical = "N";
  spec.part = part;
  spec.values = ValueRule::kZero;
  spec.meaning = "zeros: weights are symmetric";
  return spec;
}

// --- static activations --------------------------------------------------------------------------

constexpr ParamSpec input_scale_param(std::string_view shapes) {
  return {.suffix = "input_scale",
          .dtypes = kFloatDtypes,
          .shapes = shapes,
          .field = &LinearParams::input_scale,
          .canonical = "T",
          .values = ValueRule::kPositive,
          .meaning = "q = rne(x / scale + offset)"};
}
constexpr ParamSpec input_offset_param(std::string_view shapes) {
  return {.suffix = "input_offset",
          .dtypes = kFloatDtypes,
          .shapes = shapes,
          .field = &LinearParams::input_offset,
          .canonical = "T",
          .values = ValueRule::kZeroPoint,
          .meaning = "an integer"};
}
constexpr ParamSpec quant_bias_param(std::string_view shapes) {
  return {.suffix = "quant_bias",
          .dtypes = kInt32Sums,
          .shapes = shapes,
          .coding = Coding::kStored,
          .field = &LinearParams::quant_bias,
          .canonical = "T,N",
          .meaning = "added to the integer sum: rne(bias / deq_scale - offset * sum of the codes)"};
}
constexpr ParamSpec deq_scale_param(std::string_view shapes) {
  return {.suffix = "deq_scale",
          .dtypes = kDeqDtypes,
          .shapes = shapes,
          .coding = Coding::kDeqScale,
          .field = &LinearParams::deq_scale,
          .canonical = "T,N",
          .values = ValueRule::kScale,
          .meaning = "input_scale * weight_scale; an I64 holds the bits of the float"};
}

// --- optional parts of every contract ------------------------------------------------------------

inline constexpr ParamSpec kBiasParam = {.suffix = "bias",
                                         .dtypes = kFloatDtypes,
                                         .shapes = "N",
                                         .field = &LinearParams::bias,
                                         .canonical = "N",
                                         .presence = Presence::kOptional,
                                         .part = Part::kBias,
                                         .label = LabelRule::kFloat,
                                         .values = ValueRule::kFinite,
                                         .meaning = "added in f32"};
inline constexpr ParamSpec kSmoothingParam = {.suffix = "div.mul_scale",
                                              .dtypes = kFloatDtypes,
                                              .shapes = "K | 1,K | K,1",
                                              .field = &LinearParams::mul_scale,
                                              .canonical = "K",
                                              .presence = Presence::kOptional,
                                              .part = Part::kSmoothing,
                                              .prefix = PrefixRule::kLayer,
                                              .label = LabelRule::kFloat,
                                              .values = ValueRule::kFinite,
                                              .meaning = "x is multiplied by it, in f32, first"};
inline constexpr ParamSpec kLowRankDownParam = {.suffix = "svd_lowrank_l1",
                                                .dtypes = kFactorDtypes,
                                                .shapes = "R,K",
                                                .coding = Coding::kStored,
                                                .field = &LinearParams::low_rank_down,
                                                .canonical = "R,K",
                                                .presence = Presence::kOptional,
                                                .part = Part::kLowRank,
                                                .prefix = PrefixRule::kEither,
                                                .label = LabelRule::kFloat,
                                                .values = ValueRule::kFinite,
                                                .meaning = "y += (x l1^T) l2^T, in float"};
inline constexpr ParamSpec kLowRankUpParam = {.suffix = "svd_lowrank_l2",
                                              .dtypes = kFactorDtypes,
                                              .shapes = "N,R",
                                              .coding = Coding::kStored,
                                              .field = &LinearParams::low_rank_up,
                                              .canonical = "N,R",
                                              .presence = Presence::kOptional,
                                              .part = Part::kLowRank,
                                              .prefix = PrefixRule::kEither,
                                              .label = LabelRule::kFloat,
                                              .values = ValueRule::kFinite,
                                              .meaning = "see svd_lowrank_l1"};

// The list of a contract: its own tensors, then the optional parts.
template <typename... Specs>
constexpr auto contract_params(const Specs&... own) {
  return std::array{own..., kBiasParam, kSmoothingParam, kLowRankDownParam, kLowRankUpParam};
}

// Integer weights of every kind.
inline constexpr auto kInt8Params =
    contract_params(kInt8WeightParam, kWeightScaleParam, kWeightOffsetParam);
inline constexpr auto kInt4Params =
    contract_params(kInt4WeightParam, kWeightScaleParam, kWeightOffsetParam);

// --- FileContract::quantize ----------------------------------------------------------------------

// int8 or int4 codes to nearest, symmetric, one scale per row, group or tensor (integer_layer.cc).
void quantize_to_int8(const Tensor& weight, const AlgorithmParameters& how, const LayerDims& dims,
                      LinearParams& params, const ExecContext& ctx);
void quantize_to_int4(const Tensor& weight, const AlgorithmParameters& how, const LayerDims& dims,
                      LinearParams& params, const ExecContext& ctx);

// MX blocks by our rule or by upstream's (mx.cc).
MxWeight mx_weight(const Tensor& weight, Element element, MxLevels levels,
                   const AlgorithmParameters& how, const ExecContext& ctx);

}  // namespace mezzotint
