// Cases measured in turns, each beside the machine's peaks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/machine_peaks.h"

namespace mezzotint::bench {

// What is called and what a call does.
struct Case {
  std::string engine = "mezzotint";
  std::string set;              // name of the shape: "big"
  std::string path;             // "int8"
  std::string kernel;           // row that serves it
  std::string part = "whole";   // or "quantize": the input alone
  int64_t m = 0, n = 0, k = 0;  // linear; attention: tokens of q, of k, heads * dim
  int threads = 1;
  Isa isa = Isa::kPortable;
  Peak peak = Peak::kInt8Dot;
  double operations = 0;  // of a call
  double bytes = 0;       // packed weight that a call reads
  bool cold = false;      // judged by bytes, not by operations
  std::function<void()> call;
};

// Medians over the passes; the best beside them.
struct Timing {
  std::vector<double> samples;  // seconds of a call, per pass
  double seconds = 0, best_seconds = 0;
  double peak = 0, best_peak = 0;  // measured before and after each pass
  double wall_over_cpu = 1;        // one thread: how much others took from it; else 1

  double share(const Case& what) const;  // of the peak: medians of both
  double best_share(const Case& what) const;
};

struct MeasureOptions {
  int passes = 5;
  double seconds_a_case = 30;      // fewer passes when a case takes longer; at least one
  double seconds_a_sample = 0.02;  // calls are repeated until then
};

// All cases once, then all again, ...: what disturbs the machine disturbs them alike.
std::vector<Timing> measure_interleaved(const std::vector<Case>& cases,
                                        const MeasureOptions& options);

}  // namespace mezzotint::bench
