// The index of a sharded checkpoint: NAME.safetensors.index.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mezzotint {

struct WeightIndex {
  std::map<std::string, std::string, std::less<>> weight_map;  // tensor -> shard's file name
  std::vector<std::string> shards;                             // sorted, each once
  std::optional<int64_t> total_size;                           // metadata.total_size
};

// Throws Error(kInput): not JSON, no weight_map, and shard names that are not plain file names
// ending in .safetensors (a hostile index must not reach outside its folder).
WeightIndex parse_index(std::span<const std::byte> bytes, std::string_view file_name);

// Like the index files that transformers and diffusers write: sorted, indent 2, final newline.
std::string index_text(const WeightIndex& index, std::string_view run_id);

}  // namespace mezzotint
