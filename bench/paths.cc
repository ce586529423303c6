#include "bench/paths.h"

namespace mezzotint::bench {
namespace {

constexpr Path kPaths[] = {
    {.name = "int8", .algorithm = "W8A8_DYNAMIC", .bars = {{88, 86}, {80, 72}, {70, 70}}},
    {.name = "int8_static", .algorithm = "W8A8"},
    {.name = "int4", .algorithm = "W4A4_DYNAMIC", .bars = {{85, 83}, {62, 62}, {60, 60}}},
    {.name = "w4a8", .algorithm = "W4A8_AWQ"},
    {.name = "mxfp4", .algorithm = "W4A4_MXFP4", .bars = {{79, 77}, {55, 55}, {60, 60}}},
    {.name = "dual", .algorithm = "W4A4_MXFP4_DUALSCALE", .bars = {{75, 73}, {55, 55}, {60, 60}}},
    {.name = "mxfp4_svd", .algorithm = "W4A4_MXFP4_SVD"},
    {.name = "mxfp8",
     .algorithm = "W8A8_MXFP8",
     .peak = Peak::kBf16Dot,
     .bars = {{83, 80}, {60, 60}, {60, 60}}},
    {.name = "w8a16",
     .algorithm = "W8A16",
     .peak = Peak::kBf16Dot,
     .bars = {{86, 84}, {60, 60}, {70, 70}}},
    {.name = "w4a16_g64",
     .algorithm = "W4A16",
     .group_size = 64,
     .peak = Peak::kBf16Dot,
     .bars = {{86, 84}, {60, 60}, {60, 60}}},
    {.name = "w4a16_g128",
     .algorithm = "W4A16",
     .group_size = 128,
     .peak = Peak::kBf16Dot,
     .bars = {{86, 84}, {60, 60}, {60, 60}}},
    {.name = "bf16", .algorithm = "float", .peak = Peak::kBf16Dot},
    {.name = "f32", .algorithm = "float", .io = DType::kF32, .peak = Peak::kFma},
    {.name = "attention_fp8",
     .op = Op::kAttention,
     .algorithm = "FP8_DYNAMIC",
     .peak = Peak::kBf16Dot,
     .bars = {.s1024 = 62, .s4608 = 72}},
    {.name = "attention_bf16", .op = Op::kAttention, .algorithm = "float", .peak = Peak::kBf16Dot},
    {.name = "attention_f32",
     .op = Op::kAttention,
     .algorithm = "float",
     .io = DType::kF32,
     .peak = Peak::kFma},
    {.name = "flux_w8a8_fp8", .op = Op::kFluxBlocks, .algorithm = "W8A8_DYNAMIC"},
    {.name = "flux_bf16", .op = Op::kFluxBlocks, .algorithm = "float", .peak = Peak::kBf16Dot},
    {.name = "flux_f32",
     .op = Op::kFluxBlocks,
     .algorithm = "float",
     .io = DType::kF32,
     .peak = Peak::kFma},
    {.name = "demo_w8a8", .op = Op::kDemoStep, .algorithm = "W8A8_DYNAMIC", .io = DType::kF32},
    {.name = "demo_w8a8_fp8", .op = Op::kDemoStep, .algorithm = "W8A8_DYNAMIC"},
    {.name = "demo_bf16", .op = Op::kDemoStep, .algorithm = "float", .peak = Peak::kBf16Dot},
    {.name = "demo_f32",
     .op = Op::kDemoStep,
     .algorithm = "float",
     .io = DType::kF32,
     .peak = Peak::kFma},
};

constexpr RatioBar kRatioBars[] = {
    {"int8", "f32", 3.5},
    {"int8", "bf16", 1.75},
    {"int8 gemm", "onednn.int8", 0.95},
    {"int8", "onednn.int8", 0.92},
    {"int8", "onednn.bf16", 1.75},
    {"int8", "onednn.f32", 3.5},
    {"w8a16", "onednn.w8a16", 0.95},
    {"w4a16_g64", "onednn.w4a16_g64", 0.95},
    {"w4a16_g128", "onednn.w4a16_g128", 0.95},
    {"mxfp4_svd", "mxfp4", 0.88},
    {"flux_w8a8_fp8", "flux_f32", 3.0},
    {"flux_w8a8_fp8", "flux_bf16", 1.6},
    {"demo_w8a8", "demo_f32"},
    {"demo_w8a8_fp8", "demo_f32", 3.0},
    {"demo_w8a8_fp8", "demo_bf16", 1.6},
};

}  // namespace

std::span<const Path> paths() { return kPaths; }
std::span<const RatioBar> ratio_bars() { return kRatioBars; }

}  // namespace mezzotint::bench
