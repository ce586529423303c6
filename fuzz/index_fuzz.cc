// Any bytes are a valid index or one Error(kInput); no accepted index points outside its folder,
// and what is written from it reads the same.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "format/weight_index.h"
#include "mezzotint/error.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  mezzotint::WeightIndex index;
  try {
    index = mezzotint::parse_index(as_bytes(text), "fuzz");
  } catch (const mezzotint::Error& e) {
    require(e.code() == mezzotint::ErrorCode::kInput);
    require(std::string_view(e.what()).size() < 10'000);
    return 0;
  }
  require(!index.shards.empty());
  for (const auto& [tensor, shard] : index.weight_map) {
    require(shard.find('/') == std::string::npos && shard.find('\0') == std::string::npos);
    require(!shard.starts_with('.') && shard.ends_with(".safetensors"));
  }
  const std::string written = mezzotint::index_text(index, "0");
  require(mezzotint::parse_index(as_bytes(written), "written").weight_map == index.weight_map);
  return 0;
}
