// What a Report says, in few words: worst layer, layers kept float by reason, tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cli/text_table.h"
#include "mezzotint/report.h"

namespace mezzotint::cli {

// The quantized layer of lowest known SQNR; nullptr when there is none.
const LayerReport* worst_layer(const Report& report);

struct KeptGroup {
  std::string reason;
  std::vector<std::string> layers;
};
// Layers kept float, by reason, in order of appearance.
std::vector<KeptGroup> kept_by_reason(const Report& report);

struct AlgorithmGroup {
  std::string algorithm;
  int64_t layers = 0;
  int64_t weights = 0;  // elements
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;
};
std::vector<AlgorithmGroup> by_algorithm(const Report& report);

// "kept     2 layers: K < 32 (x_embedder, proj_out)", one line per reason.
std::vector<std::string> kept_lines(const Report& report);

TextTable layer_table(const Report& report);
nlohmann::json report_json(const Report& report);  // to_json(report) as a document

}  // namespace mezzotint::cli
