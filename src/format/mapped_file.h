// A file mapped for reading.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "mezzotint/tensor.h"

namespace mezzotint {

// Follows symbolic links. Unmapped when the last handle goes; thread-safe.
class MappedFile {
 public:
  // Throws Error(kInput) when the file is missing, unreadable, empty or not a regular file.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  MappedFile(std::filesystem::path path, const std::byte* data, const struct stat& status);
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
  // find, fill, map and give back for every 4 KiB. Nothing where they are in the cache, where the
  // file system reads no other way, and where another file has come in the place of this one.
  std::optional<Buffer> read_direct(int64_t offset, int64_t bytes) const;

 private:
  int direct_fd() const;

  std::filesystem::path path_;
  const std::byte* data_;
  int64_t size_;
  bool world_writable_;
  dev_t device_;
  ino_t inode_;
  mutable std::once_flag opened_;
  mutable int direct_fd_ = -1;
};

// Reads these bytes of a mapped file, maps their pages and touches them, for a thread beside the
// one that will want them.
void read_ahead(std::span<const std::byte> bytes) noexcept;

}  // namespace mezzotint
