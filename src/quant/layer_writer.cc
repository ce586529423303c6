#include "quant/layer_writer.h"

#include <utility>

namespace mezzotint {

LayerWriter::LayerWriter(Writer& writer, int64_t most_bytes)
    : writer_(writer), most_bytes_(most_bytes), thread_([this] { run(); }) {}

LayerWriter::~LayerWriter() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void LayerWriter::write(const LayerWork& work) {
  if (work.measure) work.measure();
  for (const NamedTensor& tensor : work.tensors) writer_.put(tensor.name, tensor.tensor);
  if (work.release) work.release();
}

void LayerWriter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    if (queue_.empty()) return;
    LayerWork work = std::exchange(queue_.front(), {});
    queue_.pop_front();
    lock.unlock();
    const int64_t bytes = work.bytes;
    std::exception_ptr error;
    try {
      write(work);
    } catch (...) {
      error = std::current_exception();
    }
    work = {};  // what it held is free before others hear of it
    lock.lock();
    --unfinished_;
    bytes_ -= bytes;
    if (error) {
      error_ = error;
      queue_.clear();
      unfinished_ = 0;
      bytes_ = 0;
    } else {
      ++written_;
    }
    changed_.notify_all();
  }
}

void LayerWriter::throw_error() {
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void LayerWriter::put(LayerWork work) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    const bool fits = most_bytes_ > 0 && bytes_ + work.bytes <= most_bytes_;
    return unfinished_ == 0 || error_ || fits;
  });
  throw_error();
  ++unfinished_;
  bytes_ += work.bytes;
  queue_.push_back(std::move(work));
  changed_.notify_all();
}

void LayerWriter::finish() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return unfinished_ == 0 || error_; });
  throw_error();
}

size_t LayerWriter::written() const {
  const std::lock_guard lock(mutex_);
  return written_;
}

}  // namespace mezzotint
