// For tests: a folder that disappears with the test, and whole files in one call.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "format/output_file.h"

namespace mezzotint {

class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("mezzotint_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Creates missing folders on the way.
  std::filesystem::path write(std::string_view name, std::string_view text) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return file;
  }

 private:
  std::filesystem::path path_;
};

inline std::string file_bytes(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Its bytes leave the page cache, unless somebody maps them.
inline void drop_from_cache(const std::filesystem::path& file) {
  OutputFile cached(file, OutputFile::Mode::kReadOnly);
  cached.sync();
  cached.drop_cache();
}

// A safetensors file of this header and this many bytes of data (0, 1, 2, ...).
inline std::string safetensors_file(std::string_view json, int64_t data_bytes) {
  std::string file;
  for (uint64_t i = 0, n = json.size(); i < 8; ++i, n >>= 8) file += static_cast<char>(n & 0xff);
  file += json;
  for (int64_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i & 0xff);
  return file;
}

}  // namespace mezzotint
