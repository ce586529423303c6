// What several processes that export together leave for each other: process R > 0 of W writes its
// share of the tensors to OUT/.partial.parts/R-of-W/, process 0 copies them into the output.
//
//   const std::vector<int> owner = split_work(bytes, workers);     // equal in every process
//   PartFolder part(out, {.rank = 2, .world = 4, .recipe = recipe});
//   ...   Writer(part.weights(), ...) unless part.complete() ...
//   wait_for_part(out, {.rank = 2, .world = 4, .recipe = recipe}, poll);   // in process 0
//
// Only files and their locks: no library of message passing, any launcher will do
// (docs/decisions/0008).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/output_file.h"

namespace mezzotint {

inline constexpr const char* kPartsFolder = ".partial.parts";

// Who does what: the largest first, each to whom has least; among equals the first of the list, the
// lowest rank.
std::vector<int> split_work(const std::vector<int64_t>& bytes, int workers);

struct PartOf {
  int rank = 0;
  int world = 1;
  std::string recipe{};  // what determines the output: parts of another one are worth nothing
};

class PartFolder {
 public:
  // Locks the folder; what another recipe left in it goes. Throws Error(kUsage) when another
  // process is at work on this part.
  PartFolder(const std::filesystem::path& out, const PartOf& part);

  bool complete() const;  // by an earlier run
  std::filesystem::path weights() const;
  void write_sqnr(const std::map<std::string, double>& by_layer) const;

 private:
  std::filesystem::path folder_;
  OutputFile lock_;
};

struct FinishedPart {
  std::filesystem::path weights;
  std::map<std::string, double> sqnr_db;  // by layer; without those of an earlier run
};

// Until the part is there; `poll` is called now and then and may throw. Throws Error(kResources)
// when no process has been at work on it for a while.
FinishedPart wait_for_part(const std::filesystem::path& out, const PartOf& part,
                           const std::function<void()>& poll);

void remove_parts(const std::filesystem::path& out) noexcept;  // all of them, when all is done

}  // namespace mezzotint
