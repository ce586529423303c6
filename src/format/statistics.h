// What the inputs of linears look like while a model runs: the file between `collect`, which runs
// the float model, and `quantize --stats`, which has weights and no model code.
//
//   Statistics stats = read_statistics("stats.safetensors");    // mapped, not copied
//   const InputStatistics* in = stats.of_linear("blocks.0.attn.to_q");
//   write_statistics("all.safetensors", merge_statistics(stats, more));
//
// A safetensors file (docs/formats.md): per input X the tensors X.amax ... below, and the linears
// that read X, the steps and the model's identity in its metadata. Plain data, no invariant but
// what read_statistics() checks; equal statistics are equal bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/tensor.h"
#include "numerics/histogram_bin.h"

namespace mezzotint {

struct InputStatistics {
  std::string name{};                  // what a Tap sees: of a group, or of a linear alone
  std::vector<std::string> members{};  // the linears that read it
  int64_t k = 0;
  int64_t rows = 0;      // seen; "count" in the file
  Tensor amax{};         // F32 [k], of |x| over all rows
  Tensor mean_abs{};     // F64 [k]
  Tensor min{}, max{};   // F32 [steps]; +inf and -inf where no row of the step was seen
  Tensor hist{};         // I64 [steps,2,kHistogramBins] (numerics/histogram_bin.h), negative values
                         // second; or empty
  Tensor tokens{};       // BF16 [n,k]: rows drawn at random; or empty
  Tensor token_keys{};   // I64 [n], ascending: the n rows with the smallest keys of all rows
  Tensor token_steps{};  // I32 [n]
  Tensor gram{};         // F32 [k,k] = sum of x^T x; or empty
};

// What an algorithm of attention would do to the outputs of one, per denoising step.
struct AttentionStatistics {
  std::string name{};
  std::string algorithm{};  // "FP8_DYNAMIC"
  int64_t head_dim = 0;
  Tensor noise{};   // F64 [steps], sum (y - y')^2
  Tensor signal{};  // F64 [steps], sum y^2; 0 where the step was not seen

  double error() const;                     // over all steps; 0 without a signal
  std::vector<double> step_errors() const;  // -1 where the step was not seen
};

struct Statistics {
  std::string model{};                            // model_identity() of the float weights
  int64_t steps = 0;                              // T: denoising steps of a run
  std::vector<float> sigmas{};                    // [steps] at the start of each, or empty
  int64_t token_limit = 0;                        // rows that an input's sample may hold
  std::string run{};                              // of the file that was read (Writer)
  std::vector<InputStatistics> inputs{};          // by name
  std::vector<AttentionStatistics> attentions{};  // by name; may be none
  std::map<std::string, std::string> facts{};     // of an unfinished collection

  const InputStatistics* find(std::string_view name) const;
  const InputStatistics* of_linear(std::string_view linear) const;  // nullptr: no input it reads
  const AttentionStatistics* of_attention(std::string_view name) const;  // nullptr: not measured
};

// Of input X, linear n reads row number i: the sample keeps the smallest of these.
int64_t token_key(std::string_view input, int64_t row) noexcept;

// Throws Error(kInput), naming the tensor, for a file that is no statistics or holds what cannot
// be: another version, a missing tensor, a wrong shape, NaN, a negative count.
Statistics read_statistics(const std::filesystem::path& file);
void write_statistics(const std::filesystem::path& file, const Statistics& statistics);

// Maxima, sums, and the smallest keys of both; attentions that either has. Throws Error(kUsage)
// when they are of two models, of other steps or inputs, hold other kinds of statistics, are of
// an unfinished collection or of one and the same run.
Statistics merge_statistics(const Statistics& a, const Statistics& b);

}  // namespace mezzotint
