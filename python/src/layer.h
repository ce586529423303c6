// One linear layer without a model around it: from a file, or from a packed weight and its vectors.
#pragma once

#include <filesystem>
#include <string>

#include "mezzotint/linear.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

// `path`: a quantized folder or descriptor, or a float model as WeightStore::open takes it.
Linear load_layer(const std::filesystem::path& path, const std::string& name);

// F32; empty ones are absent.
struct LayerVectors {
  Tensor weight_scale;
  Tensor weight_offset;
  Tensor mul_scale;
  Tensor bias;
};

// The vectors are checked like those of a file. Float and int8 weights of one scale per row without
// static scales of x; Error(kUnsupported) for layers that hold more than these vectors. The layer
// uses `blob` itself, not a copy.
Linear layer_of_blob(const std::string& name, const std::string& algorithm, const Buffer& blob,
                     const LayerVectors& vectors);

}  // namespace mezzotint
