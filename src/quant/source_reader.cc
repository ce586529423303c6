#include "quant/source_reader.h"

#include <exception>

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
                           int64_t most_ahead)
    : source_(source), names_(names) {
  std::vector<int64_t> bytes;
  for (const std::string& name : names) bytes.push_back(source.info(name).bytes);
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
  // What nobody came to want, or could not finish, is not held any longer than this.
  for (size_t i = 0; i < read_; ++i) source_.release(names_[i]);
}

void SourceReader::run() {
  std::unique_lock lock(mutex_);
  while (read_ < names_.size()) {
    changed_.wait(lock, [this] { return ending_ || read_ < ends_[wanted_]; });
    if (ending_) return;
    const std::string& name = names_[read_];
    lock.unlock();
    try {
      source_.read_ahead(name);
    } catch (const std::exception&) {  // no memory for it: whoever wants it will tell
    }
    lock.lock();
    ++read_;
    changed_.notify_all();
  }
}

void SourceReader::want(size_t i) {
  std::unique_lock lock(mutex_);
  wanted_ = i;
  changed_.notify_all();
  changed_.wait(lock, [&] { return read_ > i; });
}

}  // namespace mezzotint
