#include "models/prompts.h"

#include <algorithm>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "mezzotint/weights.h"
#include "models/json_file.h"
#include "models/read_f32.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// Reads `name` widened, with a leading dimension of 1 when it has one dimension less than `rank`.
Tensor read_rows(const WeightStore& store, const char* name, size_t rank) {
  const TensorInfo& info = store.info(name);
  Shape shape = info.shape;
  if (shape.size() + 1 == rank) shape.insert(shape.begin(), 1);
  if (shape.size() != rank) {
    throw Error(ErrorCode::kInput, "embeddings have the wrong shape",
                {.tensor = name,
                 .file = store.files().front().string(),
                 .expected = fmt::format("{} or {} dimensions", rank - 1, rank),
                 .found = to_string(info.shape)});
  }
  return read_f32(store, name).reshaped(std::move(shape));
}

void check_equal(const WeightStore& store, const char* what, int64_t expected, int64_t found) {
  if (expected == found) return;
  throw Error(ErrorCode::kInput, fmt::format("embeddings disagree in {}", what),
              {.file = store.files().front().string(),
               .expected = fmt::format("{}", expected),
               .found = fmt::format("{}", found)});
}

Tensor select_rows(const Tensor& rows, std::span<const int64_t> ids) {
  Shape shape = rows.shape();
  const int64_t per_row = shape.front() == 0 ? 0 : rows.size() / shape.front();
  shape.front() = static_cast<int64_t>(ids.size());
  Tensor selected = Tensor::allocate(DType::kF32, std::move(shape));
  auto* out = selected.mutable_data<float>();
  for (const int64_t id : ids) out = std::copy_n(rows.data<float>() + id * per_row, per_row, out);
  return selected;
}

Prompt read_prompt(const JsonFile& json) {
  return {.id = json.integer("id", 0),
          .text = json.string("text"),
          .class_index = json.integer("class", 0),
          .class_name = json.string("class_name"),
          .object_color = json.string("object_color"),
          .background_color = json.string("background_color")};
}

}  // namespace

TextCondition Embeddings::select(std::span<const int64_t> ids) const {
  for (const int64_t id : ids) {
    if (id >= 0 && id < count()) continue;
    throw Error(ErrorCode::kUsage, "no such prompt",
                {.expected = fmt::format("a number from 0 to {}", count() - 1),
                 .found = fmt::format("{}", id)});
  }
  return {select_rows(rows.states, ids), select_rows(rows.pooled, ids)};
}

Embeddings read_embeddings(const fs::path& file) {
  const WeightStore store = WeightStore::open_file(file);
  Embeddings embeddings{.rows = {read_rows(store, "states", 3), read_rows(store, "pooled", 2)},
                        .null_condition = std::nullopt};
  const TextCondition& rows = embeddings.rows;
  check_equal(store, "the number of prompts", rows.states.dim(0), rows.pooled.dim(0));
  if (store.find("null_states") || store.find("null_pooled")) {
    TextCondition null{read_rows(store, "null_states", 3), read_rows(store, "null_pooled", 2)};
    check_equal(store, "rows of null_states", 1, null.states.dim(0));
    check_equal(store, "rows of null_pooled", 1, null.pooled.dim(0));
    check_equal(store, "text tokens", rows.states.dim(1), null.states.dim(1));
    check_equal(store, "width of the states", rows.states.dim(2), null.states.dim(2));
    check_equal(store, "width of pooled", rows.pooled.dim(1), null.pooled.dim(1));
    embeddings.null_condition = std::move(null);
  }
  return embeddings;
}

PromptSet read_prompts(const fs::path& folder) {
  const JsonFile json = JsonFile::read(folder / "prompts.json");
  PromptSet set{.prompts = {}, .embeddings = read_embeddings(folder / "prompts.safetensors")};
  for (const JsonFile& item : json.objects()) {
    set.prompts.push_back(read_prompt(item));
    const auto place = static_cast<int64_t>(set.prompts.size()) - 1;
    if (set.prompts.back().id != place) item.fail("id", fmt::format("{}", place));
  }
  if (static_cast<int64_t>(set.prompts.size()) != set.embeddings.count()) {
    throw Error(ErrorCode::kInput, "prompts.json and prompts.safetensors disagree",
                {.file = json.file(),
                 .expected = fmt::format("{} prompts", set.embeddings.count()),
                 .found = fmt::format("{}", set.prompts.size())});
  }
  return set;
}

}  // namespace mezzotint
