// What FP8 would make of an attention's outputs while the float model runs.
#pragma once

#include <cstdint>

#include "format/statistics.h"
#include "mezzotint/attention.h"
#include "quant/difference.h"

namespace mezzotint {

// Gives the slot a state that compares (nn/attention_state.h), and takes it away at the end: the
// slot stays float. Not movable: the state refers to it.
class AttentionObserver {
 public:
  // Whether the slot is float, and has a head_dim that the algorithm serves.
  static bool serves(const Attention& attention);

  // Goes on from `earlier`, which is copied, where it is not null. `attention` outlives this.
  AttentionObserver(Attention& attention, int64_t steps, const AttentionStatistics* earlier);
  ~AttentionObserver();
  AttentionObserver(const AttentionObserver&) = delete;
  AttentionObserver& operator=(const AttentionObserver&) = delete;

  bool seen() const noexcept { return seen_; }
  const AttentionStatistics& statistics() const noexcept { return statistics_; }

 private:
  void see(const Difference& outputs, int step);

  Attention& attention_;
  AttentionStatistics statistics_;
  bool seen_ = false;
};

}  // namespace mezzotint
