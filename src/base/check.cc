#include "base/check.h"

#include <string_view>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {

void check_failed(const char* condition, const char* file, int line) {
  // The part from src/ on: the same text on every machine.
  std::string_view place = file;
  const size_t src = place.rfind("src/");
  if (src != std::string_view::npos) place.remove_prefix(src);
  throw Error(ErrorCode::kInternal,
              fmt::format("internal check failed: {} at {}:{}", condition, place, line));
}

}  // namespace mezzotint
