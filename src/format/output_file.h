// Writing files so that a crash leaves the old file or the new one, never half of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace mezzotint {

// An open file. Throws Error(kResources) when the disk is full, Error(kUsage) when the file cannot
// be created, both naming it. Move-only; closed on destruction.
class OutputFile {
 public:
  enum class Mode : uint8_t { kCreate /* or empty it */, kKeep /* or create */, kReadOnly };

  OutputFile() = default;
  OutputFile(std::filesystem::path path, Mode mode);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;

  const std::filesystem::path& path() const noexcept { return path_; }
  int64_t size() const;

  // Makes the file exactly this long and reserves the blocks, so that a full disk shows now.
  void reserve(int64_t bytes);
  void resize(int64_t bytes);
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  void write_at(int64_t offset, std::string_view text);
  // Reads exactly the span; false when the file ends before.
  bool read_at(int64_t offset, std::span<std::byte> bytes) const;
  void sync();
  void drop_cache() noexcept;  // synced pages need not stay in memory
  bool try_lock() noexcept;    // against other processes; held until the file is closed

 private:
  [[noreturn]] void fail(std::string_view what, int error) const;

  std::filesystem::path path_;
  int fd_ = -1;
};

// Renames within one folder, replacing the target, and makes it durable with sync_folder.
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);
void sync_folder(const std::filesystem::path& folder);

// FILE.partial, fsync, rename, fsync of the folder.
void write_file_atomically(const std::filesystem::path& file, std::string_view text);

}  // namespace mezzotint
