#include "quant/layer_writer.h"

#include <utility>

namespace mezzotint {

void LayerWriter::put(LayerTensors tensors) {
  finish();
  writing_ = std::async(std::launch::async, [this, tensors = std::move(tensors)] {
    for (const NamedTensor& tensor : tensors) writer_.put(tensor.name, tensor.tensor);
  });
}

void LayerWriter::finish() {
  if (writing_.valid()) writing_.get();
}

}  // namespace mezzotint
