// What an export needs of statistics, asked before anything is written.
#pragma once

#include "format/statistics.h"
#include "mezzotint/calibration.h"
#include "quant/layer_selection.h"

namespace mezzotint {

// Whether the solvers weigh errors with the Gram matrix of the input, where there are statistics.
bool needs_gram(const AlgorithmRow& row, const Calibration& how);

// The input that a layer reads. Throws Error(kUsage) when the statistics do not know it, or know it
// with another K.
const InputStatistics& input_of_layer(const Statistics& statistics, const SelectedLayer& layer,
                                      const Calibration& how);

// What was measured of an attention under this very algorithm; nullptr: nothing.
const AttentionStatistics* measured_attention(const Statistics& statistics,
                                              const SelectedAttention& attention);

// Throws Error(kUsage), naming layer or input and what to collect, when something is missing that
// writing this layer would need: the input itself, enough rows of it, histograms.
void require_statistics_of(const SelectedLayer& layer, const Statistics& statistics,
                           const Calibration& how);

}  // namespace mezzotint
