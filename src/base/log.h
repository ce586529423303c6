// Writing to a Log. Use fmt::format at the call site; a message is one line.
#pragma once

#include <string_view>

#include "mezzotint/context.h"

namespace mezzotint {

void log(const Log& log, LogLevel level, std::string_view message);

}  // namespace mezzotint
