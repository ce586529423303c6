#include "quant/layer_report.h"

#include <utility>

#include "quant/output_errors.h"
#include "quant/weight_errors.h"

namespace mezzotint {

void add_weight_errors(const Tensor& w, const LinearParams& params, LayerReport& row,
                       const ExecContext& ctx) {
  const WeightErrors errors = weight_errors(w, params, ctx);
  row.weight_sqnr_db = errors.sqnr_db;
  row.weight_cosine = errors.cosine;
  row.zero_share = errors.zero_share;
  row.clip_share = errors.clip_share;
  row.outlier_ratio = errors.outlier_ratio;
}

void add_output_errors(const FileContract& contract, const LinearParams& params,
                       const InputStatistics& input, const Tensor& w, const TimestepPolicy& policy,
                       LayerReport& row, const ExecContext& ctx) {
  OutputErrors errors = output_errors(contract, params, input, w, policy, ctx);
  row.output_sqnr_db = sqnr_db(errors.error);
  row.output_cosine = errors.cosine;
  row.step_errors = std::move(errors.step_errors);
}

}  // namespace mezzotint
