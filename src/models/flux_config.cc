#include "models/flux_config.h"

#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "mezzotint/error.h"
#include "models/json_file.h"

namespace mezzotint {
namespace {

constexpr const char* kClassName = "FluxTransformer2DModel";

void check_class(const JsonFile& json) {
  if (!json.has("_class_name")) return;
  const std::string found = json.string("_class_name");
  if (found == kClassName) return;
  throw Error(ErrorCode::kUnsupported, "the model is of another class",
              {.file = json.file(), .expected = kClassName, .found = found});
}

void check_axes(const JsonFile& json, const FluxConfig& config) {
  const std::vector<int64_t>& axes = config.axes_dims_rope;
  for (const int64_t dim : axes) {
    if (dim % 2 != 0) json.fail("axes_dims_rope", "even numbers");
  }
  const int64_t sum = std::accumulate(axes.begin(), axes.end(), int64_t{0});
  if (sum == config.attention_head_dim) return;
  throw Error(ErrorCode::kInput, "key 'axes_dims_rope' does not fit 'attention_head_dim'",
              {.file = json.file(),
               .expected = fmt::format("a sum of {}", config.attention_head_dim),
               .found = fmt::format("{} = {}", fmt::join(axes, " + "), sum)});
}

}  // namespace

FluxConfig read_flux_config(const std::filesystem::path& path) {
  return flux_config_of(
      JsonFile::read(std::filesystem::is_directory(path) ? path / "config.json" : path));
}

FluxConfig flux_config_of(const JsonFile& json) {
  check_class(json);
  json.refuse_unknown_keys({"patch_size", "in_channels", "out_channels", "num_layers",
                            "num_single_layers", "attention_head_dim", "num_attention_heads",
                            "joint_attention_dim", "pooled_projection_dim", "guidance_embeds",
                            "axes_dims_rope"});
  FluxConfig config;
  config.patch_size = json.integer("patch_size", 1);
  config.in_channels = json.integer("in_channels", 1);
  config.out_channels =
      json.has("out_channels") ? json.integer("out_channels", 1) : config.in_channels;
  config.num_layers = json.integer("num_layers", 0);
  config.num_single_layers = json.integer("num_single_layers", 0);
  config.attention_head_dim = json.integer("attention_head_dim", 2);
  config.num_attention_heads = json.integer("num_attention_heads", 1);
  config.joint_attention_dim = json.integer("joint_attention_dim", 1);
  config.pooled_projection_dim = json.integer("pooled_projection_dim", 1);
  config.guidance_embeds = json.boolean("guidance_embeds");
  if (json.has("axes_dims_rope")) config.axes_dims_rope = json.integers("axes_dims_rope", 2);
  check_axes(json, config);
  return config;
}

}  // namespace mezzotint
