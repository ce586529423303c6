#include "format/writer_journal.h"

#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr std::string_view kTitle = "mezzotint-journal 1 ";

std::optional<std::pair<size_t, Hash128>> parse_line(std::string_view line) {
  const size_t tab = line.find('\t');
  if (tab == std::string_view::npos) return std::nullopt;
  size_t tensor = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + tab, tensor);
  if (error != std::errc() || end != line.data() + tab) return std::nullopt;
  const std::optional<Hash128> hash = hash_from_hex(line.substr(tab + 1));
  if (!hash) return std::nullopt;
  return std::pair(tensor, *hash);
}

}  // namespace

WriterJournal::WriterJournal(const std::filesystem::path& path, std::string_view plan_id,
                             Start start)
    : file_(path, OutputFile::Mode::kKeep) {
  if (!file_.try_lock()) {
    throw Error(ErrorCode::kUsage, "another process is writing this output",
                {.file = path.string(), .fix = "wait for it, or choose another output"});
  }
  const std::string title = fmt::format("{}{}\n", kTitle, plan_id);
  if (start == Start::kResume) {
    std::string text(static_cast<size_t>(file_.size()), '\0');
    file_.read_at(0, std::as_writable_bytes(std::span(text)));
    const bool whole_title = text.find('\n') != std::string::npos;
    if (whole_title && !text.starts_with(title)) {
      throw Error(ErrorCode::kUsage, "the unfinished output belongs to another run",
                  {.file = path.string(),
                   .expected = "the same source and the same options",
                   .fix = "repeat the first command exactly, or start again without resume"});
    }
    if (whole_title) {
      end_ = static_cast<int64_t>(title.size());
      read_entries(std::string_view(text).substr(title.size()));
    }
  }
  file_.resize(end_);
  if (end_ == 0) {
    file_.write_at(0, title);
    end_ = static_cast<int64_t>(title.size());
  }
}

void WriterJournal::read_entries(std::string_view text) {
  while (true) {
    const size_t newline = text.find('\n');
    if (newline == std::string_view::npos) return;
    const auto entry = parse_line(text.substr(0, newline));
    if (!entry) return;
    found_[entry->first] = entry->second;
    end_ += static_cast<int64_t>(newline) + 1;
    text.remove_prefix(newline + 1);
  }
}

void WriterJournal::append(size_t tensor, const Hash128& hash) {
  const std::string line = fmt::format("{}\t{}\n", tensor, to_hex(hash));
  file_.write_at(end_, line);
  end_ += static_cast<int64_t>(line.size());
}

void WriterJournal::remove() noexcept {
  std::error_code ignored;
  std::filesystem::remove(file_.path(), ignored);
  file_ = OutputFile();
}

}  // namespace mezzotint
