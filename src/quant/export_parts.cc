#include "quant/export_parts.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <numeric>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

using Clock = std::chrono::steady_clock;

constexpr const char* kWeights = "part.safetensors";
constexpr const char* kSqnr = "sqnr";
constexpr const char* kRecipe = "recipe";
constexpr const char* kLock = "lock";
constexpr std::chrono::milliseconds kPollEvery{50};
constexpr std::chrono::seconds kPatience{120};  // processes of one launch begin within seconds

fs::path folder_of(const fs::path& out, const PartOf& part) {
  return out / kPartsFolder / fmt::format("{}-of-{}", part.rank, part.world);
}

std::string text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool is_complete(const fs::path& folder, const std::string& recipe) {
  std::error_code ignored;
  return fs::exists(folder / kWeights, ignored) && text_of(folder / kRecipe) == recipe;
}

std::map<std::string, double> read_sqnr(const fs::path& file) {
  std::map<std::string, double> by_layer;
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const size_t tab = line.find('\t');
    if (tab != std::string::npos)
      by_layer[line.substr(tab + 1)] = std::strtod(line.c_str(), nullptr);
  }
  return by_layer;
}

// Whether a process holds the lock of the folder.
bool is_at_work(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder / kLock, ignored)) return false;
  OutputFile lock(folder / kLock, OutputFile::Mode::kReadOnly);
  return !lock.try_lock();
}

}  // namespace

std::vector<int> split_work(const std::vector<int64_t>& bytes, int workers) {
  std::vector<size_t> largest_first(bytes.size());
  std::iota(largest_first.begin(), largest_first.end(), size_t{0});
  std::ranges::stable_sort(largest_first, [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });
  std::vector<int64_t> load(static_cast<size_t>(workers), 0);
  std::vector<int> owner(bytes.size(), 0);
  for (const size_t i : largest_first) {
    const auto least = std::ranges::min_element(load);
    *least += bytes[i];
    owner[i] = static_cast<int>(least - load.begin());
  }
  return owner;
}

PartFolder::PartFolder(const fs::path& out, const PartOf& part) : folder_(folder_of(out, part)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) {
    throw Error(ErrorCode::kResources, "the folder of a part cannot be made",
                {.file = folder_.string(), .found = error.message()});
  }
  lock_ = OutputFile(folder_ / kLock, OutputFile::Mode::kKeep);
  if (!lock_.try_lock()) {
    throw Error(ErrorCode::kUsage, "another process is at work on this part",
                {.file = folder_.string(), .fix = "give every process a --rank of its own"});
  }
  if (text_of(folder_ / kRecipe) == part.recipe) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename() != kLock) fs::remove_all(entry.path(), error);
  }
  write_file_atomically(folder_ / kRecipe, part.recipe);
}

bool PartFolder::complete() const {
  std::error_code ignored;
  return fs::exists(weights(), ignored);
}

fs::path PartFolder::weights() const { return folder_ / kWeights; }

void PartFolder::write_sqnr(const std::map<std::string, double>& by_layer) const {
  std::string text;
  for (const auto& [layer, db] : by_layer) text += fmt::format("{}\t{}\n", db, layer);
  write_file_atomically(folder_ / kSqnr, text);
}

FinishedPart wait_for_part(const fs::path& out, const PartOf& part,
                           const std::function<void()>& poll) {
  const fs::path folder = folder_of(out, part);
  Clock::time_point seen = Clock::now();
  while (!is_complete(folder, part.recipe)) {
    poll();
    const Clock::time_point now = Clock::now();
    if (is_at_work(folder)) seen = now;
    if (now - seen > kPatience) {
      throw Error(ErrorCode::kResources, "a process of this export is not at work",
                  {.file = folder.string(),
                   .expected = fmt::format("rank {} of {}", part.rank, part.world),
                   .found = fmt::format("none for {} seconds", kPatience.count()),
                   .fix = "start all of them again with --resume: what is finished is kept"});
    }
    std::this_thread::sleep_for(kPollEvery);
  }
  return {.weights = folder / kWeights, .sqnr_db = read_sqnr(folder / kSqnr)};
}

void remove_parts(const fs::path& out) noexcept {
  std::error_code ignored;
  fs::remove_all(out / kPartsFolder, ignored);
}

}  // namespace mezzotint
