#include "format/output_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "format/expect_error.h"
#include "format/temp_folder.h"

namespace mezzotint {
namespace {

TEST(OutputFile, WritesAndReadsAtOffsets) {
  const TempFolder folder;
  OutputFile file(folder.path() / "f", OutputFile::Mode::kCreate);
  file.reserve(10);
  EXPECT_EQ(file.size(), 10);
  file.write_at(4, "abc");
  std::string back(3, ' ');
  EXPECT_TRUE(file.read_at(4, std::as_writable_bytes(std::span(back))));
  EXPECT_EQ(back, "abc");
  EXPECT_FALSE(file.read_at(8, std::as_writable_bytes(std::span(back))));
}

TEST(OutputFile, ReserveSetsTheExactSize) {
  const TempFolder folder;
  OutputFile file(folder.path() / "f", OutputFile::Mode::kCreate);
  file.reserve(1000);
  file.reserve(10);
  EXPECT_EQ(file.size(), 10);
}

TEST(OutputFile, AFullDiskIsAResourceError) {
  const TempFolder folder;
  OutputFile file(folder.path() / "f", OutputFile::Mode::kCreate);
  expect_error(ErrorCode::kResources, {"not enough space on the disk", "fix: free some space"},
               [&] { file.reserve(int64_t{1} << 60); });
}

TEST(OutputFile, AFolderThatDoesNotExistIsAUsageError) {
  const TempFolder folder;
  expect_error(ErrorCode::kUsage, {"cannot create the file", "none/f"}, [&] {
    const OutputFile file(folder.path() / "none" / "f", OutputFile::Mode::kCreate);
  });
}

TEST(OutputFile, OneLockAtATime) {
  const TempFolder folder;
  OutputFile a(folder.path() / "f", OutputFile::Mode::kKeep);
  EXPECT_TRUE(a.try_lock());
  {
    OutputFile b(folder.path() / "f", OutputFile::Mode::kKeep);
    EXPECT_FALSE(b.try_lock());
  }
  a = OutputFile();
  OutputFile c(folder.path() / "f", OutputFile::Mode::kKeep);
  EXPECT_TRUE(c.try_lock());
}

TEST(OutputFile, OthersMayNotReadWhatIsWritten) {
  const TempFolder folder;
  write_file_atomically(folder.path() / "f.json", "{}");
  struct stat status = {};
  ASSERT_EQ(::stat((folder.path() / "f.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0137, 0u) << "upstream's loader refuses more than 0640";
}

TEST(WriteFileAtomically, ReplacesTheOldFileAndLeavesNothingElse) {
  const TempFolder folder;
  const auto file = folder.write("f.json", "old");
  write_file_atomically(file, "new");
  EXPECT_EQ(file_bytes(file), "new");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace mezzotint
