#include <algorithm>
#include <cstring>
#include <mutex>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/nearest.h"
#include "format/mapped_file.h"
#include "format/safetensors.h"
#include "format/weight_files.h"
#include "format/weight_index.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"

namespace mezzotint {

namespace fs = std::filesystem;

namespace {

// Smaller ones are mapped: their buffers do not begin at a page.
constexpr int64_t kLeastDirect = int64_t{2} << 20;
// Larger ones too: mapped pages the kernel may take back where memory is short.
constexpr int64_t kMostDirect = int64_t{1} << 30;

// Of a tensor that no array of its elements could be where it stands: it is read as a copy.
bool is_misaligned(const std::byte* data, DType dtype) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(dtype_size(dtype)) != 0;
}

}  // namespace

// Tensors that were read before they are asked for, by index.
class WeightStore::Ahead {
 public:
  std::optional<Tensor> find(size_t i) const {
    const std::lock_guard lock(mutex_);
    const auto found = tensors_.find(i);
    return found == tensors_.end() ? std::nullopt : std::optional(found->second);
  }
  void hold(size_t i, Tensor tensor) {
    const std::lock_guard lock(mutex_);
    tensors_.insert_or_assign(i, std::move(tensor));
  }
  void drop(size_t i) noexcept {
    const std::lock_guard lock(mutex_);
    tensors_.erase(i);
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<size_t, Tensor> tensors_;
};

struct WeightStore::Impl {
  std::vector<TensorInfo> tensors;
  std::vector<int64_t> offsets;  // of tensors[i] in its file
  std::vector<fs::path> files;
  std::vector<std::shared_ptr<const MappedFile>> maps;  // of files[i]; or, without any:
  std::vector<Tensor> held;                             // tensors[i]
  std::vector<size_t> by_name;                          // indices into `tensors`, sorted by name
  std::map<std::string, std::string> metadata;
  std::vector<std::string> warnings;
  fs::path folder;
  int64_t total_bytes = 0;
  mutable Ahead ahead;

  void add_file(const fs::path& path);
  void add_held(std::string name, Tensor tensor);
  void index_names();
  std::optional<size_t> find(std::string_view name) const noexcept;
  size_t at(std::string_view name) const;  // throws, naming the nearest
};

void WeightStore::Impl::add_file(const fs::path& path) {
  std::shared_ptr<const MappedFile> map = MappedFile::open(path);
  SafetensorsHeader header = parse_safetensors_header(map->bytes(), map->size(), path.string());
  map->release(0, header.data_start);
  if (map->world_writable()) warnings.push_back("anyone may write " + path.string());
  const int file = static_cast<int>(files.size());
  for (SafetensorsEntry& t : header.tensors) {
    offsets.push_back(header.data_start + t.begin);
    tensors.push_back({std::move(t.name), t.dtype, std::move(t.shape), t.end - t.begin, file});
    total_bytes += tensors.back().bytes;
  }
  if (files.empty()) metadata = std::move(header.metadata);
  files.push_back(path);
  maps.push_back(std::move(map));
}

void WeightStore::Impl::index_names() {
  by_name.resize(tensors.size());
  std::iota(by_name.begin(), by_name.end(), size_t{0});
  std::sort(by_name.begin(), by_name.end(),
            [&](size_t a, size_t b) { return tensors[a].name < tensors[b].name; });
  const auto same_name = [&](size_t a, size_t b) { return tensors[a].name == tensors[b].name; };
  const auto twin = std::adjacent_find(by_name.begin(), by_name.end(), same_name);
  if (twin == by_name.end()) return;
  const TensorInfo& one = tensors[*twin];
  const TensorInfo& other = tensors[*(twin + 1)];
  if (maps.empty()) {
    throw Error(ErrorCode::kUsage, "a name stands twice among the tensors", {.tensor = one.name});
  }
  throw Error(ErrorCode::kInput, "a tensor stands in two shards",
              {.tensor = one.name,
               .file = files[static_cast<size_t>(one.file)].string(),
               .found = files[static_cast<size_t>(other.file)].string(),
               .fix = "get the shards of one and the same checkpoint"});
}

void WeightStore::Impl::add_held(std::string name, Tensor tensor) {
  tensors.push_back({std::move(name), tensor.dtype(), tensor.shape(), tensor.byte_size(), 0});
  total_bytes += tensor.byte_size();
  held.push_back(std::move(tensor));
}

std::optional<size_t> WeightStore::Impl::find(std::string_view name) const noexcept {
  const auto at =
      std::lower_bound(by_name.begin(), by_name.end(), name,
                       [&](size_t i, std::string_view n) { return tensors[i].name < n; });
  if (at == by_name.end() || tensors[*at].name != name) return std::nullopt;
  return *at;
}

size_t WeightStore::Impl::at(std::string_view name) const {
  if (const std::optional<size_t> found = find(name)) return *found;
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& t : tensors) names.push_back(t.name);
  throw Error(ErrorCode::kInput, "there is no tensor of this name",
              {.tensor = std::string(name),
               .file = files.size() == 1 ? files[0].string() : folder.string(),
               .fix = did_you_mean(nearest_names(name, names))});
}

namespace {

fs::path folder_of(const fs::path& file) {
  return file.has_parent_path() ? file.parent_path() : fs::path(".");
}

// Both directions: what the shards hold is listed, and what is listed is there.
void check_against_index(const WeightIndex& index, const fs::path& index_file,
                         const WeightStore& store) {
  for (const TensorInfo& t : store.tensors()) {
    const std::string shard = store.files()[static_cast<size_t>(t.file)].filename().string();
    const auto listed = index.weight_map.find(t.name);
    if (listed != index.weight_map.end() && listed->second == shard) continue;
    throw Error(
        ErrorCode::kInput, "index and shard disagree about a tensor",
        {.tensor = t.name,
         .file = index_file.string(),
         .expected = "\"" + shard + "\", where the tensor lies",
         .found = listed == index.weight_map.end() ? "no entry" : "\"" + listed->second + "\"",
         .fix = "get index and shards of one and the same checkpoint"});
  }
  for (const auto& [name, shard] : index.weight_map) {
    if (store.find(name) != nullptr) continue;
    throw Error(ErrorCode::kInput, "a tensor of the index is missing from its shard",
                {.tensor = name,
                 .file = (index_file.parent_path() / shard).string(),
                 .fix = "get index and shards of one and the same checkpoint"});
  }
}

void check_shard_exists(const fs::path& shard, const fs::path& index_file) {
  std::error_code ignored;
  if (fs::exists(shard, ignored)) return;
  throw Error(ErrorCode::kInput, "a shard is missing",
              {.file = shard.string(),
               .expected = "the file that " + index_file.filename().string() + " names",
               .fix = "download the missing file into the same folder"});
}

}  // namespace

WeightStore::WeightStore(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

WeightStore WeightStore::open(const fs::path& path, std::string_view component) {
  const fs::path file = find_weight_file(path, component);
  if (!file.filename().string().ends_with(".index.json")) return open_file(file);

  const std::shared_ptr<const MappedFile> text = MappedFile::open(file);
  const WeightIndex index = parse_index(text->bytes(), file.string());
  const auto impl = std::make_shared<Impl>();
  impl->folder = folder_of(file);
  for (const std::string& shard : index.shards) {
    check_shard_exists(impl->folder / shard, file);
    impl->add_file(impl->folder / shard);
  }
  impl->index_names();
  if (index.total_size && *index.total_size != impl->total_bytes) {
    impl->warnings.push_back(file.string() + ": total_size says " +
                             std::to_string(*index.total_size) + ", the shards hold " +
                             std::to_string(impl->total_bytes) + " bytes");
  }
  const WeightStore store(impl);
  check_against_index(index, file, store);
  return store;
}

WeightStore WeightStore::open_file(const fs::path& path) {
  const auto impl = std::make_shared<Impl>();
  impl->folder = folder_of(path);
  impl->add_file(path);
  impl->index_names();
  return WeightStore(impl);
}

WeightStore WeightStore::of_tensors(std::vector<std::pair<std::string, Tensor>> tensors) {
  const auto impl = std::make_shared<Impl>();
  impl->files.emplace_back("(the model in memory)");
  for (auto& [name, tensor] : tensors) impl->add_held(std::move(name), std::move(tensor));
  impl->index_names();
  return WeightStore(impl);
}

const std::vector<TensorInfo>& WeightStore::tensors() const noexcept { return impl_->tensors; }
const std::vector<fs::path>& WeightStore::files() const noexcept { return impl_->files; }
const fs::path& WeightStore::folder() const noexcept { return impl_->folder; }
const std::map<std::string, std::string>& WeightStore::metadata() const noexcept {
  return impl_->metadata;
}
int64_t WeightStore::total_bytes() const noexcept { return impl_->total_bytes; }
const std::vector<std::string>& WeightStore::warnings() const noexcept { return impl_->warnings; }

const TensorInfo* WeightStore::find(std::string_view name) const noexcept {
  const std::optional<size_t> i = impl_->find(name);
  return i ? &impl_->tensors[*i] : nullptr;
}

const TensorInfo& WeightStore::info(std::string_view name) const {
  return impl_->tensors[impl_->at(name)];
}

Tensor WeightStore::read(std::string_view name) const {
  const size_t i = impl_->at(name);
  if (!impl_->held.empty()) return impl_->held[i];
  if (std::optional<Tensor> tensor = impl_->ahead.find(i)) return *std::move(tensor);
  const TensorInfo& t = impl_->tensors[i];
  const std::shared_ptr<const MappedFile>& map = impl_->maps[static_cast<size_t>(t.file)];
  const std::byte* data = map->data() + impl_->offsets[i];
  if (!is_misaligned(data, t.dtype)) {
    return Tensor(t.dtype, t.shape, Buffer::borrow_const(data, t.bytes, map));
  }
  // Nothing in safetensors promises alignment: such a tensor is copied.
  Tensor copy = Tensor::allocate(t.dtype, t.shape);
  std::memcpy(copy.buffer().mutable_data(), data, static_cast<size_t>(t.bytes));
  map->release(impl_->offsets[i], t.bytes);
  return copy;
}

std::span<const std::byte> WeightStore::bytes(std::string_view name) const {
  const size_t i = impl_->at(name);
  if (!impl_->held.empty()) return impl_->held[i].buffer().bytes();
  const TensorInfo& t = impl_->tensors[i];
  const std::byte* data = impl_->maps[static_cast<size_t>(t.file)]->data() + impl_->offsets[i];
  return {data, static_cast<size_t>(t.bytes)};
}

void WeightStore::read_ahead(std::string_view name) const {
  const size_t i = impl_->at(name);
  if (!impl_->held.empty()) return;
  const TensorInfo& t = impl_->tensors[i];
  if (impl_->ahead.find(i)) return;
  const std::span<const std::byte> mapped = bytes(name);
  // Mapped as well, a copy would be in memory twice.
  if (is_misaligned(mapped.data(), t.dtype)) return;
  if (t.bytes >= kLeastDirect && t.bytes <= kMostDirect) {
    const auto& map = impl_->maps[static_cast<size_t>(t.file)];
    if (const std::optional<Buffer> read = map->read_direct(impl_->offsets[i], t.bytes)) {
      const Buffer constant =
          Buffer::borrow_const(read->data(), t.bytes, std::make_shared<const Buffer>(*read));
      impl_->ahead.hold(i, Tensor(t.dtype, t.shape, constant));
      return;
    }
  }
  mezzotint::read_ahead(mapped);
}

void WeightStore::release(std::string_view name) const noexcept {
  const std::optional<size_t> i = impl_->find(name);
  if (!i || impl_->maps.empty()) return;
  impl_->ahead.drop(*i);
  const TensorInfo& t = impl_->tensors[*i];
  impl_->maps[static_cast<size_t>(t.file)]->release(impl_->offsets[*i], t.bytes);
}

}  // namespace mezzotint
