// Weight-only files: W8A16, W4A16 and what AWQ and GPTQ make. Activations stay float.
#include "quant/algorithms/contracts.h"

namespace mezzotint {

constinit const FileContract kWeightOnlyInt8Contract = {.name = "weight_only_int8",
                                                        .params = kInt8Params,
                                                        .weight_element = Element::kInt8,
                                                        .quantize = quantize_to_int8};

constinit const FileContract kWeightOnlyInt4Contract = {.name = "weight_only_int4",
                                                        .params = kInt4Params,
                                                        .weight_element = Element::kInt4,
                                                        .quantize = quantize_to_int4};

}  // namespace mezzotint
