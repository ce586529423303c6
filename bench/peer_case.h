// A product of another library as a case beside ours.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "bench/case_options.h"
#include "bench/interleaved.h"
#include "models/shape_list.h"

namespace mezzotint::bench {

// The path of ours that a peer's product is compared with, where it is wanted. Never for one row of
// x: ours walks cold weights, a peer's are hot.
inline const Path* compared_path(std::string_view name, const LinearShape& shape,
                                 const CaseOptions& options) {
  if (shape.m == 1) return nullptr;
  for (const Path& path : paths()) {
    if (path.name == name && options.wants(path, Op::kLinear)) return &path;
  }
  return nullptr;
}

// "onednn.int8" for the engine "onednn" beside our path int8.
inline Case peer_case(std::string_view engine, std::string library, const Path& path,
                      const LinearShape& shape, int threads, std::function<void()> call) {
  return {.engine = std::string(engine),
          .set = shape.name,
          .path = std::string(engine) + "." + std::string(path.name),
          .kernel = std::move(library),
          .m = shape.m,
          .n = shape.n,
          .k = shape.k,
          .threads = threads,
          .isa = active_isa(),
          .peak = path.peak,
          .operations = 2.0 * static_cast<double>(shape.m * shape.n * shape.k),
          .call = std::move(call)};
}

}  // namespace mezzotint::bench
