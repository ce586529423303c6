// Files of other tools: recognised by name, so that the answer is more than "not a safetensors".
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "mezzotint/weights.h"

namespace mezzotint::cli {

// "a GGUF file (llama.cpp, stable-diffusion.cpp)", or "" when the first bytes say nothing. Reads
// a few bytes only.
std::string foreign_container(const std::filesystem::path& file);

// The dialect of a readable weight store without a descriptor of ours.
struct Dialect {
  std::string_view name;    // "ComfyUI quantized safetensors"
  std::string_view remark;  // "" or why this version does not serve it
};
Dialect dialect_of(const WeightStore& store);

}  // namespace mezzotint::cli
