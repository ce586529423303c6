// W4A8 files: int4 weights with a scale per row or group; int8 activations per token at run time.
#include "quant/algorithms/contracts.h"

namespace mezzotint {

constinit const FileContract kW4A8Contract = {
    .name = "w4a8",
    .params = kInt4Params,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kInt8, .granularity = Granularity::kPerToken},
    .weight_element = Element::kInt4,
    .quantize = quantize_to_int4};

}  // namespace mezzotint
