#include "format/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// The most that the upstream loader accepts: it refuses files that others may read.
constexpr mode_t kMode = 0640;
constexpr int64_t kLargeWrite = int64_t{1} << 20;

bool is_full(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

[[noreturn]] void throw_failure(std::string_view what, const fs::path& path, int error) {
  const bool full = is_full(error);
  const bool device = full || error == EIO;
  throw Error(device ? ErrorCode::kResources : ErrorCode::kUsage,
              full ? "not enough space on the disk" : what,
              {.file = path.string(),
               .found = std::generic_category().message(error),
               .fix = full ? "free some space or write elsewhere" : ""});
}

int open_flags(OutputFile::Mode mode) {
  switch (mode) {
    case OutputFile::Mode::kCreate:
      return O_RDWR | O_CREAT | O_TRUNC;
    case OutputFile::Mode::kKeep:
      return O_RDWR | O_CREAT;
    case OutputFile::Mode::kReadOnly:
      return O_RDONLY;
  }
  return O_RDONLY;
}

}  // namespace

OutputFile::OutputFile(fs::path path, Mode mode) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), open_flags(mode) | O_CLOEXEC, kMode);
  if (fd_ < 0) fail("cannot create the file", errno);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

void OutputFile::fail(std::string_view what, int error) const { throw_failure(what, path_, error); }

int64_t OutputFile::size() const {
  struct stat status = {};
  if (::fstat(fd_, &status) != 0) fail("cannot read the file's size", errno);
  return status.st_size;
}

void OutputFile::resize(int64_t bytes) {
  if (::ftruncate(fd_, bytes) != 0) fail("cannot resize the file", errno);
}

void OutputFile::reserve(int64_t bytes) {
  if (size() > bytes) resize(bytes);
  if (bytes == 0 || ::fallocate(fd_, 0, 0, bytes) == 0) return;
  if (errno != EOPNOTSUPP && errno != ENOSYS) fail("cannot reserve space for the file", errno);
  // No reservation on this file system: at least the space must be free now.
  struct statvfs disk = {};
  if (::fstatvfs(fd_, &disk) == 0) {
    const auto free_bytes = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    if (free_bytes < static_cast<uint64_t>(bytes - size())) fail("", ENOSPC);
  }
  resize(bytes);
}

void OutputFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  const int64_t first = offset;
  const auto count = static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail("cannot write the file", n < 0 ? errno : EIO);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
  // The disk begins at once, so that sync() later has little to wait for.
  if (count >= kLargeWrite) ::sync_file_range(fd_, first, count, SYNC_FILE_RANGE_WRITE);
}

void OutputFile::write_at(int64_t offset, std::string_view text) {
  write_at(offset, std::as_bytes(std::span(text.data(), text.size())));
}

bool OutputFile::read_at(int64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pread(fd_, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot read the file", errno);
    if (n == 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += n;
  }
  return true;
}

void OutputFile::sync() {
  if (::fsync(fd_) != 0) fail("cannot write the file to the disk", errno);
}

void OutputFile::drop_cache() noexcept { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

bool OutputFile::try_lock() noexcept { return ::flock(fd_, LOCK_EX | LOCK_NB) == 0; }

void rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw_failure("cannot rename the file", to, errno);
}

void sync_folder(const fs::path& folder) {
  const fs::path name = folder.empty() ? fs::path(".") : folder;
  const int fd = ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw_failure("cannot open the folder", name, errno);
  const int result = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  // Some network file systems cannot sync a folder; the rename itself has happened.
  if (result != 0 && error != EINVAL) throw_failure("cannot sync the folder", name, error);
}

void write_file_atomically(const fs::path& file, std::string_view text) {
  fs::path partial = file;
  partial += ".partial";
  {
    OutputFile out(partial, OutputFile::Mode::kCreate);
    out.write_at(0, text);
    out.sync();
  }
  rename_file(partial, file);
  sync_folder(file.parent_path());
}

}  // namespace mezzotint
