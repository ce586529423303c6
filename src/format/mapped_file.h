// A file mapped for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>

#include "mezzotint/tensor.h"

namespace mezzotint {

// Follows symbolic links. Unmapped when the last handle goes; thread-safe.
class MappedFile {
 public:
  // Throws Error(kInput) when the file is missing, unreadable, empty or not a regular file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  // Takes the descriptor over; -1: none.
  MappedFile(const std::byte* data, int64_t size, bool world_writable, int direct_fd) noexcept;
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const noexcept { return data_; }
  int64_t size() const noexcept { return size_; }
  bool world_writable() const noexcept { return world_writable_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, static_cast<size_t>(size_)}; }

  // Drops the resident pages of a range, and up to 60 KiB around it. The bytes stay readable: the
  // next access fetches them again.
  void release(int64_t offset, int64_t bytes) const noexcept;

  // These bytes, read past the page cache into memory of their own: without a page of the cache to
  // find, fill, map and give back for every 4 KiB. Nothing where most of them are in the cache, or
  // where the file system reads no other way.
  std::optional<Buffer> read_direct(int64_t offset, int64_t bytes) const;

 private:
  const std::byte* data_;
  int64_t size_;
  bool world_writable_;
  int direct_fd_;
};

// Reads these bytes of a mapped file, maps their pages and touches them, for a thread beside the
// one that will want them.
void read_ahead(std::span<const std::byte> bytes) noexcept;

}  // namespace mezzotint
