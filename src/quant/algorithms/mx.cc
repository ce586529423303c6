// MX files: e4m3 or e2m1 codes with one power of two per 32 columns; activations alike, at run
// time.
#include "quant/algorithms/contracts.h"
#include "solve/upstream_weights.h"

namespace mezzotint {
namespace {

constexpr auto kFp8Params = contract_params(kE4M3WeightParam, kBlockScaleParam);
constexpr auto kFp4Params = contract_params(kFp4WeightParam, kBlockScaleParam);

void quantize(const Tensor& weight, Element element, const AlgorithmParameters& how,
              LinearParams& params, const ExecContext& ctx) {
  MxWeight mx = mx_weight(weight, element, MxLevels::kOne, how, ctx);
  params.codes = std::move(mx.codes);
  params.block_scale = std::move(mx.block_scale);
}

void quantize_to_e4m3(const Tensor& weight, const AlgorithmParameters& how, const LayerDims&,
                      LinearParams& params, const ExecContext& ctx) {
  quantize(weight, Element::kE4M3, how, params, ctx);
}

void quantize_to_e2m1(const Tensor& weight, const AlgorithmParameters& how, const LayerDims&,
                      LinearParams& params, const ExecContext& ctx) {
  quantize(weight, Element::kE2M1, how, params, ctx);
}

}  // namespace

MxWeight mx_weight(const Tensor& weight, Element element, MxLevels levels,
                   const AlgorithmParameters& how, const ExecContext& ctx) {
  return how.compat == Compat::kUpstream ? upstream_mx_weight(weight, element, levels, ctx)
                                         : quantize_mx_weight(weight, element, levels, ctx);
}

constinit const FileContract kMxFp8Contract = {
    .name = "mx_fp8",
    .params = kFp8Params,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kE4M3, .granularity = Granularity::kMxBlock},
    .weight_element = Element::kE4M3,
    .quantize = quantize_to_e4m3};

constinit const FileContract kMxFp4Contract = {
    .name = "mx_fp4",
    .params = kFp4Params,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kE2M1, .granularity = Granularity::kMxBlock},
    .weight_element = Element::kE2M1,
    .quantize = quantize_to_e2m1};

}  // namespace mezzotint
