#include "quant/staging_folder.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPartial = ".partial";
constexpr std::string_view kLock = "lock";
constexpr std::string_view kRecipe = "recipe";
constexpr std::string_view kComplete = "complete";
constexpr std::string_view kReplaceLine = "replaces existing files\n";
constexpr std::string_view kOurs = "quant_model_";
constexpr std::string_view kDescriptor = "quant_model_description";

[[noreturn]] void cannot(std::string_view what, const fs::path& path, const std::error_code& why) {
  throw Error(ErrorCode::kResources, what, {.file = path.string(), .found = why.message()});
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) cannot("the folder cannot be read", folder, error);
  std::ranges::sort(names);
  return names;
}

std::string text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool is_bookkeeping(std::string_view name) {
  return name == kLock || name == kRecipe || name == kComplete || name.ends_with(".journal") ||
         name.ends_with(".partial");
}

}  // namespace

StagingFolder::StagingFolder(fs::path out, StagingOptions options)
    : out_(std::move(out)), options_(std::move(options)) {
  const std::string name =
      options_.rank ? fmt::format("{}_{}", kPartial, *options_.rank) : std::string(kPartial);
  partial_ = out_ / name;
  std::error_code error;
  if (fs::exists(out_, error) && !fs::is_directory(out_, error)) {
    throw Error(ErrorCode::kUsage, "the output is not a folder", {.file = out_.string()});
  }
  // A run that was killed before its recipe was there has made nothing.
  const bool has_leftover = fs::exists(partial_ / kRecipe, error);
  resumed_ = has_leftover && options_.leftover == Leftover::kResume;
  // One that was killed while it cleaned up has made everything: publish() removes the recipe
  // first.
  if (!has_leftover && fs::exists(partial_ / kComplete, error)) fs::remove_all(partial_, error);
  if (!resumed_) check_existing();
  open_partial();
  if (resumed_) check_recipe();
  if (!resumed_) {
    const bool replaces = options_.existing == Existing::kReplace;
    write(kRecipe, (replaces ? std::string(kReplaceLine) : std::string()) + options_.recipe);
  }
}

// Files of other ranks may lie beside ours.
bool StagingFolder::is_replaced(const std::string& name) const {
  if (!options_.rank) return name.starts_with(kOurs);
  const bool of_rank = name.find(fmt::format("_{}.", *options_.rank)) != std::string::npos ||
                       name.find(fmt::format("_{}-", *options_.rank)) != std::string::npos;
  return name.starts_with(kOurs) && of_rank;
}

void StagingFolder::check_existing() const {
  std::error_code error;
  if (options_.existing == Existing::kReplace || !fs::exists(out_, error)) return;
  for (const std::string& name : names_in(out_)) {
    const bool in_the_way = options_.rank ? is_replaced(name) : !name.starts_with(kPartial);
    if (!in_the_way) continue;
    throw Error(ErrorCode::kUsage, "the output folder holds files already",
                {.file = out_.string(),
                 .expected = "a new or empty folder",
                 .found = name,
                 .fix = "choose another folder, or --force to replace the quantized files in it"});
  }
}

void StagingFolder::open_partial() {
  std::error_code error;
  made_out_ = !fs::exists(out_, error);
  fs::create_directories(partial_, error);
  if (error) cannot("the output folder cannot be made", partial_, error);
  lock_ = OutputFile(partial_ / kLock, OutputFile::Mode::kKeep);
  if (!lock_.try_lock()) {
    throw Error(ErrorCode::kUsage, "another process is writing to this folder",
                {.file = out_.string()});
  }
  if (resumed_) return;
  for (const std::string& name : names_in(partial_)) {
    if (name != kLock) fs::remove_all(partial_ / name, error);
    if (error) cannot("a leftover cannot be removed", partial_ / name, error);
  }
}

void StagingFolder::check_recipe() {
  const std::string found = text_of(partial_ / kRecipe);
  const std::string replacing = std::string(kReplaceLine) + options_.recipe;
  if (found == replacing) {
    options_.existing = Existing::kReplace;
  } else if (found != options_.recipe) {
    throw Error(ErrorCode::kUsage, "the interrupted run in this folder was another one",
                {.file = out_.string(),
                 .expected = "the same source, options and version",
                 .found = "different ones",
                 .fix = "repeat the first command with --resume, or start again without it"});
  }
  if (options_.existing == Existing::kRefuse && !complete()) check_existing();
}

bool StagingFolder::complete() const noexcept {
  std::error_code error;
  return resumed_ && fs::exists(partial_ / kComplete, error);
}

void StagingFolder::write(std::string_view name, std::string_view text) const {
  write_file_atomically(partial_ / name, text);
}

// The marker lists every file of the output, so that publishing can be repeated.
void StagingFolder::mark_complete() const {
  std::vector<std::string> names = names_in(partial_);
  std::erase_if(names, is_bookkeeping);
  std::ranges::sort(names, {}, [](const std::string& name) {
    return std::pair(name.starts_with(kDescriptor), name);  // descriptors last
  });
  std::string text;
  for (const std::string& name : names) text += name + "\n";
  write(kComplete, text);
}

void StagingFolder::publish() {
  const std::vector<std::string> names = lines_of(text_of(partial_ / kComplete));
  std::error_code error;
  const auto remove_old = [&](bool descriptors) {
    if (options_.existing != Existing::kReplace) return;
    for (const std::string& old : names_in(out_)) {
      const bool is_new =
          std::ranges::find(names, old) != names.end() && !fs::exists(partial_ / old, error);
      if (is_new || !is_replaced(old) || old.starts_with(kDescriptor) != descriptors) continue;
      fs::remove(out_ / old, error);
      if (error) cannot("an old file cannot be removed", out_ / old, error);
    }
  };
  remove_old(true);  // no moment shows an old descriptor beside new weights
  for (const std::string& name : names) {
    if (fs::exists(partial_ / name, error)) rename_file(partial_ / name, out_ / name);
  }
  remove_old(false);
  sync_folder(out_);
  fs::remove(partial_ / kRecipe, error);
  fs::remove_all(partial_, error);
}

void StagingFolder::abandon() noexcept {
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
  if (made_out_) fs::remove(out_, ignored);  // only where it is empty
}

}  // namespace mezzotint
