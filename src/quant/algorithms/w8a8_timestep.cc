// W8A8_TIMESTEP files: the tensors of static W8A8, stacked over denoising steps, beside those of
// W8A8_DYNAMIC; the step's policy says which are used.
#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

constexpr ParamSpec kDynamicScaleParam =
    channel_scale_param(Presence::kRequired, Part::kCore, "w = code * scale, for dynamic steps");

constexpr auto kParams =
    contract_params(kInt8WeightParam, input_scale_param("T,1 | T"), input_offset_param("T,1 | T"),
                    quant_bias_param("T,N"), deq_scale_param("T,N"), kDynamicScaleParam,
                    zero_offset_param(Part::kCore));

}  // namespace

constinit const FileContract kW8A8TimestepContract = {
    .name = "w8a8_timestep",
    .params = kParams,
    .mode = ActivationMode::kPolicy,
    .activation = {.element = Element::kInt8, .granularity = Granularity::kPerToken},
    .weight_element = Element::kInt8,
    .quantize = quantize_to_int8};

}  // namespace mezzotint
