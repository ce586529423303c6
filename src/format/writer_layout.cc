#include "format/writer_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "format/json_text.h"
#include "format/safetensors.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kRunKey = "mezzotint_run";
constexpr size_t kRunDigits = 32;
constexpr size_t kDataAlignment = 8;  // the widest dtype

[[noreturn]] void fail(std::string_view what, ErrorDetails details) {
  throw Error(ErrorCode::kUsage, what, std::move(details));
}

void check_names(const WriterLayout& layout) {
  for (size_t i = 0; i < layout.by_name.size(); ++i) {
    const std::string& name = layout.tensors[layout.by_name[i]].plan.name;
    if (name.empty() || name == "__metadata__") {
      fail("a tensor cannot have this name", {.found = "\"" + name + "\""});
    }
    if (i > 0 && layout.tensors[layout.by_name[i - 1]].plan.name == name) {
      fail("a tensor is planned twice", {.tensor = name});
    }
  }
}

// Fills the shards in the order of the plan. max_bytes 0: no limit.
void assign_shards(int64_t max_bytes, WriterLayout* layout) {
  int64_t used = 0;
  layout->shards.emplace_back();
  for (size_t i = 0; i < layout->tensors.size(); ++i) {
    PlacedTensor& t = layout->tensors[i];
    if (max_bytes > 0 && used > 0 && t.bytes > max_bytes - used) {
      layout->shards.emplace_back();
      used = 0;
    }
    used += t.bytes;
    t.shard = layout->shards.size() - 1;
    layout->shards.back().tensors.push_back(i);
  }
}

void name_shards(const fs::path& file, WriterLayout* layout) {
  std::vector<ShardLayout>& shards = layout->shards;
  if (shards.size() == 1) {
    shards[0].file = file;
    return;
  }
  const std::string name = file.filename().string();
  const std::string stem = name.substr(0, name.size() - kSuffix.size());
  for (size_t i = 0; i < shards.size(); ++i) {
    shards[i].file = file.parent_path() /
                     fmt::format("{}-{:05}-of-{:05}{}", stem, i + 1, shards.size(), kSuffix);
  }
  layout->index = file;
  layout->index += ".index.json";
}

std::string tensor_entry(const PlacedTensor& t, int64_t begin) {
  return fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
                     json_quote(t.plan.name, JsonEscape::kUtf8), dtype_name(t.plan.dtype),
                     to_string(t.plan.shape), begin, begin + t.bytes);
}

void write_header(const std::map<std::string, std::string>& metadata, WriterLayout* layout,
                  ShardLayout* shard) {
  std::string json = fmt::format("{{\"__metadata__\":{{\"{}\":\"", kRunKey);
  shard->run_id_at = 8 + json.size();
  json += std::string(kRunDigits, '0') + '"';
  for (const auto& [key, value] : metadata) {
    json += ',' + json_quote(key, JsonEscape::kUtf8) + ':' + json_quote(value, JsonEscape::kUtf8);
  }
  json += '}';
  int64_t begin = 0;
  for (const size_t i : shard->tensors) {
    PlacedTensor& t = layout->tensors[i];
    json += tensor_entry(t, begin);
    t.offset = begin;
    begin += t.bytes;
  }
  json += '}';
  json.append((kDataAlignment - json.size() % kDataAlignment) % kDataAlignment, ' ');
  if (static_cast<int64_t>(json.size()) > kMaxSafetensorsHeader) {
    fail("the header of a safetensors file would be too long",
         {.file = shard->file.string(),
          .expected = "at most " + std::to_string(kMaxSafetensorsHeader) + " bytes",
          .found = std::to_string(json.size())});
  }
  for (uint64_t i = 0, length = json.size(); i < 8; ++i, length >>= 8) {
    shard->header += static_cast<char>(length & 0xff);
  }
  shard->header += json;
  const auto data_start = static_cast<int64_t>(shard->header.size());
  for (const size_t i : shard->tensors) layout->tensors[i].offset += data_start;
  shard->file_bytes = data_start + begin;
}

std::string hash_of_plan(const WriterLayout& layout) {
  HashStream hash;
  for (const ShardLayout& shard : layout.shards) {
    hash.add(shard.file.filename().string());
    hash.add(std::string_view("\0", 1));
    hash.add(shard.header);
  }
  return to_hex(hash.finish());
}

void add_tensors(std::vector<TensorPlan> plan, WriterLayout* layout) {
  for (TensorPlan& t : plan) {
    const int64_t bytes = byte_count(t.dtype, t.shape);
    if (__builtin_add_overflow(layout->data_bytes, bytes, &layout->data_bytes)) {
      fail("the planned tensors overflow", {.tensor = t.name});
    }
    layout->tensors.push_back({std::move(t), bytes, 0, 0});
  }
  layout->by_name.resize(layout->tensors.size());
  std::iota(layout->by_name.begin(), layout->by_name.end(), size_t{0});
  std::sort(layout->by_name.begin(), layout->by_name.end(), [&](size_t a, size_t b) {
    return layout->tensors[a].plan.name < layout->tensors[b].plan.name;
  });
}

}  // namespace

std::optional<size_t> WriterLayout::find(std::string_view name) const noexcept {
  const auto at =
      std::lower_bound(by_name.begin(), by_name.end(), name,
                       [&](size_t i, std::string_view n) { return tensors[i].plan.name < n; });
  if (at == by_name.end() || tensors[*at].plan.name != name) return std::nullopt;
  return *at;
}

WriterLayout plan_layout(const fs::path& file, std::vector<TensorPlan> plan,
                         const WriterOptions& options) {
  if (!file.filename().string().ends_with(kSuffix)) {
    fail("a weight file needs the ending .safetensors", {.file = file.string()});
  }
  if (options.max_shard_bytes < 0) {
    fail("the size of a shard is negative", {.found = std::to_string(options.max_shard_bytes)});
  }
  if (options.metadata.contains(std::string(kRunKey))) {
    fail("the metadata key is reserved", {.found = std::string(kRunKey)});
  }
  WriterLayout layout;
  add_tensors(std::move(plan), &layout);
  check_names(layout);
  assign_shards(options.max_shard_bytes, &layout);
  name_shards(file, &layout);
  for (ShardLayout& shard : layout.shards) {
    std::sort(shard.tensors.begin(), shard.tensors.end(), [&](size_t a, size_t b) {
      const int64_t width_a = dtype_size(layout.tensors[a].plan.dtype);
      const int64_t width_b = dtype_size(layout.tensors[b].plan.dtype);
      return width_a != width_b ? width_a > width_b : a < b;
    });
    write_header(options.metadata, &layout, &shard);
  }
  layout.plan_id = hash_of_plan(layout);
  return layout;
}

std::string final_header(const ShardLayout& shard, std::string_view run_id) {
  std::string header = shard.header;
  header.replace(shard.run_id_at, kRunDigits, run_id);
  return header;
}

std::string run_id_of(const WriterLayout& layout, const std::vector<Hash128>& hashes) {
  HashStream hash;
  for (const size_t i : layout.by_name) {
    const TensorPlan& t = layout.tensors[i].plan;
    hash.add(fmt::format("{}\t{}\t{}\t{}\n", json_quote(t.name, JsonEscape::kAscii),
                         dtype_name(t.dtype), to_string(t.shape), to_hex(hashes[i])));
  }
  return to_hex(hash.finish());
}

}  // namespace mezzotint
