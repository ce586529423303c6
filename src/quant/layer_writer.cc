#include "quant/layer_writer.h"

#include <utility>

namespace mezzotint {

void LayerWriter::run(const LayerWork& work) {
  if (work.measure) work.measure();
  for (const NamedTensor& tensor : work.tensors) writer_.put(tensor.name, tensor.tensor);
  if (work.release) work.release();
}

void LayerWriter::put(LayerWork work) {
  finish();
  writing_ = std::async(std::launch::async, [this, work = std::move(work)] { run(work); });
}

void LayerWriter::finish() {
  if (writing_.valid()) writing_.get();
}

}  // namespace mezzotint
