// The parts of the module mezzotint._core, one function each.
#pragma once

#include <nanobind/nanobind.h>

namespace mezzotint {

void bind_presets(nanobind::module_& module);          // what is known of architectures
void bind_module_layers(nanobind::module_& module);    // layers of nn.Modules, quantize()
void bind_model_quantizer(nanobind::module_& module);  // layers of float models
void bind_collector(nanobind::module_& module);        // statistics of a running model
void bind_folder_writer(nanobind::module_& module);    // quantized folders
void bind_weights(nanobind::module_& module);          // tensors of a quantized folder
void bind_attention(nanobind::module_& module);        // attention, FP8 and float
void bind_token_ops(nanobind::module_& module);        // what blocks do between linears
void bind_fp8_blocks(nanobind::module_& module);       // codes of attention inputs

}  // namespace mezzotint
