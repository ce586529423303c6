// Everything an export is going to write, from the headers of the source alone.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "mezzotint/descriptor.h"
#include "mezzotint/quantize.h"
#include "mezzotint/report.h"
#include "mezzotint/weights.h"
#include "quant/layer_selection.h"

namespace mezzotint {

struct ExportPlan {
  WriteOptions write_options;                                   // but for the layer's calibration
  std::string quant_type;                                       // the label in the file names
  std::vector<TensorPlan> tensors;                              // in the order of the source
  Descriptor descriptor;                                        // complete but for the run
  Report report;                                                // complete but for the SQNR
  std::map<std::string, SelectedLayer, std::less<>> quantized;  // by the weight's tensor name
  std::vector<SelectedAttention> attentions;                    // quantized ones
  std::map<std::string, std::string, std::less<>> consumed;     // bias -> the layer that writes it
};

// The tensors that a selected layer becomes.
std::vector<PlannedTensor> planned_tensors(const SelectedLayer& layer, const WriteOptions& how,
                                           const ExportOptions& options);
Smoothed smoothed_of(const SelectedLayer& layer, const ExportOptions& options);

// What the weight files keep of the source's metadata.
std::map<std::string, std::string> metadata_of(const WeightStore& source);

// Throws Error(kUsage) when nothing is left to quantize, and when a name would stand twice.
ExportPlan plan_export(const WeightStore& source, const ExportOptions& options);

}  // namespace mezzotint
