// W8A8_DYNAMIC files: int8 weights; activations are quantized per token at run time, so the file
// holds nothing about them.
#include "quant/algorithms/contracts.h"

namespace mezzotint {

constinit const FileContract kW8A8DynamicContract = {
    .name = "w8a8_dynamic",
    .params = kInt8Params,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kInt8, .granularity = Granularity::kPerToken},
    .weight_element = Element::kInt8,
    .quantize = quantize_to_int8};

}  // namespace mezzotint
