// Output that appears at the end or not at all: files are made in OUT/.partial, then moved into
// OUT, weights first, the descriptor last.
//
// A run that is killed leaves OUT as it was, and .partial to go on from. Old files are replaced
// only when all new ones are complete. One process at a time: .partial is locked.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "format/output_file.h"

namespace mezzotint {

enum class Existing : uint8_t { kRefuse, kReplace };
enum class Leftover : uint8_t { kDiscard, kResume };  // of a run that was killed

struct StagingOptions {
  std::optional<int> rank{};
  Existing existing = Existing::kRefuse;
  Leftover leftover = Leftover::kDiscard;
  std::string recipe{};  // what determines the output: only an equal run is resumed
};

class StagingFolder {
 public:
  // Throws Error(kUsage) when OUT holds files and may not be replaced, when another process is at
  // work, and when the leftover comes from another recipe.
  StagingFolder(std::filesystem::path out, StagingOptions options);

  const std::filesystem::path& partial() const noexcept { return partial_; }
  bool resumed() const noexcept { return resumed_; }
  bool complete() const noexcept;  // an earlier run made every file: only publish() is left

  void write(std::string_view name, std::string_view text) const;
  void mark_complete() const;
  void publish();  // moves everything, removes .partial
  // For a run that ends before anything was made: nothing of it stays, nor OUT where it made that.
  void abandon() noexcept;

 private:
  void check_existing() const;
  void open_partial();
  void check_recipe();
  bool is_replaced(const std::string& name) const;

  std::filesystem::path out_;
  std::filesystem::path partial_;
  StagingOptions options_;
  OutputFile lock_;
  bool resumed_ = false;
  bool made_out_ = false;
};

}  // namespace mezzotint
