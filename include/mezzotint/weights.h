// Reading and writing safetensors.
//
//   WeightStore store = WeightStore::open("FLUX.1-dev");   // file, shards + index, or folder
//   for (const TensorInfo& t : store.tensors()) ...
//   Tensor w = store.read("proj_out.weight");              // mapped, zero copy
//   store.release("proj_out.weight");                      // give the pages back
//
// WeightStore is read-only and thread-safe. Every malformed file is an Error(kInput) that names
// the file and the tensor; opening never allocates more than the header justifies. The files must
// not shrink while the store or a tensor of it lives: touching a page behind the new end of a file
// ends the process (SIGBUS).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mezzotint/export.h"
#include "mezzotint/tensor.h"

namespace mezzotint {

struct TensorInfo {
  std::string name{};
  DType dtype = DType::kF32;
  Shape shape{};
  int64_t bytes = 0;
  int file = 0;  // index into WeightStore::files()
};

class MZ_API WeightStore {
 public:
  // `path` is a .safetensors file, an .index.json, a folder that holds one of the two (also under
  // transformer/), or a pipeline folder together with `component`.
  static WeightStore open(const std::filesystem::path& path,
                          std::string_view component = "transformer");
  // Exactly this .safetensors file.
  static WeightStore open_file(const std::filesystem::path& path);
  // What a model holds in memory, as if it had been read: bytes are shared, not copied. Throws
  // Error(kUsage) when a name stands twice.
  static WeightStore of_tensors(std::vector<std::pair<std::string, Tensor>> tensors);

  const std::vector<TensorInfo>& tensors() const noexcept;  // by file, then by offset
  const std::vector<std::filesystem::path>& files() const noexcept;
  const std::filesystem::path& folder() const noexcept;  // where config.json would lie; or empty
  const std::map<std::string, std::string>& metadata() const noexcept;  // of the first file
  int64_t total_bytes() const noexcept;
  // Remarks that are no errors: a file that anyone may write, a wrong total_size in the index.
  const std::vector<std::string>& warnings() const noexcept;

  const TensorInfo* find(std::string_view name) const noexcept;  // nullptr when absent
  const TensorInfo& info(std::string_view name) const;           // throws, naming the nearest
  Tensor read(std::string_view name) const;                      // mapped; throws like info()
  // As they stand in the file, which need not be where a C++ array of them could; throws likewise.
  std::span<const std::byte> bytes(std::string_view name) const;
  // Reads the tensor now, for a thread beside the one that is going to want it; throws like info().
  // A large one that is not in the page cache is read past it: until release() read() then gives
  // that memory, instead of mapped pages.
  void read_ahead(std::string_view name) const;
  void release(std::string_view name) const noexcept;  // drops the resident pages

 private:
  class Ahead;
  struct Impl;
  explicit WeightStore(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

struct TensorPlan {
  std::string name{};
  DType dtype = DType::kF32;
  Shape shape{};
};

struct WriterOptions {
  std::map<std::string, std::string> metadata{};
  int64_t max_shard_bytes = 0;  // 0: one file; else NAME-00001-of-0000n.safetensors + index.json
  bool resume = false;          // go on from the journal beside the file
};

// Writes safetensors whose offsets are planned from shapes first, so that tensors may be put in any
// order and memory stays at one tensor. The file appears under its name only in finish(); until
// then it is FILE.partial with FILE.journal beside it.
// The header's metadata carries "mezzotint_run": a hash of every name, dtype, shape and byte, so
// equal input gives equal bytes and two runs cannot be mixed unnoticed.
class MZ_API Writer {
 public:
  Writer(std::filesystem::path file, std::vector<TensorPlan> plan, WriterOptions options = {});
  ~Writer();
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;

  bool done(std::string_view name) const;  // already written (by an earlier run, when resuming)
  void put(std::string_view name, std::span<const std::byte> bytes);  // exactly the planned size
  void put(const std::string& name, const Tensor& tensor);  // checks dtype and shape as well
  // Throws Error(kInternal) naming the tensors that are missing. Returns the run id.
  std::string finish();
  const std::vector<std::filesystem::path>& files() const noexcept;  // final names

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mezzotint
