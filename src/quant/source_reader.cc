#include "quant/source_reader.h"

#include "format/mapped_file.h"

namespace mezzotint {

size_t tensors_ahead(std::span<const int64_t> bytes, int64_t most_ahead) {
  int64_t ahead = 0;
  for (size_t i = 1; i < bytes.size(); ++i) {
    ahead += bytes[i];
    if (i > 1 && ahead > most_ahead) return i - 1;
  }
  return bytes.empty() ? 0 : bytes.size() - 1;
}

SourceReader::SourceReader(const WeightStore& source, const std::vector<std::string>& names,
                           int64_t most_ahead) {
  std::vector<int64_t> bytes;
  for (const std::string& name : names) {
    const std::span<const std::byte> stored = source.bytes(name);
    bytes.push_back(static_cast<int64_t>(stored.size()));
    // Reading copies a tensor that no array of its elements could be: mapped as well it would be in
    // memory twice.
    const auto element = static_cast<uintptr_t>(dtype_size(source.info(name).dtype));
    const bool is_copied = reinterpret_cast<uintptr_t>(stored.data()) % element != 0;
    tensors_.push_back(is_copied ? std::span<const std::byte>() : stored);
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    ends_.push_back(i + 1 + tensors_ahead(std::span(bytes).subspan(i), most_ahead));
  }
  thread_ = std::thread([this] { run(); });
}

SourceReader::~SourceReader() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void SourceReader::run() {
  std::unique_lock lock(mutex_);
  while (mapped_ < tensors_.size()) {
    changed_.wait(lock, [this] { return ending_ || mapped_ < ends_[wanted_]; });
    if (ending_) return;
    const std::span<const std::byte> bytes = tensors_[mapped_];
    lock.unlock();
    read_ahead(bytes);
    lock.lock();
    ++mapped_;
    changed_.notify_all();
  }
}

void SourceReader::want(size_t i) {
  std::unique_lock lock(mutex_);
  wanted_ = i;
  changed_.notify_all();
  changed_.wait(lock, [&] { return mapped_ > i; });
}

}  // namespace mezzotint
