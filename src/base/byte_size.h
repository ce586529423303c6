// Sizes as people type them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mezzotint {

// "5GB" (10^9), "5GiB" (2^30), "700MB", "1048576"; nullopt when it is none of these or below 1.
std::optional<int64_t> parse_bytes(std::string_view text);

}  // namespace mezzotint
