// Which cases of a shape are made.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/paths.h"

namespace mezzotint::bench {

enum class Rows : uint8_t {
  kBest,   // the row that dispatch takes
  kEvery,  // also those it would take with less ISA
};

struct CaseOptions {
  std::vector<std::string> paths;  // names; empty: all
  std::vector<int> threads = {1, 2};
  Rows rows = Rows::kBest;

  bool wants(const Path& path, Op op) const {
    return path.op == op && (paths.empty() || std::ranges::count(paths, path.name) != 0);
  }
};

}  // namespace mezzotint::bench
