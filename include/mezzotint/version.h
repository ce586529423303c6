// The version of the library. CMake reads it from here: this is the only place where it stands.
#pragma once

#include "mezzotint/export.h"

#define MZ_VERSION_MAJOR 0
#define MZ_VERSION_MINOR 1
#define MZ_VERSION_PATCH 0

namespace mezzotint {

// "0.1.0"
MZ_API const char* version() noexcept;

}  // namespace mezzotint
