// Measures, hashes and writes layers on a thread beside, while the next ones are quantized.
//
//   LayerWriter layers(writer, most_bytes);
//   for (...) layers.put({.tensors = std::move(tensors), .bytes = bytes});
//   layers.finish();
//
// put() waits until what was put and is not written yet takes, with this layer, no more than
// most_bytes, or until nothing is left of it. The files do not depend on it: a Writer has a place
// for every tensor. For one thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "mezzotint/weights.h"
#include "quant/algorithm.h"

namespace mezzotint {

struct LayerWork {
  LayerTensors tensors{};
  std::function<void()> measure{};  // before they are written; empty: nothing
  std::function<void()> release{};  // after it; not called where something failed
  int64_t bytes = 0;                // that it holds until then
};

class LayerWriter {
 public:
  // The writer outlives this. 0 bytes: one layer at a time.
  explicit LayerWriter(Writer& writer, int64_t most_bytes = 0);
  // Waits for what was put; its errors are lost unless finish() was called.
  ~LayerWriter();
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;

  // Both throw the error of a layer before. Nothing that was put after that layer is written.
  void put(LayerWork work);
  void finish();

  size_t written() const;  // layers, since the beginning

 private:
  void run();
  void write(const LayerWork& work);
  void throw_error();

  Writer& writer_;
  const int64_t most_bytes_;
  mutable std::mutex mutex_;  // of all below but the thread
  std::condition_variable changed_;
  std::deque<LayerWork> queue_;  // without the one that is being written
  size_t unfinished_ = 0;        // layers, with it
  int64_t bytes_ = 0;            // of them
  size_t written_ = 0;
  bool ending_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace mezzotint
