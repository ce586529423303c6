// Dual-scale MX files: e2m1 codes with one power of two per 32 columns and one float per 512.
#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

constexpr ParamSpec kDualScaleParam = {.suffix = "weight_dual_scale",
                                       .dtypes = kFloatDtypes,
                                       .shapes = "N,D,1 | N,D",
                                       .field = &LinearParams::dual_scale,
                                       .canonical = "N,D",
                                       .values = ValueRule::kScale,
                                       .meaning = "w = element * 2^(byte - 127) * scale"};

constexpr auto kParams = contract_params(kFp4WeightParam, kBlockScaleParam, kDualScaleParam);

void quantize(const Tensor& weight, const AlgorithmParameters& how, const LayerDims&,
              LinearParams& params, const ExecContext& ctx) {
  const MxLevels levels =
      how.scales == ScaleSearch::kThorough ? MxLevels::kSearchedDual : MxLevels::kDual;
  MxWeight mx = mx_weight(weight, Element::kE2M1, levels, how, ctx);
  params.codes = std::move(mx.codes);
  params.block_scale = std::move(mx.block_scale);
  params.dual_scale = std::move(mx.dual_scale);
}

}  // namespace

constinit const FileContract kMxDualContract = {
    .name = "mx_dual",
    .params = kParams,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kE2M1, .granularity = Granularity::kDualLevel},
    .weight_element = Element::kE2M1,
    .quantize = quantize};

}  // namespace mezzotint
