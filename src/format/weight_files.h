// Which weight file a user means.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mezzotint {

// "model-00002-of-00010.safetensors"
bool is_shard_name(std::string_view name);

// The names of the regular files (links followed) in a folder, sorted; none when it is unreadable.
std::vector<std::string> file_names_in(const std::filesystem::path& folder);

// "a, b, c", shortened after ten; "nothing" when empty.
std::string list_of(const std::vector<std::string>& names);

// NAME.safetensors or NAME.safetensors.index.json in `folder`, whichever exists; "" when neither.
// Throws Error(kUsage) when both do: one of them is stale.
std::filesystem::path weights_named(const std::filesystem::path& folder, std::string_view name);

// Resolves what WeightStore::open accepts to one .safetensors or .index.json file. Throws
// Error(kInput) saying what was looked for and what lies there; Error(kUsage) when it is ambiguous.
std::filesystem::path find_weight_file(const std::filesystem::path& path,
                                       std::string_view component);

}  // namespace mezzotint
