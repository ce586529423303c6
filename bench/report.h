// What a run of the benchmark says: tables for people, JSON for tools/compare_bench.py and the
// plots.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "bench/interleaved.h"

namespace mezzotint::bench {

struct Result {
  Case what;
  Timing timing;
};

void print_result(std::ostream& out, const Result& result);

// Per path the geometric mean over the shapes of each set, beside its bar: "big", "hot", "cold",
// and the ratios between paths.
void print_bars(std::ostream& out, const std::vector<Result>& results);

// Takes the memory read rate of one and of two threads as well.
std::string to_json(const std::vector<Result>& results, const std::string& command);

}  // namespace mezzotint::bench
