// MZ_CHECK: for bugs of ours, never for bad input. Throws Error(kInternal) with the place.
#pragma once

namespace mezzotint {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace mezzotint

#define MZ_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::mezzotint::check_failed(#condition, __FILE__, __LINE__))
