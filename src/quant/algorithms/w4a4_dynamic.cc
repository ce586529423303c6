// W4A4_DYNAMIC files: int4 weights; int4 activations per token at run time.
#include "quant/algorithms/contracts.h"

namespace mezzotint {

constinit const FileContract kW4A4DynamicContract = {
    .name = "w4a4_dynamic",
    .params = kInt4Params,
    .mode = ActivationMode::kDynamic,
    .activation = {.element = Element::kInt4, .granularity = Granularity::kPerToken},
    .weight_element = Element::kInt4,
    .quantize = quantize_to_int4};

}  // namespace mezzotint
