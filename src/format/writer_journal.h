// What a Writer has written so far, beside its file: a text file that only grows.
//
//   mezzotint-journal 1 <plan id>
//   <number of the tensor in the plan> TAB <hash of its bytes>
//
// A torn last line is ignored. Whoever reads the journal checks the bytes against the hash, so the
// order in which data and journal reach the disk does not matter.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string_view>

#include "format/content_hash.h"
#include "format/output_file.h"

namespace mezzotint {

class WriterJournal {
 public:
  enum class Start : uint8_t { kFresh, kResume };

  // Locks the journal. Throws Error(kUsage) when another process holds it, or when it is resumed
  // and belongs to another plan.
  WriterJournal(const std::filesystem::path& path, std::string_view plan_id, Start start);

  const std::map<size_t, Hash128>& found() const noexcept { return found_; }  // by earlier runs
  void append(size_t tensor, const Hash128& hash);
  void sync() { file_.sync(); }
  void remove() noexcept;  // the output is complete

 private:
  void read_entries(std::string_view text);

  OutputFile file_;
  std::map<size_t, Hash128> found_;
  int64_t end_ = 0;  // where the next line goes
};

}  // namespace mezzotint
