#include "format/weight_files.h"

#include <algorithm>
#include <optional>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";

// What diffusers and transformers write, in this order.
constexpr std::string_view kUsualNames[] = {"diffusion_pytorch_model", "model"};
constexpr std::string_view kQuantizedPrefix = "quant_model_weight";

[[noreturn]] void fail_ambiguous(const fs::path& folder, const std::vector<std::string>& names) {
  throw Error(ErrorCode::kUsage, "the folder holds several weight files",
              {.file = folder.string(), .found = list_of(names), .fix = "name one of them"});
}

// The only name of the folder that starts with `prefix` and is a whole weight file (not a shard);
// an index stands for its shards.
std::optional<fs::path> only_weight_file(const fs::path& folder, std::string_view prefix) {
  std::vector<std::string> found;
  for (const std::string& name : file_names_in(folder)) {
    if (!name.starts_with(prefix)) continue;
    if (name.ends_with(kIndexSuffix) || (name.ends_with(kSuffix) && !is_shard_name(name))) {
      found.push_back(name);
    }
  }
  if (found.size() > 1) fail_ambiguous(folder, found);
  if (found.empty()) return std::nullopt;
  return folder / found.front();
}

std::optional<fs::path> find_in_folder(const fs::path& folder) {
  for (const std::string_view name : kUsualNames) {
    const fs::path file = weights_named(folder, name);
    if (!file.empty()) return file;
  }
  return only_weight_file(folder, kQuantizedPrefix);
}

std::optional<fs::path> find_in_component(const fs::path& folder, std::string_view component) {
  if (component.empty()) return std::nullopt;
  if (component.find_first_of("/\\") != std::string_view::npos || component == "..") {
    throw Error(ErrorCode::kUsage, "the component is not a folder name",
                {.found = "\"" + std::string(component) + "\""});
  }
  const fs::path sub = folder / component;
  std::error_code ignored;
  if (!fs::is_directory(sub, ignored)) return std::nullopt;
  if (const auto file = find_in_folder(sub)) return file;
  return only_weight_file(sub, "");
}

std::string components_of(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (!entry.is_directory(ignored)) continue;
    for (const std::string& file : file_names_in(entry.path())) {
      if (!file.ends_with(kSuffix)) continue;
      names.push_back(entry.path().filename().string());
      break;
    }
  }
  std::sort(names.begin(), names.end());
  return names.empty() ? "" : "name one of the folders " + list_of(names);
}

fs::path find_from_folder(const fs::path& folder, std::string_view component) {
  if (const auto file = find_in_folder(folder)) return *file;
  if (const auto file = find_in_component(folder, component)) return *file;
  if (const auto file = only_weight_file(folder, "")) return *file;
  throw Error(ErrorCode::kInput, "the folder holds no weights",
              {.file = folder.string(),
               .expected = "diffusion_pytorch_model.safetensors, model.safetensors, "
                           "quant_model_weight*.safetensors (or their .index.json), one other "
                           ".safetensors file, or one of these in " +
                           std::string(component) + "/",
               .found = list_of(file_names_in(folder)),
               .fix = components_of(folder)});
}

}  // namespace

bool is_shard_name(std::string_view name) {
  constexpr std::string_view kPattern = "-ddddd-of-ddddd.safetensors";
  if (name.size() < kPattern.size()) return false;
  name.remove_prefix(name.size() - kPattern.size());
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const bool digit = name[i] >= '0' && name[i] <= '9';
    // Positions 1-5 and 10-14 are the numbers; the 'd' of ".safetensors" does not exist.
    if (kPattern[i] == 'd' ? !digit : name[i] != kPattern[i]) return false;
  }
  return true;
}

std::vector<std::string> file_names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.is_regular_file(ignored)) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr size_t kMaxShown = 10;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMaxShown); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kMaxShown) text += ", ... (" + std::to_string(names.size()) + ")";
  return text.empty() ? "nothing" : text;
}

fs::path weights_named(const fs::path& folder, std::string_view name) {
  const fs::path single = folder / (std::string(name) + std::string(kSuffix));
  const fs::path index = folder / (std::string(name) + std::string(kIndexSuffix));
  std::error_code ignored;
  const bool has_single = fs::is_regular_file(single, ignored);
  const bool has_index = fs::is_regular_file(index, ignored);
  if (has_single && has_index) {
    fail_ambiguous(folder, {single.filename().string(), index.filename().string()});
  }
  return has_single ? single : has_index ? index : fs::path();
}

fs::path find_weight_file(const fs::path& path, std::string_view component) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw Error(ErrorCode::kInput, "there is no such file or folder",
                {.file = path.string(), .fix = "correct the path"});
  }
  if (fs::is_directory(status)) return find_from_folder(path, component);
  const std::string name = path.filename().string();
  if (name.ends_with(".json") && !name.ends_with(".index.json")) {
    throw Error(ErrorCode::kInput, "this is not a weight file",
                {.file = path.string(),
                 .expected = "a .safetensors file, an .index.json or a folder",
                 .fix = "name the folder that holds it"});
  }
  return path;
}

}  // namespace mezzotint
