// load_flux(): from a path to a model that runs.

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mezzotint/descriptor.h"
#include "mezzotint/error.h"
#include "models/flux.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDescriptorStem = "quant_model_description";
constexpr size_t kMaxListed = 8;

bool is_descriptor_name(const fs::path& path) {
  return path.extension() == ".json" && path.filename().string().starts_with(kDescriptorStem);
}

void refuse_empty_linears(const ModuleMap& modules, const fs::path& path) {
  std::vector<std::string> empty;
  for (const Linear* linear : modules.linears) {
    if (!linear->state()) empty.push_back(linear->name());
  }
  if (empty.empty()) return;
  const size_t count = empty.size();
  empty.resize(std::min(count, kMaxListed));
  throw Error(ErrorCode::kInput, "layers without weights",
              {.layer = empty.front(),
               .file = path.string(),
               .expected = "a float weight or a quantized one for every layer",
               .found = fmt::format("{} without: {}{}", count, fmt::join(empty, ", "),
                                    count > kMaxListed ? ", ..." : "")});
}

fs::path config_of(const fs::path& folder, const fs::path& original) {
  const fs::path own = folder / "config.json";
  std::error_code ignored;
  if (original.empty() || fs::exists(own, ignored)) return own;
  return WeightStore::open(original).folder() / "config.json";
}

}  // namespace

bool is_quantized_path(const fs::path& path) {
  std::error_code error;  // what cannot be listed is left to the reader of weights, who says so
  if (!fs::is_directory(path, error)) return is_descriptor_name(path);
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (is_descriptor_name(it->path())) return true;
  }
  return false;
}

std::unique_ptr<FluxTransformer> load_flux(const fs::path& path, const ExecContext& ctx,
                                           const QuantizeOptions& options, Report* report,
                                           const fs::path& original) {
  if (!is_quantized_path(path)) {
    const WeightStore store = WeightStore::open(path);
    return FluxTransformer::load(store, read_flux_config(store.folder()));
  }
  const QuantizedFiles files = find_quantized_files(path, options.rank);
  const WeightStore store = WeightStore::open(files.weights);
  const fs::path config = config_of(files.descriptor.parent_path(), original);
  std::unique_ptr<FluxTransformer> model =
      FluxTransformer::load(store, read_flux_config(config), Missing::kLeaveEmpty);
  const Report said = quantize(model->modules(), files.descriptor, options, ctx);
  refuse_empty_linears(model->modules(), files.descriptor);
  if (report) *report = said;
  return model;
}

}  // namespace mezzotint
