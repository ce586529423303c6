#include <algorithm>
#include <chrono>
#include <future>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "base/nearest.h"
#include "format/output_file.h"
#include "format/weight_files.h"
#include "format/weight_index.h"
#include "format/writer_journal.h"
#include "format/writer_layout.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"

namespace mezzotint {

namespace fs = std::filesystem;

namespace {

// After how much the disk is asked to have it all, on a thread beside; and how much it may be
// behind: what a power failure costs, and the dirty memory that a slow disk gathers.
constexpr int64_t kSyncEvery = int64_t{256} << 20;
constexpr int64_t kMostUnsynced = int64_t{1} << 30;
constexpr int64_t kReadBack = int64_t{4} << 20;

enum class State : uint8_t { kMissing, kWriting, kResumed, kWritten };

bool is_done(State state) { return state == State::kResumed || state == State::kWritten; }

fs::path with_suffix(fs::path path, const char* suffix) { return path += suffix; }

WriterJournal::Start start_of(const WriterOptions& options) {
  return options.resume ? WriterJournal::Start::kResume : WriterJournal::Start::kFresh;
}

bool holds(const OutputFile& file, const PlacedTensor& t, const Hash128& expected) {
  HashStream hash;
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kReadBack, t.bytes)));
  for (int64_t at = 0; at < t.bytes; at += kReadBack) {
    const std::span part(piece.data(), static_cast<size_t>(std::min(kReadBack, t.bytes - at)));
    if (!file.read_at(t.offset + at, part)) return false;
    hash.add(part);
  }
  return hash.finish() == expected;
}

}  // namespace

struct Writer::Impl {
  struct Shard {
    OutputFile file;
    bool in_place = false;  // already under its final name
  };

  Impl(const fs::path& file, std::vector<TensorPlan> plan, const WriterOptions& options);
  void open_shards(WriterJournal::Start start);
  void resume();
  void discard() noexcept;
  bool adopt_finished(size_t shard);
  size_t at(std::string_view name) const;
  void write(size_t tensor, std::span<const std::byte> bytes);
  bool begin_write(size_t tensor, const Hash128& hash);
  void sync_beside();
  void sync_files();
  void check_complete() const;
  void write_index(const std::string& run_id) const;

  WriterLayout layout;
  WriterJournal journal;
  std::vector<Shard> shards;
  std::vector<fs::path> files;
  std::vector<State> states;
  std::vector<Hash128> hashes;
  std::mutex mutex;  // states, hashes, journal, unsynced, syncing
  int64_t unsynced = 0;
  bool finished = false;
  std::future<void> syncing;  // the last member: it waits for sync_files()
};

Writer::Impl::Impl(const fs::path& file, std::vector<TensorPlan> plan, const WriterOptions& options)
    : layout(plan_layout(file, std::move(plan), options)),
      journal(with_suffix(file, ".journal"), layout.plan_id, start_of(options)),
      states(layout.tensors.size(), State::kMissing),
      hashes(layout.tensors.size()) {
  for (const ShardLayout& shard : layout.shards) files.push_back(shard.file);
  try {
    open_shards(start_of(options));
  } catch (...) {
    if (!options.resume) discard();
    throw;
  }
  if (options.resume) resume();
}

// A full disk is found before any work is done; it must not stay full of what was reserved.
void Writer::Impl::discard() noexcept {
  std::error_code ignored;
  for (const fs::path& file : files) fs::remove(with_suffix(file, ".partial"), ignored);
  journal.remove();
}

void Writer::Impl::open_shards(WriterJournal::Start start) {
  for (size_t i = 0; i < layout.shards.size(); ++i) {
    shards.emplace_back();
    if (start == WriterJournal::Start::kResume && adopt_finished(i)) continue;
    const ShardLayout& shard = layout.shards[i];
    const auto mode = start == WriterJournal::Start::kResume ? OutputFile::Mode::kKeep
                                                             : OutputFile::Mode::kCreate;
    shards[i].file = OutputFile(with_suffix(shard.file, ".partial"), mode);
    shards[i].file.reserve(shard.file_bytes);
    shards[i].file.write_at(0, shard.header);
  }
}

// A run that was killed inside finish() has renamed some files. They count only when they are
// exactly what finish() would put there.
bool Writer::Impl::adopt_finished(size_t shard) {
  const ShardLayout& planned = layout.shards[shard];
  std::error_code ignored;
  if (fs::exists(with_suffix(planned.file, ".partial"), ignored)) return false;
  if (!fs::is_regular_file(planned.file, ignored)) return false;
  if (journal.found().size() != layout.tensors.size()) return false;
  for (const auto& [tensor, hash] : journal.found()) {
    if (tensor >= hashes.size()) return false;
    hashes[tensor] = hash;
  }
  OutputFile file(planned.file, OutputFile::Mode::kReadOnly);
  std::string header(planned.header.size(), '\0');
  if (file.size() != planned.file_bytes ||
      !file.read_at(0, std::as_writable_bytes(std::span(header))) ||
      header != final_header(planned, run_id_of(layout, hashes))) {
    return false;
  }
  shards[shard] = {std::move(file), true};
  return true;
}

void Writer::Impl::resume() {
  for (const auto& [tensor, hash] : journal.found()) {
    if (tensor >= states.size()) continue;
    const PlacedTensor& t = layout.tensors[tensor];
    if (!holds(shards[t.shard].file, t, hash)) continue;
    states[tensor] = State::kResumed;
    hashes[tensor] = hash;
  }
  // A finished file whose bytes are not what its own header vouches for is written again.
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::vector<size_t>& members = layout.shards[i].tensors;
    const bool whole = std::all_of(members.begin(), members.end(),
                                   [&](size_t t) { return states[t] == State::kResumed; });
    if (!shards[i].in_place || whole) continue;
    for (const size_t t : members) states[t] = State::kMissing;
    shards[i].in_place = false;
    shards[i].file = OutputFile(with_suffix(files[i], ".partial"), OutputFile::Mode::kCreate);
    shards[i].file.reserve(layout.shards[i].file_bytes);
    shards[i].file.write_at(0, layout.shards[i].header);
  }
}

size_t Writer::Impl::at(std::string_view name) const {
  if (const std::optional<size_t> found = layout.find(name)) return *found;
  std::vector<std::string_view> names;
  for (const PlacedTensor& t : layout.tensors) names.push_back(t.plan.name);
  throw Error(ErrorCode::kInternal, "the tensor was not planned",
              {.tensor = std::string(name),
               .file = files[0].string(),
               .fix = did_you_mean(nearest_names(name, names))});
}

void Writer::Impl::write(size_t tensor, std::span<const std::byte> bytes) {
  const PlacedTensor& t = layout.tensors[tensor];
  if (static_cast<int64_t>(bytes.size()) != t.bytes) {
    throw Error(ErrorCode::kInternal, "a tensor has another size than planned",
                {.tensor = t.plan.name,
                 .file = files[t.shard].string(),
                 .expected = std::to_string(t.bytes) + " bytes",
                 .found = std::to_string(bytes.size())});
  }
  const Hash128 hash = hash_bytes(bytes);
  if (!begin_write(tensor, hash)) return;
  try {
    shards[t.shard].file.write_at(t.offset, bytes);
  } catch (...) {
    const std::lock_guard lock(mutex);
    states[tensor] = State::kMissing;
    throw;
  }
  const std::lock_guard lock(mutex);
  journal.append(tensor, hash);
  hashes[tensor] = hash;
  states[tensor] = State::kWritten;
  unsynced += t.bytes;
  if (unsynced >= kSyncEvery) sync_beside();
}

// False when the file already holds these bytes.
bool Writer::Impl::begin_write(size_t tensor, const Hash128& hash) {
  const PlacedTensor& t = layout.tensors[tensor];
  const std::lock_guard lock(mutex);
  MZ_CHECK(!finished);
  State& state = states[tensor];
  if (state == State::kWritten || state == State::kWriting) {
    throw Error(ErrorCode::kInternal, "a tensor is written twice",
                {.tensor = t.plan.name, .file = files[t.shard].string()});
  }
  if (state == State::kResumed && hashes[tensor] == hash) {
    state = State::kWritten;
    return false;
  }
  MZ_CHECK(!shards[t.shard].in_place);
  state = State::kWriting;
  return true;
}

// One at a time. What comes later may be in it or not: the next one is for that.
void Writer::Impl::sync_beside() {
  if (syncing.valid()) {
    const bool running = syncing.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
    if (running && unsynced < kMostUnsynced) return;
    syncing.get();
  }
  unsynced = 0;
  syncing = std::async(std::launch::async, [this] { sync_files(); });
}

// Needs no lock: shards keep their place until finish(), and writing to a file meanwhile is fine.
void Writer::Impl::sync_files() {
  for (Shard& shard : shards) {
    if (shard.in_place) continue;
    shard.file.sync();
    shard.file.drop_cache();
  }
  journal.sync();
}

void Writer::Impl::check_complete() const {
  std::vector<std::string> missing;
  for (size_t i = 0; i < states.size(); ++i) {
    if (!is_done(states[i])) missing.push_back(layout.tensors[i].plan.name);
  }
  if (missing.empty()) return;
  throw Error(ErrorCode::kInternal, "tensors that were planned have not been written",
              {.file = files[0].string(), .found = list_of(missing)});
}

void Writer::Impl::write_index(const std::string& run_id) const {
  if (layout.index.empty()) return;
  WeightIndex index;
  index.total_size = layout.data_bytes;
  for (const PlacedTensor& t : layout.tensors) {
    index.weight_map.emplace(t.plan.name, files[t.shard].filename().string());
  }
  write_file_atomically(layout.index, index_text(index, run_id));
}

Writer::Writer(fs::path file, std::vector<TensorPlan> plan, WriterOptions options)
    : impl_(std::make_unique<Impl>(file, std::move(plan), options)) {}

Writer::~Writer() = default;
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;

bool Writer::done(std::string_view name) const {
  const size_t tensor = impl_->at(name);
  const std::lock_guard lock(impl_->mutex);
  return is_done(impl_->states[tensor]);
}

void Writer::put(std::string_view name, std::span<const std::byte> bytes) {
  impl_->write(impl_->at(name), bytes);
}

void Writer::put(const std::string& name, const Tensor& tensor) {
  const size_t i = impl_->at(name);
  const TensorPlan& plan = impl_->layout.tensors[i].plan;
  if (tensor.dtype() != plan.dtype || tensor.shape() != plan.shape) {
    throw Error(
        ErrorCode::kInternal, "a tensor has another dtype or shape than planned",
        {.tensor = name,
         .expected = std::string(dtype_name(plan.dtype)) + " " + to_string(plan.shape),
         .found = std::string(dtype_name(tensor.dtype())) + " " + to_string(tensor.shape())});
  }
  impl_->write(i, tensor.buffer().bytes());
}

std::string Writer::finish() {
  Impl& w = *impl_;
  const std::lock_guard lock(w.mutex);
  MZ_CHECK(!w.finished);
  w.check_complete();
  if (w.syncing.valid()) w.syncing.get();
  const std::string run_id = run_id_of(w.layout, w.hashes);
  for (size_t i = 0; i < w.shards.size(); ++i) {
    if (w.shards[i].in_place) continue;
    w.shards[i].file.write_at(0, final_header(w.layout.shards[i], run_id));
    w.shards[i].file.sync();
  }
  w.journal.sync();
  for (size_t i = 0; i < w.shards.size(); ++i) {
    if (!w.shards[i].in_place) rename_file(w.shards[i].file.path(), w.files[i]);
    w.shards[i].in_place = true;
  }
  sync_folder(w.files[0].parent_path());
  w.write_index(run_id);
  w.journal.remove();
  w.finished = true;
  return run_id;
}

const std::vector<fs::path>& Writer::files() const noexcept { return impl_->files; }

}  // namespace mezzotint
