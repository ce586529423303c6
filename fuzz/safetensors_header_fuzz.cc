// Any bytes are a valid safetensors file or one Error(kInput); what is accepted keeps the promises
// of format/safetensors.h.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <span>
#include <string_view>

#include "format/safetensors.h"
#include "mezzotint/error.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check_promises(const mezzotint::SafetensorsHeader& header, int64_t file_size) {
  std::set<std::string_view> names;
  int64_t covered = 0;
  for (const mezzotint::SafetensorsEntry& t : header.tensors) {
    require(names.insert(t.name).second);
    require(t.begin == covered && t.end >= t.begin);
    require(mezzotint::byte_count(t.dtype, t.shape) == t.end - t.begin);
    covered = t.end;
  }
  require(header.data_start + covered == file_size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto file_size = static_cast<int64_t>(size);
    check_promises(mezzotint::parse_safetensors_header(bytes, file_size, "fuzz"), file_size);
  } catch (const mezzotint::Error& e) {
    require(e.code() == mezzotint::ErrorCode::kInput);
    require(std::string_view(e.what()).size() < 10'000);
  }
  return 0;
}
