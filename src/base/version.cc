#include "mezzotint/version.h"

#define MZ_TEXT_(x) #x
#define MZ_TEXT(x) MZ_TEXT_(x)

namespace mezzotint {

const char* version() noexcept {
  return MZ_TEXT(MZ_VERSION_MAJOR) "." MZ_TEXT(MZ_VERSION_MINOR) "." MZ_TEXT(MZ_VERSION_PATCH);
}

}  // namespace mezzotint
