// Which descriptor and which weights a user means (mezzotint/descriptor.h).
#include <algorithm>
#include <charconv>

#include "base/env.h"
#include "format/descriptor.h"
#include "format/weight_files.h"
#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDescriptorStem = "quant_model_description";
constexpr std::string_view kWeightStem = "quant_model_weight";
constexpr std::string_view kPluralWeightStem = "quant_model_weights";

// "quant_model_description_w8a8_0.json": stem "quant_model_description_w8a8", rank 0.
struct RankedName {
  std::string stem;
  std::optional<int> rank;
};

std::optional<int> parse_rank(std::string_view digits) {
  int rank = 0;
  const char* const end = digits.data() + digits.size();
  const auto [parsed, error] = std::from_chars(digits.data(), end, rank);
  if (digits.empty() || digits.front() == '-' || error != std::errc() || parsed != end) {
    return std::nullopt;
  }
  return rank;
}

RankedName split_rank(std::string_view stem) {
  const size_t bar = stem.rfind('_');
  if (bar == std::string_view::npos) return {std::string(stem), std::nullopt};
  const std::optional<int> rank = parse_rank(stem.substr(bar + 1));
  return {std::string(rank ? stem.substr(0, bar) : stem), rank};
}

std::string ranked(std::string stem, std::optional<int> rank) {
  if (rank) stem += "_" + std::to_string(*rank);
  return stem;
}

std::string type_suffix(std::string_view quant_type) {
  if (quant_type.empty()) return "";
  std::string text = "_";
  for (const char c : quant_type) {
    text += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return text;
}

std::vector<std::string> json_files_in(const fs::path& folder, std::string_view prefix) {
  std::vector<std::string> names = file_names_in(folder.empty() ? fs::path(".") : folder);
  std::erase_if(names, [&](const std::string& name) {
    return !name.starts_with(prefix) || !name.ends_with(".json") || name.ends_with(".index.json");
  });
  return names;
}

std::optional<int> rank_of_file(const std::string& name) {
  return split_rank(fs::path(name).stem().string()).rank;
}

fs::path descriptor_in_folder(const fs::path& folder, std::optional<int> rank) {
  std::vector<std::string> names = json_files_in(folder, kDescriptorStem);
  if (names.empty()) {
    throw Error(ErrorCode::kInput, "the folder holds no descriptor",
                {.file = folder.string(),
                 .expected = "one " + std::string(kDescriptorStem) + "*.json",
                 .found = list_of(file_names_in(folder))});
  }
  if (rank) {
    const bool has_rank = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return rank_of_file(name) == rank;
    });
    const std::optional<int> wanted = has_rank ? rank : std::nullopt;
    std::vector<std::string> of_rank = names;
    std::erase_if(of_rank, [&](const std::string& name) { return rank_of_file(name) != wanted; });
    if (of_rank.size() == 1) return folder / of_rank.front();
  } else if (names.size() == 1) {
    return folder / names.front();
  }
  throw Error(
      ErrorCode::kUsage,
      rank ? "the folder does not hold exactly one descriptor for rank " + std::to_string(*rank)
           : "the folder holds several descriptors",
      {.file = folder.string(),
       .found = list_of(names),
       .fix = "name one of them, or give the rank"});
}

// The names that may stand for `path`, best first. `given` is the rank argument, `rank` that or the
// environment's.
std::vector<fs::path> descriptor_candidates(const fs::path& path, std::optional<int> given,
                                            std::optional<int> rank) {
  const fs::path folder = path.parent_path();
  const RankedName name = split_rank(path.stem().string());
  const fs::path plain = folder / (name.stem + ".json");
  if (name.rank) {
    if (!rank || rank == name.rank) return {path, plain};
    return {folder / (ranked(name.stem, rank) + ".json"), plain};
  }
  if (given) return {folder / (ranked(name.stem, given) + ".json"), path};
  std::vector<fs::path> candidates = {path};
  if (rank) candidates.push_back(folder / (ranked(name.stem, rank) + ".json"));
  return candidates;
}

// The only STEM_R.json beside a STEM.json that does not exist.
std::optional<fs::path> only_ranked_twin(const fs::path& path) {
  const std::string stem = path.stem().string();
  std::vector<std::string> twins = json_files_in(path.parent_path(), stem + "_");
  std::erase_if(twins, [&](const std::string& name) {
    const RankedName split = split_rank(fs::path(name).stem().string());
    return !split.rank || split.stem != stem;
  });
  if (twins.empty()) return std::nullopt;
  if (twins.size() == 1) return path.parent_path() / twins.front();
  throw Error(ErrorCode::kUsage, "there are several descriptors of this name",
              {.file = path.string(), .found = list_of(twins), .fix = "give the rank"});
}

fs::path descriptor_of_file(const fs::path& path, std::optional<int> given,
                            std::optional<int> rank) {
  std::error_code ignored;
  if (path.extension() != ".json") {
    if (!fs::exists(path, ignored)) {
      throw Error(ErrorCode::kInput, "there is no such file or folder",
                  {.file = path.string(), .fix = "correct the path"});
    }
    throw Error(ErrorCode::kInput, "this is not a descriptor",
                {.file = path.string(), .expected = "a .json file or a folder"});
  }
  std::vector<std::string> tried;
  for (const fs::path& candidate : descriptor_candidates(path, given, rank)) {
    if (fs::exists(candidate, ignored)) return candidate;
    tried.push_back(candidate.filename().string());
  }
  if (!split_rank(path.stem().string()).rank && !rank) {
    if (const auto twin = only_ranked_twin(path)) return *twin;
  }
  throw Error(ErrorCode::kInput, "there is no such descriptor",
              {.file = path.string(),
               .expected = list_of(tried),
               .found = list_of(json_files_in(path.parent_path(), ""))});
}

// AscendV1 spelling: exactly one quant_model_weights*, whole or sharded.
fs::path plural_weights(const fs::path& folder) {
  std::vector<std::string> names;
  for (const std::string& name : file_names_in(folder)) {
    const bool whole = name.ends_with(".safetensors") && !is_shard_name(name);
    if (name.starts_with(kPluralWeightStem) &&
        (whole || name.ends_with(".safetensors.index.json"))) {
      names.push_back(name);
    }
  }
  if (names.size() > 1) {
    throw Error(ErrorCode::kUsage, "the folder holds several weight files",
                {.file = folder.string(), .found = list_of(names)});
  }
  return names.empty() ? fs::path() : folder / names.front();
}

fs::path weights_beside(const fs::path& descriptor, const std::string& quant_type,
                        std::optional<int> rank) {
  const fs::path folder = descriptor.has_parent_path() ? descriptor.parent_path() : fs::path(".");
  const std::string typed = std::string(kWeightStem) + type_suffix(quant_type);
  std::vector<std::string> tried;
  for (const std::string& name : {ranked(typed, rank), typed, std::string(kWeightStem)}) {
    const fs::path file = weights_named(folder, name);
    if (!file.empty()) return file;
    const std::string shown = name + ".safetensors[.index.json]";
    if (std::find(tried.begin(), tried.end(), shown) == tried.end()) tried.push_back(shown);
  }
  const fs::path file = plural_weights(folder);
  if (!file.empty()) return file;
  tried.push_back(std::string(kPluralWeightStem) + "*");
  throw Error(ErrorCode::kInput, "there are no weights beside the descriptor",
              {.file = descriptor.string(),
               .expected = list_of(tried),
               .found = list_of(file_names_in(folder))});
}

}  // namespace

QuantizedFiles find_quantized_files(const fs::path& path, std::optional<int> rank) {
  if (rank && *rank < 0) {
    throw Error(ErrorCode::kUsage, "the rank is negative", {.found = std::to_string(*rank)});
  }
  const std::optional<int> wanted = rank ? rank : env_rank();
  QuantizedFiles files;
  std::error_code ignored;
  files.descriptor = fs::is_directory(path, ignored) ? descriptor_in_folder(path, wanted)
                                                     : descriptor_of_file(path, rank, wanted);
  files.rank = split_rank(files.descriptor.stem().string()).rank;
  std::vector<std::string> overruled;  // who reads the labels says whether a key may stand twice
  const Descriptor descriptor = read_descriptor(files.descriptor, &overruled);
  const std::optional<int> weight_rank = files.rank ? files.rank : wanted;
  files.weights = weights_beside(files.descriptor, descriptor.model_quant_type, weight_rank);
  if (!files.rank && weight_rank) {
    const std::string suffix = "_" + std::to_string(*weight_rank) + ".safetensors";
    if (files.weights.filename().string().find(suffix) != std::string::npos) {
      files.rank = weight_rank;
    }
  }
  return files;
}

std::string descriptor_file_name(std::string_view quant_type, std::optional<int> rank) {
  return ranked(std::string(kDescriptorStem) + type_suffix(quant_type), rank) + ".json";
}

std::string weight_file_name(std::string_view quant_type, std::optional<int> rank) {
  return ranked(std::string(kWeightStem) + type_suffix(quant_type), rank) + ".safetensors";
}

}  // namespace mezzotint
