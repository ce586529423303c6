// Choosing an algorithm per layer, for the verbs that offer it: the options and the run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/session.h"
#include "quant/layer_choice.h"

namespace CLI {
class App;
}

namespace mezzotint::cli {

// --target-size or --min-sqnr, and --choose-from.
struct Aim {
  std::string target_size;
  std::optional<double> least_sqnr_db;
  std::vector<std::string> algorithms;

  bool given() const { return !target_size.empty() || least_sqnr_db.has_value(); }
};

void add_aim(CLI::App& app, Aim& aim);
void check_aim(const Aim& aim);  // Error(kUsage) for both aims at once, and a size that is none

// With progress. Without --choose-from: W8A8_DYNAMIC, W8A8_MXFP8, W4A16, W4A4_MXFP4.
ModelAnalysis run_analysis(const Session& session, const WeightStore& source,
                           const ExportOptions& options, const Aim& aim, const ExecContext& ctx);

ModelChoice choose(const WeightStore& source, const ExportOptions& options,
                   const ModelAnalysis& analysis, const Aim& aim);

// "34 layers: 20 W8A8_DYNAMIC, 9 W4A16, 5 float; 9.9 MB, summed error 0.0123 (W4A16 alone 0.3)"
std::string choice_line(const ModelAnalysis& analysis, const ModelChoice& choice);

}  // namespace mezzotint::cli
