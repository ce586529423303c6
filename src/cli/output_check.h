// Is the place that a verb is going to write to usable? Asked before any work is done.
#pragma once

#include <cstdint>
#include <filesystem>

namespace mezzotint::cli {

enum class Existing : uint8_t { kRefuse, kReplace, kResume };

// Each throws Error: kUsage for what the user can say differently (exists already, same as the
// source), kInput for a folder that cannot be written to, kResources for a full disk.
void check_output_file(const std::filesystem::path& file, Existing existing);
void check_output_folder(const std::filesystem::path& folder, Existing existing);
void check_apart(const std::filesystem::path& source, const std::filesystem::path& out);
void check_disk_space(const std::filesystem::path& out, int64_t bytes);

}  // namespace mezzotint::cli
