#include "format/model_identity.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "format/content_hash.h"

namespace mezzotint {
namespace {

constexpr size_t kSampleBytes = 4096;  // at either end: one page each

void add_values(const Tensor& tensor, HashStream& hash) {
  const std::span<const std::byte> bytes = tensor.buffer().bytes();
  const size_t sample = std::min(bytes.size(), kSampleBytes);
  hash.add(bytes.first(sample));
  hash.add(bytes.last(sample));
}

}  // namespace

std::string model_identity(const WeightStore& store) {
  std::vector<const TensorInfo*> infos;
  for (const TensorInfo& info : store.tensors()) infos.push_back(&info);
  std::ranges::sort(infos, {}, &TensorInfo::name);
  HashStream hash;
  for (const TensorInfo* info : infos) {
    hash.add(
        fmt::format("{}\n{} {}\n", info->name, dtype_name(info->dtype), to_string(info->shape)));
    add_values(store.read(info->name), hash);
  }
  return to_hex(hash.finish());
}

}  // namespace mezzotint
