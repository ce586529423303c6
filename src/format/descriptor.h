// The descriptor as bytes (mezzotint/descriptor.h has the files).
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/descriptor.h"

namespace mezzotint {

// Throws Error(kInput): not a JSON object, a byte order mark, a key that stands twice, no label,
// model_quant_type or a fact that is not a string. With `overruled` the last of equal keys counts,
// as upstream reads them, and their names are added.
Descriptor parse_descriptor(std::span<const std::byte> bytes, std::string_view file_name,
                            std::vector<std::string>* overruled = nullptr);
Descriptor read_descriptor(const std::filesystem::path& file, std::vector<std::string>* overruled);

}  // namespace mezzotint
