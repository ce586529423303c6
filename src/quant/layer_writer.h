// Measures, hashes and writes one layer on a thread beside, while the next one is quantized.
//
//   LayerWriter layers(writer);
//   for (...) layers.put({.tensors = std::move(tensors)});  // waits for the layer before, not for
//   this one layers.finish();
//
// The files do not depend on it: a Writer has a place for every tensor. For one thread.
#pragma once

#include <functional>
#include <future>

#include "mezzotint/weights.h"
#include "quant/algorithm.h"

namespace mezzotint {

struct LayerWork {
  LayerTensors tensors{};
  std::function<void()> measure{};  // before they are written; empty: nothing
  std::function<void()> release{};  // after it; not called where something failed
};

class LayerWriter {
 public:
  explicit LayerWriter(Writer& writer) : writer_(writer) {}  // which outlives this
  // Waits for what was put; its errors are lost unless finish() was called.
  ~LayerWriter() = default;
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;

  // Both throw the error of the layer before.
  void put(LayerWork work);
  void finish();

 private:
  void run(const LayerWork& work);

  Writer& writer_;
  std::future<void> writing_;  // of std::async: its destructor waits
};

}  // namespace mezzotint
