// The quantization descriptor: a JSON object that gives every tensor of a weight file its label.
// Format: upstream's, byte for byte (docs/formats.md); our own facts stand in metadata.mezzotint.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mezzotint/export.h"

namespace mezzotint {

struct Descriptor {
  std::string model_quant_type{};                             // upper case label; "" when absent
  std::vector<std::pair<std::string, std::string>> labels{};  // tensor name -> label, in file order
  std::map<std::string, std::string> facts{};                 // metadata.mezzotint: flat strings
  // Every other key (version, group_size, optional, unknown ones), as the text of a JSON object;
  // survives a round trip. "{}" when there is none.
  std::string other_keys = "{}";

  // The label of a tensor, or nullptr.
  const std::string* label(std::string_view tensor) const;
};

MZ_API Descriptor read_descriptor(const std::filesystem::path& file);
MZ_API std::string descriptor_text(const Descriptor& descriptor);  // JSON, indent 4
MZ_API void write_descriptor(const std::filesystem::path& file, const Descriptor& descriptor);

// Where a descriptor and its weights lie.
struct QuantizedFiles {
  std::filesystem::path descriptor;
  std::filesystem::path weights;  // .safetensors or .index.json
  std::optional<int> rank;        // of the _R suffix in use
};

// Resolves what a user typed: a descriptor, its unsuffixed twin, or a folder with one descriptor.
// `rank`: argument > OMPI/PMI/RANK environment with world size > 1 > the suffix itself.
MZ_API QuantizedFiles find_quantized_files(const std::filesystem::path& path,
                                           std::optional<int> rank = std::nullopt);

// "quant_model_description_w8a8_dynamic.json", with "_R" before the dot when rank is given.
MZ_API std::string descriptor_file_name(std::string_view quant_type, std::optional<int> rank);
MZ_API std::string weight_file_name(std::string_view quant_type, std::optional<int> rank);

}  // namespace mezzotint
