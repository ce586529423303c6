// One switch for upstream's own results where they differ from ours (docs/compatibility.md).
#pragma once

#include <cstdint>

namespace mezzotint {

// kUpstream is slow: no fast kernel knows upstream's roundings.
enum class Compat : uint8_t { kNone, kUpstream };

}  // namespace mezzotint
