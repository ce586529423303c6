// The file contracts, one source file each, and the parts that every contract shares.
#pragma once

#include <array>

#include "quant/algorithm.h"

namespace mezzotint {

extern const FileContract kWeightOnlyContract;   // weight_only.cc
extern const FileContract kW8A8DynamicContract;  // w8a8_dynamic.cc

inline constexpr std::array<DType, 1> kInt8Codes = {DType::kI8};
inline constexpr std::array<DType, 3> kFloatDtypes = {DType::kF32, DType::kBF16, DType::kF16};

// Symmetric int8 weights with one scale per output channel.
inline constexpr ParamSpec kInt8WeightParam = {
    .suffix = "weight", .dtypes = kInt8Codes, .shapes = "N,K", .meaning = "int8 codes"};
inline constexpr ParamSpec kChannelScaleParam = {.suffix = "weight_scale",
                                                 .dtypes = kFloatDtypes,
                                                 .shapes = "N,1 | N | 1,N",
                                                 .values = ValueRule::kScale,
                                                 .meaning = "w = code * scale"};
inline constexpr ParamSpec kZeroOffsetParam = {.suffix = "weight_offset",
                                               .dtypes = kFloatDtypes,
                                               .shapes = "N,1 | N | 1,N",
                                               .presence = Presence::kOptional,
                                               .values = ValueRule::kZero,
                                               .meaning = "zeros: weights are symmetric"};

// Optional parts of every contract.
inline constexpr ParamSpec kBiasParam = {.suffix = "bias",
                                         .dtypes = kFloatDtypes,
                                         .shapes = "N",
                                         .presence = Presence::kOptional,
                                         .part = Part::kBias,
                                         .label = LabelRule::kFloat,
                                         .values = ValueRule::kFinite,
                                         .meaning = "added in f32"};
inline constexpr ParamSpec kSmoothingParam = {.suffix = "div.mul_scale",
                                              .dtypes = kFloatDtypes,
                                              .shapes = "K | 1,K | K,1",
                                              .presence = Presence::kOptional,
                                              .part = Part::kSmoothing,
                                              .prefix = PrefixRule::kLayer,
                                              .label = LabelRule::kFloat,
                                              .values = ValueRule::kFinite,
                                              .meaning =
                                                  "x is multiplied by it, in f32, before "
                                                  "anything else"};

// Plan, scale, bias and smoothing of a layer with int8 weights per channel.
LinearParams read_int8_layer(const AlgorithmRow& row, const CheckedTensors& tensors);

// weight, weight_scale and bias by symmetric round-to-nearest; other tensors are left as they are.
void write_int8_layer(const FloatLayer& layer, LayerTensors& tensors, const ExecContext& ctx);

}  // namespace mezzotint
