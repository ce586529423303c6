#include "cli/output_check.h"

#include <unistd.h>

#include <string>
#include <system_error>

#include <fmt/format.h>

#include "cli/text.h"
#include "mezzotint/error.h"
#include "quant/export_parts.h"

namespace mezzotint::cli {
namespace {

namespace fs = std::filesystem;

// The nearest folder above `path` that exists.
fs::path existing_folder(const fs::path& path) {
  std::error_code ignored;
  fs::path folder = fs::absolute(path, ignored);
  while (folder.has_parent_path() && folder != folder.parent_path()) {
    folder = folder.parent_path();
    if (fs::exists(folder, ignored)) break;
  }
  return folder;
}

void check_parent(const fs::path& out) {
  const fs::path folder = existing_folder(out);
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw Error(ErrorCode::kUsage, "the output cannot be written there",
                {.file = out.string(),
                 .expected = "a folder",
                 .found = fmt::format("'{}', which is a file", folder.string())});
  }
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    throw Error(ErrorCode::kInput, "no permission to write into the folder of the output",
                {.file = folder.string(), .fix = "choose another place with -o"});
  }
}

// A folder in which another process of the same export has begun counts as empty.
bool is_free(const fs::path& folder) {
  std::error_code failed;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    if (it->path().filename() != kPartsFolder) return false;
  }
  return !failed;
}

fs::path normal_path(const fs::path& path) {
  std::error_code failed;
  const fs::path normal = fs::weakly_canonical(path, failed);
  return failed ? path : normal;
}

}  // namespace

void check_output_file(const fs::path& file, Existing existing) {
  if (file.empty()) throw Error(ErrorCode::kUsage, "the name of the output is empty");
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) {
    throw Error(ErrorCode::kUsage, "the output is a folder",
                {.file = file.string(), .expected = "the name of a file"});
  }
  if (fs::exists(file, ignored) && existing == Existing::kRefuse) {
    throw Error(ErrorCode::kUsage, "the output exists already",
                {.file = file.string(), .fix = "choose another name, or --force to replace it"});
  }
  const fs::path folder = fs::absolute(file, ignored).parent_path();
  if (!fs::exists(folder, ignored)) {
    throw Error(ErrorCode::kUsage, "the folder of the output does not exist",
                {.file = folder.string(), .fix = "mkdir -p " + folder.string()});
  }
  check_parent(file);
}

void check_output_folder(const fs::path& folder, Existing existing) {
  if (folder.empty()) throw Error(ErrorCode::kUsage, "the name of the output is empty");
  std::error_code failed;
  const bool exists = fs::exists(folder, failed);
  if (exists && !fs::is_directory(folder, failed)) {
    throw Error(ErrorCode::kUsage, "the output is a file",
                {.file = folder.string(), .expected = "the name of a folder"});
  }
  if (exists && existing == Existing::kRefuse && !is_free(folder)) {
    const bool unfinished = fs::exists(folder / ".partial", failed);
    throw Error(ErrorCode::kUsage,
                unfinished ? "the output holds an unfinished run" : "the output exists already",
                {.file = folder.string(),
                 .fix = unfinished ? "--resume to finish it, or --force to start again"
                                   : "choose another name, or --force to replace it"});
  }
  check_parent(exists ? folder / "x" : folder);
}

void check_apart(const fs::path& source, const fs::path& out) {
  const fs::path from = normal_path(source);
  const fs::path to = normal_path(out);
  std::error_code ignored;
  const fs::path from_folder = fs::is_directory(from, ignored) ? from : from.parent_path();
  if (from != to && from_folder != to) return;
  throw Error(
      ErrorCode::kUsage, "the output is the source",
      {.file = out.string(), .fix = "choose another place with -o; a source is never changed"});
}

void check_disk_space(const fs::path& out, int64_t bytes) {
  std::error_code failed;
  const fs::space_info space = fs::space(existing_folder(out), failed);
  if (failed) return;  // some network file systems cannot say
  const auto available = static_cast<int64_t>(space.available);
  if (bytes <= available) return;
  throw Error(ErrorCode::kResources, "not enough disk space for the output",
              {.file = out.string(),
               .expected = human_bytes(bytes),
               .found = human_bytes(available) + " free",
               .fix = "free some space or choose another disk with -o"});
}

}  // namespace mezzotint::cli
