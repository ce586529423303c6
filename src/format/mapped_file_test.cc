#include "format/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "format/expect_error.h"
#include "format/output_file.h"
#include "format/temp_folder.h"

namespace mezzotint {
namespace {

// Pages of [data, data + bytes) that this process has in its page tables.
int64_t resident_pages(const std::byte* data, int64_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(data) / 4096;
  std::vector<uint64_t> entries(static_cast<size_t>(bytes / 4096));
  const OutputFile pagemap("/proc/self/pagemap", OutputFile::Mode::kReadOnly);
  if (!pagemap.read_at(static_cast<int64_t>(first * 8),
                       std::as_writable_bytes(std::span(entries)))) {
    return -1;
  }
  return std::count_if(entries.begin(), entries.end(), [](uint64_t e) { return (e >> 63) != 0; });
}

TEST(MappedFile, HoldsTheBytesOfTheFileBehindALink) {
  const TempFolder folder;
  const auto file = folder.write("blob", "hello");
  std::filesystem::create_symlink(file, folder.path() / "link");
  const auto map = MappedFile::open(folder.path() / "link");
  EXPECT_EQ(map->size(), 5);
  EXPECT_EQ(map->data()[4], std::byte{'o'});
  EXPECT_FALSE(map->world_writable());
  std::filesystem::permissions(file, std::filesystem::perms::all);
  EXPECT_TRUE(MappedFile::open(file)->world_writable());
}

TEST(MappedFile, RejectsWhatIsNoReadableRegularFile) {
  const TempFolder folder;
  expect_error(ErrorCode::kInput, {"cannot open the file", "No such file", "none"},
               [&] { MappedFile::open(folder.path() / "none"); });
  expect_error(ErrorCode::kInput, {"not a regular file"}, [&] { MappedFile::open(folder.path()); });
  const auto empty = folder.write("empty", "");
  expect_error(ErrorCode::kInput, {"the file is empty", "empty)"},
               [&] { MappedFile::open(empty); });
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error(ErrorCode::kInput, {"not a regular file"}, [&] { MappedFile::open(pipe); });
}

TEST(MappedFile, ReleaseDropsThePagesAndKeepsTheBytes) {
  constexpr int64_t kBytes = 8 << 20;
  const TempFolder folder;
  const auto file = folder.write("f", std::string(kBytes, 'x'));
  const auto map = MappedFile::open(file);
  int64_t sum = 0;
  for (int64_t i = 0; i < kBytes; i += 4096) sum += std::to_integer<int64_t>(map->data()[i]);
  EXPECT_EQ(sum, kBytes / 4096 * 'x');
  EXPECT_EQ(resident_pages(map->data(), kBytes), kBytes / 4096);
  map->release(4 << 20, 4 << 20);
  EXPECT_EQ(resident_pages(map->data() + (4 << 20), 4 << 20), 0);
  EXPECT_EQ(resident_pages(map->data(), 4 << 20), 1024) << "the other half stays";
  map->release(1, kBytes - 2);
  EXPECT_EQ(resident_pages(map->data(), kBytes), 0) << "partial pages at the ends as well";
  EXPECT_EQ(map->data()[kBytes - 1], std::byte{'x'});
}

TEST(MappedFile, ReadAheadMapsEveryPageOfARange) {
  constexpr int64_t kBytes = 1 << 20;
  const TempFolder folder;
  const auto file = folder.write("f", std::string(kBytes, 'x'));
  const auto map = MappedFile::open(file);
  read_ahead(map->bytes().subspan(4096 + 7, 300 * 1024));
  EXPECT_EQ(resident_pages(map->data() + 4096, 300 * 1024), 75);
  EXPECT_LT(resident_pages(map->data(), kBytes), 150);
  read_ahead({});
  const std::vector<std::byte> memory(10'000);  // of no file: nothing but touched
  read_ahead(memory);
}

TEST(MappedFile, DirectReadingIsForWhatIsNotInTheCache) {
  constexpr int64_t kBytes = (8 << 20) + 1234;
  const TempFolder folder;
  std::string text(kBytes, '\0');
  for (int64_t i = 0; i < kBytes; ++i) text[static_cast<size_t>(i)] = static_cast<char>(i * 31 / 7);
  const auto file = folder.write("f", text);
  {
    const auto map = MappedFile::open(file);
    EXPECT_FALSE(map->read_direct(0, kBytes)) << "just written";
  }
  drop_from_cache(file);
  const auto map = MappedFile::open(file);
  if (!map->read_direct(0, kBytes))
    GTEST_SKIP() << "not on this file system, or a sanitizer's build";
  const std::array<std::pair<int64_t, int64_t>, 5> ranges = {{{0, kBytes},
                                                              {4096, 4 << 20},
                                                              {5, 3 << 20},
                                                              {(5 << 20) - 1, (3 << 20) + 2},
                                                              {kBytes - (3 << 20), 3 << 20}}};
  for (const auto& [offset, bytes] : ranges) {
    const std::optional<Buffer> read = map->read_direct(offset, bytes);
    ASSERT_TRUE(read) << offset;
    ASSERT_EQ(read->size(), bytes);
    EXPECT_EQ(std::memcmp(read->data(), text.data() + offset, static_cast<size_t>(bytes)), 0)
        << offset;
  }
  EXPECT_FALSE(map->read_direct(kBytes - 4096, 4 << 20)) << "beyond the end";
}

}  // namespace
}  // namespace mezzotint
