// The descriptor as bytes (mezzotint/descriptor.h has the files).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "mezzotint/descriptor.h"

namespace mezzotint {

// Throws Error(kInput): not a JSON object, a byte order mark, a key that stands twice, no label,
// model_quant_type or a fact that is not a string.
Descriptor parse_descriptor(std::span<const std::byte> bytes, std::string_view file_name);

}  // namespace mezzotint
