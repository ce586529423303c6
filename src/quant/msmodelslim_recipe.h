// The YAML of msmodelslim for diffusion models: spec.process as rules.
//
// linear_quant, fa3_quant, online_quarot, svd_res and the smoothing processors with their include
// and exclude lists; of its quantization methods the number format counts, ours are held against
// the squared error. What runs upstream's pipeline (dataset, multimodal_sd_config) is noted.
#pragma once

#include "quant/recipe.h"
#include "quant/yaml_reader.h"

namespace mezzotint {

bool is_msmodelslim_recipe(const YAML::Node& root);
Recipe read_msmodelslim_recipe(const YamlReader& in, const YAML::Node& root);

}  // namespace mezzotint
