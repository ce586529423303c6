// Gathers Statistics from a model that runs elsewhere: its linears call in as they see their input.
//
//   ModelCollector collector(identity, {.steps = 20}, linears, nullptr);
//   int64_t input = collector.add_input("blocks.0.to_q", k);
//   collector.add_reader(input, "blocks.0.to_k");      // reads the same tensor
//   collector.see(input, x, step, ctx);
//   write_statistics(file, collector.statistics(sigmas));
//
// Which linears share an input shows while the model runs, so an input is named after its first
// reader. One model run at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/glob.h"
#include "collect/collector.h"
#include "collect/input_observer.h"
#include "format/statistics.h"
#include "mezzotint/context.h"

namespace mezzotint {

class ModelCollector {
 public:
  // Throws Error(kUsage) for a Gram pattern that matches none of `linears`, and for `earlier`
  // statistics, or null, that are of another model or hold other things.
  ModelCollector(std::string identity, const CollectOptions& options,
                 const std::vector<std::string>& linears, const Statistics* earlier);
  ModelCollector(const ModelCollector&) = delete;

  // A number for see() and add_reader(). Known names get the number they have.
  int64_t add_input(const std::string& name, int64_t k);
  void add_reader(int64_t input, const std::string& linear);
  // Throws Error(kInput) for inf or NaN, Error(kUsage) for a step outside of the run.
  void see(int64_t input, const ConstMatrix& x, int step, const ExecContext& ctx);

  // Of the inputs that were seen; shares memory, as Collector::statistics().
  Statistics statistics() const;

 private:
  struct Input {
    std::unique_ptr<InputObserver> observer;
    std::vector<std::string> readers;
    bool with_gram = false;
  };

  void check(const Statistics& earlier) const;
  bool wants_gram(const std::string& linear) const;
  void add(InputStatistics start);

  std::string identity_;
  CollectOptions options_;
  std::vector<NamePattern> gram_;
  std::vector<Input> inputs_;
};

}  // namespace mezzotint
