// Text conditions that were computed beforehand, so that no text encoder is needed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "mezzotint/tensor.h"
#include "models/sampler.h"

namespace mezzotint {

// What prompts.json says of one row of the embeddings: its text and what a good image shows.
struct Prompt {
  int64_t id = 0;  // its place in the list and its row in the tensors
  std::string text;
  int64_t class_index = 0;
  std::string class_name;
  std::string object_color;
  std::string background_color;
};

// Tensors of a safetensors file: states [n, text_tokens, joint] and pooled [n, pooled_dim];
// optional null_states [text_tokens, joint] and null_pooled [pooled_dim], the empty prompt.
// A single prompt may leave out n. Any of F32, BF16 and F16; widened to F32 here.
struct Embeddings {
  TextCondition rows;
  std::optional<TextCondition> null_condition;  // one row

  int64_t count() const { return rows.states.dim(0); }
  // The rows with these numbers; throws Error(kUsage) when there is no such row.
  TextCondition select(std::span<const int64_t> ids) const;
};

Embeddings read_embeddings(const std::filesystem::path& file);

struct PromptSet {
  std::vector<Prompt> prompts;
  Embeddings embeddings;
};

// prompts.json and prompts.safetensors of a folder.
PromptSet read_prompts(const std::filesystem::path& folder);

}  // namespace mezzotint
