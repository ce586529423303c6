// What `mezzotint inspect` finds out about a path.
//
//   Inspection i = inspect_path("flux-w8a8", {.depth = Depth::kEverything}, progress);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/error.h"
#include "mezzotint/report.h"

namespace mezzotint::cli {

enum class Depth : uint8_t {
  kHeaders,     // headers and descriptor
  kEverything,  // every byte of every tensor
};

struct InspectOptions {
  Depth depth = Depth::kHeaders;
  std::string component = "transformer";
  std::function<void(double done, double total, std::string_view tensor)> progress{};
};

struct DTypeCount {
  int64_t tensors = 0;
  int64_t bytes = 0;
};

struct Inspection {
  std::string dialect;  // "MindIE SD quantized folder", "float safetensors", ...
  std::string remark;   // why this version does not serve the dialect, or ""
  std::vector<std::string> files;
  std::vector<std::pair<std::string, std::string>> facts;  // architecture, run, preset, ...
  int64_t tensors = 0;
  int64_t parameters = 0;  // elements of all tensors
  int64_t bytes = 0;
  std::map<std::string, DTypeCount> dtypes;
  // 2-D weights: algorithm and bytes in the file; bytes_before is not known here.
  Report layers;
  std::vector<Error> problems;        // in the order they were met
  std::vector<std::string> warnings;  // anyone may write a file, ...
};

// Throws Error(kInput) when the path cannot be read at all, Error(kUnsupported) for a container of
// another tool.
Inspection inspect_path(const std::filesystem::path& path, const InspectOptions& options);

}  // namespace mezzotint::cli
