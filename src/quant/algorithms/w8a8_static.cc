// Static W8A8 files: one scale and zero point for all of x, folded with the weight's scales and the
// bias into deq_scale and quant_bias.
#include "quant/algorithms/contracts.h"

namespace mezzotint {
namespace {

// Older exporters add the weight's own scales, which are in deq_scale already.
constexpr ParamSpec kSpareScaleParam = channel_scale_param(
    Presence::kOptional, Part::kReadOnly, "of older exporters; deq_scale holds it");
constexpr ParamSpec kSpareOffsetParam = zero_offset_param(Part::kReadOnly);

constexpr auto kParams = contract_params(
    kInt8WeightParam, quant_bias_param("N | 1,N | N,1"), input_scale_param("1 | 1,1"),
    input_offset_param("1 | 1,1"), deq_scale_param("N | 1,N | N,1 | 1 | 1,1"), kSpareScaleParam,
    kSpareOffsetParam);

}  // namespace

constinit const FileContract kW8A8StaticContract = {
    .name = "w8a8_static",
    .params = kParams,
    .mode = ActivationMode::kStatic,
    .activation = {.element = Element::kInt8, .granularity = Granularity::kPerTensor},
    .weight_element = Element::kInt8,
    .quantize = quantize_to_int8};

}  // namespace mezzotint
