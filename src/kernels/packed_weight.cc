// Packed weights as self-describing blobs: the functions of registry.h that read and write headers.

#include <cstring>

#include "base/check.h"
#include "kernels/layouts.h"
#include "kernels/registry.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr char kMagic[] = {'M', 'Z', 'P', 'A', 'C', 'K', 'E', 'D'};
constexpr uintptr_t kAlignment = 64;  // of the payload: kernels read whole cache lines
constexpr auto kHeaderBytes = static_cast<int64_t>(sizeof(PackedHeader));
constexpr auto kLastElement = static_cast<uint32_t>(Element::kE5M2);

[[noreturn]] void corrupt(std::string_view what, std::string expected, std::string found) {
  throw Error(ErrorCode::kInput, "packed weight: " + std::string(what),
              {.expected = std::move(expected),
               .found = std::move(found),
               .fix = "pack the weight again with this version of mezzotint"});
}

const LayoutRow* find_layout(uint32_t id) {
  for (const LayoutRow& row : layout_rows()) {
    if (static_cast<uint32_t>(row.id) == id) return &row;
  }
  return nullptr;
}

void check_shape(const PackedHeader& header, const LayoutRow& layout, int64_t payload_size) {
  const std::string shape = to_string(Shape{header.n, header.k});
  // No layout takes less than half a byte per element, so n * k cannot overflow behind this check.
  if (header.n <= 0 || header.k <= 0 || header.k > 2 * payload_size / header.n) {
    corrupt("wrong shape", "n * k elements in " + std::to_string(payload_size) + " bytes", shape);
  }
  if (header.group < 0 || header.group > header.k) {
    corrupt("wrong group", "0.." + std::to_string(header.k), std::to_string(header.group));
  }
  if (header.element > kLastElement) {
    corrupt("unknown element", "0.." + std::to_string(kLastElement),
            std::to_string(header.element));
  }
  const int64_t bytes =
      layout.payload_bytes(header.n, header.k, static_cast<Element>(header.element));
  if (bytes == 0) {
    corrupt("wrong element", "one that layout " + std::string(layout.name) + " holds",
            std::to_string(header.element));
  }
  if (header.payload_bytes != bytes || payload_size < bytes) {
    corrupt(
        "wrong size", std::to_string(bytes) + " bytes for " + shape,
        std::to_string(header.payload_bytes) + " in a payload of " + std::to_string(payload_size));
  }
}

}  // namespace

Buffer pack_weight(const LayoutRow& layout, const WeightCodes& codes, int64_t group) {
  MZ_CHECK(codes.n > 0 && codes.k > 0);
  const int64_t bytes = layout.payload_bytes(codes.n, codes.k, codes.element);
  MZ_CHECK(bytes > 0);
  Buffer blob = Buffer::allocate(kHeaderBytes + bytes);
  PackedHeader header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.layout = static_cast<uint32_t>(layout.id);
  header.version = layout.version;
  header.element = static_cast<uint32_t>(codes.element);
  header.n = codes.n;
  header.k = codes.k;
  header.group = group;
  header.payload_bytes = bytes;
  std::memcpy(blob.mutable_data(), &header, sizeof header);
  layout.pack(codes, blob.mutable_data() + kHeaderBytes);
  return blob;
}

const PackedHeader& packed_header(const Buffer& blob) {
  if (blob.size() < kHeaderBytes) {
    corrupt("too short", "at least 64 bytes", std::to_string(blob.size()));
  }
  if (reinterpret_cast<uintptr_t>(blob.data()) % kAlignment != 0) {
    corrupt("misaligned", "an address that is a multiple of 64",
            std::to_string(reinterpret_cast<uintptr_t>(blob.data()) % kAlignment) + " bytes off");
  }
  const auto& header = *reinterpret_cast<const PackedHeader*>(blob.data());
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    corrupt("wrong magic", "MZPACKED", "other bytes");
  }
  const LayoutRow* layout = find_layout(header.layout);
  if (layout == nullptr) {
    corrupt("unknown layout", "a layout of this build", std::to_string(header.layout));
  }
  if (header.version != layout->version) {
    corrupt("wrong version of layout " + std::string(layout->name), std::to_string(layout->version),
            std::to_string(header.version));
  }
  check_shape(header, *layout, blob.size() - kHeaderBytes);
  return header;
}

const std::byte* packed_payload(const Buffer& blob) { return blob.data() + kHeaderBytes; }

Tensor unpack_weight(const Buffer& blob) {
  const PackedHeader& header = packed_header(blob);
  const auto element = static_cast<Element>(header.element);
  const WeightCodes shape{element, header.n, header.k, nullptr};
  const DType dtype = element_dtype(element);
  Tensor codes =
      Tensor::allocate(dtype, {header.n, element_row_bytes(element, header.k) / dtype_size(dtype)});
  layout_row(static_cast<LayoutId>(header.layout))
      .unpack(packed_payload(blob), shape, codes.buffer().mutable_data());
  return codes;
}

}  // namespace mezzotint
