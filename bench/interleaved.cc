#include "bench/interleaved.h"

#include <algorithm>
#include <cmath>

#include "bench/stopwatch.h"

namespace mezzotint::bench {
namespace {

struct Sample {
  double wall = 0;
  double cpu = 0;  // of the calling thread
};

Sample run_for(const Case& what, double least_seconds) {
  const double wall = wall_seconds(), cpu = thread_seconds();
  int calls = 0;
  double passed = 0;
  do {
    what.call();
    ++calls;
    passed = wall_seconds() - wall;
  } while (passed < least_seconds);
  return {.wall = passed / calls, .cpu = (thread_seconds() - cpu) / calls};
}

struct Samples {
  std::vector<double> seconds, peaks, wall_over_cpu;
  double spent = 0;
  int wanted = 1;
};

// One thread is judged by its time on a processor: another job that shares it then costs cache
// misses only. Several threads wait for each other, on the wall.
void take_sample(const Case& what, const MeasureOptions& options, Samples& samples) {
  const Peak peak = what.cold ? Peak::kMemoryRead : what.peak;
  samples.peaks.push_back(measure_peak(peak, what.isa, what.threads));
  const Sample sample = run_for(what, options.seconds_a_sample);
  samples.peaks.push_back(measure_peak(peak, what.isa, what.threads));
  samples.seconds.push_back(what.threads == 1 ? sample.cpu : sample.wall);
  samples.wall_over_cpu.push_back(what.threads == 1 ? sample.wall / sample.cpu : 1);
  samples.spent += sample.wall;
}

Timing summary(const Samples& samples) {
  return {.samples = samples.seconds,
          .seconds = median(samples.seconds),
          .best_seconds = *std::ranges::min_element(samples.seconds),
          .peak = median(samples.peaks),
          .best_peak = *std::ranges::max_element(samples.peaks),
          .wall_over_cpu = median(samples.wall_over_cpu)};
}

double share_of(const Case& what, double seconds, double peak) {
  if (peak == 0) return 0;
  return (what.cold ? what.bytes : what.operations) / seconds / peak;
}

}  // namespace

double Timing::share(const Case& what) const { return share_of(what, seconds, peak); }
double Timing::best_share(const Case& what) const {
  return share_of(what, best_seconds, best_peak);
}

std::vector<Timing> measure_interleaved(const std::vector<Case>& cases,
                                        const MeasureOptions& options) {
  std::vector<Samples> samples(cases.size());
  for (size_t i = 0; i < cases.size(); ++i) {
    Samples& own = samples[i];
    // Scratch memory and threads are there before time counts; a slow case pays with this call.
    const double start = wall_seconds();
    cases[i].call();
    const double seconds = std::max(wall_seconds() - start, options.seconds_a_sample);
    own.wanted = static_cast<int>(
        std::clamp(std::floor(options.seconds_a_case / seconds), 1.0, double(options.passes)));
  }
  for (int pass = 0; pass < options.passes; ++pass) {
    for (size_t i = 0; i < cases.size(); ++i) {
      if (pass < samples[i].wanted) take_sample(cases[i], options, samples[i]);
    }
  }
  std::vector<Timing> timings;
  for (const Samples& own : samples) timings.push_back(summary(own));
  return timings;
}

}  // namespace mezzotint::bench
