// W4A4_DYNAMIC files: int4 weights; int4 activations per token at run time.
#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

constexpr auto kParams = contract_params(kInt4WeightParam, kWeightScaleParam, kWeightOffsetParam);

}  // namespace

constinit const FileContract kW4A4DynamicContract = {
    .name = "w4a4_dynamic",
    .params = kParams,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kInt4, .granularity = Granularity::kPerToken},
    .weight_element = Element::kInt4,
    .quantize = quantize_to_int4};

}  // namespace mezzotint
