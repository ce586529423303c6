#include "format/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>
#include <vector>

#include "mezzotint/error.h"

#ifndef MADV_POPULATE_READ  // Linux 5.14
#define MADV_POPULATE_READ 22
#endif

namespace mezzotint {
namespace {

// A read fault maps the pages around it as well ("fault-around", 64 KiB by default), so a range
// has resident neighbours that nobody asked for; they go with it.
constexpr int64_t kFaultAround = 64 * 1024;

constexpr int64_t kPage = 4096;  // and what direct reading is a multiple of

// Whether nearly all of these bytes of a mapped file are in the page cache. What is read before and
// behind them brings a part of them along: 8 MiB on some machines. Of a file that is neither ours
// nor writable the kernel says yes.
bool is_cached(const std::byte* data, int64_t bytes) {
  const int64_t skip = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data) % kPage);
  std::vector<unsigned char> pages(static_cast<size_t>((skip + bytes + kPage - 1) / kPage));
  if (::mincore(const_cast<std::byte*>(data) - skip, static_cast<size_t>(skip + bytes),
                pages.data()) != 0) {
    return true;
  }
  const auto missing = std::ranges::count_if(pages, [](unsigned char page) { return !(page & 1); });
  return missing <= std::ssize(pages) / 16;
}

[[noreturn]] void fail(std::string_view what, const std::filesystem::path& path, int error) {
  throw Error(
      ErrorCode::kInput, what,
      {.file = path.string(), .found = error == 0 ? "" : std::generic_category().message(error)});
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a named pipe must not wait for its writer.
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail("cannot open the file", path, errno);
  struct stat status = {};
  if (::fstat(fd.get(), &status) != 0) fail("cannot read the file's size", path, errno);
  if (!S_ISREG(status.st_mode)) fail("this is not a regular file", path, 0);
  if (status.st_size == 0) fail("the file is empty", path, 0);
  const auto size = static_cast<size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) fail("cannot map the file", path, errno);
  return std::make_shared<const MappedFile>(path, static_cast<const std::byte*>(data), status);
}

MappedFile::MappedFile(std::filesystem::path path, const std::byte* data, const struct stat& status)
    : path_(std::move(path)),
      data_(data),
      size_(status.st_size),
      world_writable_((status.st_mode & S_IWOTH) != 0),
      device_(status.st_dev),
      inode_(status.st_ino) {}

MappedFile::~MappedFile() {
  ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
  if (direct_fd_ >= 0) ::close(direct_fd_);
}

// -1: none.
int MappedFile::direct_fd() const {
  std::call_once(opened_, [this] {
    const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
    struct stat status = {};
    if (fd >= 0 && ::fstat(fd, &status) == 0 && status.st_dev == device_ &&
        status.st_ino == inode_) {
      direct_fd_ = fd;
    } else if (fd >= 0) {
      ::close(fd);
    }
  });
  return direct_fd_;
}

void MappedFile::release(int64_t offset, int64_t bytes) const noexcept {
  if (bytes <= 0) return;
  const int64_t begin = offset / kFaultAround * kFaultAround;
  const int64_t end =
      std::min(size_, (offset + bytes + kFaultAround - 1) / kFaultAround * kFaultAround);
  // Read-only private pages of a file hold nothing of ours, so dropping a neighbour's is harmless.
  ::madvise(const_cast<std::byte*>(data_) + begin, static_cast<size_t>(end - begin), MADV_DONTNEED);
}

std::optional<Buffer> MappedFile::read_direct(int64_t offset, int64_t bytes) const {
  const int fd = direct_fd();
  if (fd < 0 || is_cached(data_ + offset, bytes)) return {};
  const int64_t begin = offset / kPage * kPage;
  const int64_t wanted = offset + bytes - begin;
  Buffer buffer = Buffer::allocate((wanted + kPage - 1) / kPage * kPage);
  // Large buffers begin at a page, as the kernel wants it.
  if (reinterpret_cast<uintptr_t>(buffer.data()) % kPage != 0) return {};
  for (int64_t at = 0; at < wanted;) {
    // The last page of a file may be a part of one: all that is there is read.
    const ssize_t n = ::pread(fd, buffer.mutable_data() + at,
                              static_cast<size_t>(buffer.size() - at), begin + at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || (at + n < wanted && n % kPage != 0)) return {};
    at += n;
  }
  return buffer.slice(offset - begin, bytes);
}

void read_ahead(std::span<const std::byte> bytes) noexcept {
  // MADV_WILLNEED reads no more per call than the device's read-ahead, of which this is the
  // default.
  constexpr uintptr_t kPiece = 128 * 1024;
  if (bytes.empty()) return;
  const auto first = reinterpret_cast<uintptr_t>(bytes.data());
  const uintptr_t end = first + bytes.size();
  constexpr uintptr_t kStep = kPage;
  for (uintptr_t at = first / kStep * kStep; at < end; at += kPiece) {
    void* piece = reinterpret_cast<void*>(at);
    const size_t size = std::min(kPiece, end - at);
    if (::madvise(piece, size, MADV_POPULATE_READ) != 0) ::madvise(piece, size, MADV_WILLNEED);
    // Memory that a virtual machine was not given before faults once more, below it, where it is
    // first touched: 0.1 to 0.3 s per GB.
    for (uintptr_t page = std::max(at, first); page < at + size; page += kStep) {
      static_cast<void>(*reinterpret_cast<const volatile std::byte*>(page));
    }
  }
}

}  // namespace mezzotint
