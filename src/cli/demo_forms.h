// What the demo runs: every algorithm that needs nothing but the weights, on the model as it is and
// on its outlier variant.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "cli/comparison.h"
#include "cli/pipeline.h"
#include "cli/session.h"
#include "quant/algorithm.h"

namespace mezzotint::cli {

struct DemoForm {
  const AlgorithmRow* row = nullptr;
  std::vector<std::string_view> same{};  // other names that write the same bytes
};
std::vector<DemoForm> demo_forms();

// Quantizes the linears of the blocks; embedders, adaLN (norm*.linear), norm_out and proj_out stay
// float, for every algorithm alike. An algorithm of attention quantizes the attentions alone.
// `what` names the model in the progress.
FormSource quantize_for_demo(const std::filesystem::path& model, const std::filesystem::path& out,
                             const AlgorithmRow& algorithm, std::string_view what,
                             const Session& session);

// Throws Error(kInternal) unless the float model gives the same bits on one and on two threads: a
// reference that is not itself would make every figure below it worthless.
void check_reference_repeats(const Pipeline& pipeline, const std::filesystem::path& model,
                             const ImageRequest& request);

// Writes the outlier variant and returns the relative L2 difference of its velocity from the
// model's for one image at the start of the sampling. Throws Error(kInternal) above 1e-5, because
// the float images then are no reference for it.
double make_outlier_model(const Pipeline& pipeline, const std::filesystem::path& model,
                          const std::filesystem::path& out, const ImageRequest& request,
                          const ExecContext& ctx);

}  // namespace mezzotint::cli
