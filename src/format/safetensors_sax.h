// The JSON grammar of a safetensors header, checked token by token.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "format/safetensors.h"

namespace mezzotint {

struct HeaderFields {
  std::vector<SafetensorsEntry> tensors;  // in file order, each with end - begin == shape x dtype
  std::map<std::string, std::string> metadata;
};

// Parses the JSON part. Names may still be duplicate and offsets anything. Throws Error(kInput).
HeaderFields read_header_json(std::string_view json, std::string_view file_name);

}  // namespace mezzotint
