// What the solvers of a layer know of its input, x' = x * multipliers.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "format/statistics.h"
#include "mezzotint/calibration.h"
#include "mezzotint/context.h"
#include "numerics/affine.h"
#include "solve/gptq.h"

namespace mezzotint {

// Rows of a sample that searches are held against, and the fewest that decide anything.
inline constexpr int64_t kSearchRows = 256;
inline constexpr int64_t kLeastRows = 64;

class InputCalibration {
 public:
  // `input` outlives this. No multipliers: x' = x.
  InputCalibration(const InputStatistics& input, const Calibration& how,
                   std::vector<float> multipliers, const ExecContext& ctx);

  const InputStatistics& statistics() const noexcept { return *input_; }
  const Calibration& how() const noexcept { return how_; }
  const std::vector<float>& multipliers() const noexcept { return multipliers_; }

  // x'^T x', of all rows or else of the sample. Made when first asked for. Throws Error(kUsage)
  // when the statistics hold neither, or fewer rows than half of K.
  const Tensor& gram();
  const GptqFactor& factor(ColumnOrder order);
  void release() noexcept;  // gives the memory of both back

  // Scales of x', one for the whole run. Throws Error(kUsage) without histograms where they, or a
  // sample where x is smoothed, are needed.
  AffineParams static_scale() const;
  // One per step; a step that was not seen has those of the nearest that was.
  std::vector<AffineParams> step_scales() const;

  // The expected squared error of x' over its mean square, per step: with its static scale, and
  // with one scale per row. Steps without rows in the sample have neither.
  struct StepError {
    double fixed = 0;
    double dynamic = 0;
  };
  std::vector<std::optional<StepError>> step_errors() const;

 private:
  struct Seen;
  std::vector<Seen> seen_per_step() const;
  int64_t steps() const { return input_->min.dim(0); }

  const InputStatistics* input_;
  Calibration how_;
  std::vector<float> multipliers_;
  ExecContext ctx_;
  std::optional<Tensor> gram_;
  std::optional<GptqFactor> factor_;
  ColumnOrder factor_order_ = ColumnOrder::kStored;  // that factor_ has
};

// The first `rows` of the sample as F32 [rows,k], times the multipliers where there are any.
Tensor sampled_rows(const InputStatistics& input, int64_t rows,
                    const std::vector<float>& multipliers);

// Each throws Error(kUsage), naming what to collect: a sample of fewer than kLeastRows rows; a Gram
// matrix, or a sample that gives one, of fewer rows than half of K; no histograms, where the range
// rule wants them.
void require_sample(const InputStatistics& input);
void require_gram(const InputStatistics& input);
void require_histograms(const InputStatistics& input, const Calibration& how);

}  // namespace mezzotint
