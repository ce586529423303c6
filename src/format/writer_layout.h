// Where every tensor of a Writer will lie: shards, offsets and headers, from shapes alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/content_hash.h"
#include "mezzotint/weights.h"

namespace mezzotint {

struct PlacedTensor {
  TensorPlan plan;
  int64_t bytes = 0;
  size_t shard = 0;
  int64_t offset = 0;  // from the beginning of the shard's file
};

struct ShardLayout {
  std::filesystem::path file;   // final name
  std::vector<size_t> tensors;  // by offset
  std::string header;           // length field and JSON; the run id is 32 zeros
  size_t run_id_at = 0;         // its place in `header`
  int64_t file_bytes = 0;
};

struct WriterLayout {
  std::vector<PlacedTensor> tensors;  // in the order of the plan
  std::vector<size_t> by_name;        // indices into `tensors`, sorted by name
  std::vector<ShardLayout> shards;
  std::filesystem::path index;  // empty: one file
  int64_t data_bytes = 0;
  std::string plan_id;  // hash of everything above; two equal ones may share a journal

  std::optional<size_t> find(std::string_view name) const noexcept;
};

// Tensors go to shards in the order of the plan; within a shard wide types come first, so that
// every tensor is aligned to its element type. Throws Error(kUsage) on an unusable plan.
WriterLayout plan_layout(const std::filesystem::path& file, std::vector<TensorPlan> plan,
                         const WriterOptions& options);

// The header with its run id filled in.
std::string final_header(const ShardLayout& shard, std::string_view run_id);

// Hash of name, dtype, shape and content hash of every tensor, in the order of names.
std::string run_id_of(const WriterLayout& layout, const std::vector<Hash128>& hashes);

}  // namespace mezzotint
