// Any bytes are a valid descriptor or one Error(kInput); write(read(x)) is a fixed point.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "format/descriptor.h"
#include "mezzotint/error.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

mezzotint::Descriptor parse(std::string_view text) {
  return mezzotint::parse_descriptor(std::as_bytes(std::span(text.data(), text.size())), "fuzz");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mezzotint::Descriptor descriptor;
  try {
    descriptor = parse({reinterpret_cast<const char*>(data), size});
  } catch (const mezzotint::Error& e) {
    require(e.code() == mezzotint::ErrorCode::kInput);
    require(std::string_view(e.what()).size() < 10'000);
    return 0;
  }
  require(descriptor.model_quant_type.find('/') == std::string::npos);
  const std::string written = mezzotint::descriptor_text(descriptor);
  const mezzotint::Descriptor again = parse(written);
  require(again.labels == descriptor.labels && again.facts == descriptor.facts);
  require(again.other_keys == descriptor.other_keys);
  require(mezzotint::descriptor_text(again) == written);
  return 0;
}
