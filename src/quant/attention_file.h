// Attentions in quantized files: the label stands at A.quant_type, which is no tensor; beside it
// lie the tensors of the row's AttentionContract.
//
//   AttentionParams p = read_attention_params(served_attention("fp8_dynamic"), file);
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/error.h"
#include "quant/algorithm.h"

namespace mezzotint {

inline constexpr std::string_view kAttentionSuffix = ".quant_type";

// A row that serves attentions, or Error(kUnsupported) that names those that do.
const AlgorithmRow& served_attention(std::string_view name, ErrorDetails details = {});

// Throws like read_layer_params, and Error(kInput) for rotations that would change the scores.
AttentionParams read_attention_params(const AlgorithmRow& row, const LayerFile& file);

// Throws Error(kUnsupported), naming the layer, for a head_dim that the algorithm does not serve.
std::vector<PlannedTensor> plan_attention_tensors(const AlgorithmRow& row, const std::string& layer,
                                                  int64_t head_dim);

// What plan_attention_tensors announced.
LayerTensors write_attention_params(const AlgorithmRow& row, const std::string& layer,
                                    int64_t head_dim);

// The tensors of an attention that was read, as `file` holds them: the same bytes.
LayerTensors rewrite_attention_params(const AlgorithmRow& row, const AttentionParams& params,
                                      const LayerFile& file);

}  // namespace mezzotint
