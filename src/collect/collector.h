// Gathers Statistics while a float model runs.
//
//   Collector collector(model->modules(), model_identity(store), {.steps = 20}, ctx);
//   sample(*model, scheduler, request, ctx.with_tap(&collector.tap()));
//   write_statistics("stats.safetensors", collector.statistics());
//
// The model stays float, and must outlive the collector, which its attentions tell what they see.
// A second Collector that starts from what statistics() gave goes on as if there had been one: the
// same calls give the same bytes, for any number of threads. One model run at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/statistics.h"
#include "mezzotint/context.h"
#include "mezzotint/quantize.h"

namespace mezzotint {

class InputObserver;      // one input's accumulators (src/collect/input_observer.h)
class AttentionObserver;  // one attention's (src/collect/attention_observer.h)

struct CollectOptions {
  int64_t steps = 0;                // of a run; inputs come with a step of [0, steps)
  std::vector<float> sigmas{};      // of the steps, or empty
  int64_t tokens = 1024;            // rows of the sample of every input; 0: no sample
  bool histograms = true;           // per step, for static scales
  std::vector<std::string> gram{};  // patterns of inputs or linears: K x K floats each
  bool attentions = true;           // run them in FP8 as well, and sum up how far that is off
};

class Collector {
 public:
  // Throws Error(kUsage) for a pattern that matches nothing.
  Collector(const ModuleMap& model, std::string identity, const CollectOptions& options,
            const ExecContext& ctx);
  // Goes on from earlier statistics of the same model and options; they are not used elsewhere.
  Collector(const ModuleMap& model, std::string identity, const CollectOptions& options,
            const Statistics& earlier, const ExecContext& ctx);
  ~Collector();
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  // Throws Error(kInput) for an input that holds inf or NaN, naming it.
  const Tap& tap() const noexcept;

  // What was seen so far, of the inputs that were seen. Shares memory with the collector: write it
  // before the model runs on.
  Statistics statistics() const;

 private:
  void see(std::string_view name, const ConstMatrix& x, int step);

  CollectOptions options_;
  std::string identity_;
  ExecContext ctx_;
  Tap tap_;
  std::vector<std::unique_ptr<InputObserver>> observers_;  // by name
  std::vector<std::unique_ptr<AttentionObserver>> attentions_;
};

}  // namespace mezzotint
