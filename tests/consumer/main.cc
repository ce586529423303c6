// What an embedding program does first: checks the version, reads a size, catches an error.
#include <cstdio>
#include <cstring>
#include <string>

#include "mezzotint/error.h"
#include "mezzotint/tensor.h"
#include "mezzotint/version.h"
#include "mezzotint/weights.h"

int main() {
  const std::string header = std::to_string(MZ_VERSION_MAJOR) + "." +
                             std::to_string(MZ_VERSION_MINOR) + "." +
                             std::to_string(MZ_VERSION_PATCH);
  if (header != mezzotint::version()) return 1;
  if (mezzotint::byte_count(mezzotint::DType::kBF16, {3, 5}) != 30) return 2;
  try {
    mezzotint::byte_count(mezzotint::DType::kF64, {int64_t{1} << 40, int64_t{1} << 40});
    return 3;
  } catch (const mezzotint::Error& error) {
    std::printf("mezzotint %s: %s\n", mezzotint::version(), error.what());
  }
  return 0;
}
