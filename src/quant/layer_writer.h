// Hashes and writes the tensors of one layer while the next one is quantized.
//
//   LayerWriter layers(writer);
//   for (...) layers.put(std::move(tensors));  // waits for the layer before, not for this one
//   layers.finish();
//
// The files do not depend on it: a Writer has a place for every tensor. For one thread.
#pragma once

#include <future>

#include "mezzotint/weights.h"
#include "quant/algorithm.h"

namespace mezzotint {

class LayerWriter {
 public:
  explicit LayerWriter(Writer& writer) : writer_(writer) {}  // which outlives this
  // Waits for what was put; its errors are lost unless finish() was called.
  ~LayerWriter() = default;
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;

  // Both throw the error of the layer before.
  void put(LayerTensors tensors);
  void finish();

 private:
  Writer& writer_;
  std::future<void> writing_;  // of std::async: its destructor waits
};

}  // namespace mezzotint
