// Just enough UTF-8: validity and code points.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mezzotint {

struct CodePoint {
  uint32_t value = 0;
  size_t bytes = 0;  // 0: the text does not begin with a valid sequence
};

// Decodes the first code point. Overlong forms, surrogates and values above U+10FFFF are invalid.
CodePoint first_code_point(std::string_view text) noexcept;

bool is_valid_utf8(std::string_view text) noexcept;

}  // namespace mezzotint
