// quantize_model(): the float layers of a model in memory, quantized one at a time.
//
//   ModelQuantizer quantizer(tensors, slots, options, context);
//   for (choice of quantizer.choices()) HeldLayer layer = quantizer.layer(choice.name);
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "load_model.h"
#include "mezzotint/context.h"
#include "mezzotint/quantize.h"
#include "mezzotint/weights.h"
#include "module_layer.h"
#include "quant/calibrator.h"

namespace mezzotint {

class ModelQuantizer {
 public:
  // `weights`: X.weight and X.bias of every slot X; borrowed, they outlive this. Throws like
  // export_quantized() for options that do not fit the layers or the statistics.
  ModelQuantizer(WeightStore weights, const std::vector<LinearSlot>& slots, ExportOptions options,
                 ExecContext ctx);
  ModelQuantizer(const ModelQuantizer&) = delete;

  const std::vector<SlotChoice>& choices() const noexcept { return choices_; }  // one per slot
  const std::vector<std::string>& notes() const noexcept { return notes_; }

  struct Quantized {
    HeldLayer layer;
    double weight_sqnr_db = 0;
  };
  Quantized layer(const std::string& name);

 private:
  void calibrate();

  WeightStore weights_;
  ExportOptions options_;
  ExecContext ctx_;
  QuantizedLayers quantized_;
  std::vector<SlotChoice> choices_;
  std::vector<std::string> notes_;
  WriteOptions how_;
  std::optional<Calibrator> calibrator_;
  TimestepPolicy policy_;
};

}  // namespace mezzotint
