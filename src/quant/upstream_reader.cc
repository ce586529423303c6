#include "quant/upstream_reader.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "format/mapped_file.h"
#include "mezzotint/error.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

constexpr auto kAllowedMode = fs::perms{0640};

// MindIE-SD at 3066189, mindiesd/quantization/mode.py:24-47, in its spelling.
constexpr std::array<std::string_view, 23> kModes = {"W8A8",
                                                     "W8A8_TIMESTEP",
                                                     "W8A8_DYNAMIC",
                                                     "W4A4_DYNAMIC",
                                                     "W8A8_MXFP8",
                                                     "W4A4_MXFP4",
                                                     "W8A16",
                                                     "W4A16",
                                                     "W4A16_AWQ",
                                                     "W4A8_AWQ",
                                                     "W8A16_GPTQ",
                                                     "W4A16_GPTQ",
                                                     "W8A8_PER_CHANNEL",
                                                     "W8A8_PER_TENSOR",
                                                     "W8A8_PER_CHANNEL_PER_TOKEN",
                                                     "W8A8_PER_CHANNEL_PER_TENSOR",
                                                     "W8A8_PER_TENSOR_PER_TOKEN",
                                                     "INT8",
                                                     "MIXED_PERCISION",
                                                     "FP8_DYNAMIC",
                                                     "NO_QUANT",
                                                     "W4A4_MXFP4_SVD",
                                                     "W4A4_MXFP4_DUALSCALE"};

// In the document's tables, but left float by the loader (quantize.py:43-46); the last one is the
// name of the member whose value is W4A4_MXFP4.
constexpr std::array<std::string_view, 5> kLeftFloat = {"W4A16_AWQ", "W4A8_AWQ", "W8A16_GPTQ",
                                                        "W4A16_GPTQ", "W4A4_MXFP4_DYNAMIC"};

// Modes that name no algorithm of a layer.
constexpr std::array<std::string_view, 3> kNoAlgorithm = {"INT8", "MIXED_PERCISION", "NO_QUANT"};

bool contains(const auto& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

void check_file(const fs::path& file) {
  if (fs::is_symlink(fs::symlink_status(file))) {
    throw Error(ErrorCode::kInput, "upstream does not follow links to files",
                {.file = file.string(), .fix = "copy the file, or leave out compat"});
  }
  const fs::perms mode = fs::status(file).permissions() & fs::perms::mask;
  if ((mode & ~kAllowedMode) == fs::perms::none) return;
  throw Error(ErrorCode::kInput, "upstream refuses the mode of the file",
              {.file = file.string(),
               .expected = "no permissions beyond 0640",
               .found = fmt::format("0{:o}", static_cast<unsigned>(mode)),
               .fix = "chmod 0640, or leave out compat"});
}

void check_rank(const QuantizedFiles& files, std::optional<int> rank) {
  if (!files.rank || rank || env_rank()) return;
  throw Error(ErrorCode::kUsage, "upstream takes digits at the end of the name for a rank",
              {.file = files.descriptor.string(),
               .expected = "a rank, as the argument or in the environment",
               .found = "none",
               .fix = "give the rank, or rename the file"});
}

void check_type(const fs::path& descriptor) {
  const auto map = MappedFile::open(descriptor);
  const auto bytes = map->bytes();
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  const nlohmann::json root = nlohmann::json::parse(text, text + bytes.size());
  const auto type = root.find("model_quant_type");
  const std::string found = type == root.end()  ? "none"
                            : type->is_string() ? type->get<std::string>()
                                                : std::string(type->type_name());
  if (contains(kModes, found)) return;
  throw Error(ErrorCode::kInput, "upstream refuses this model_quant_type",
              {.file = descriptor.string(),
               .expected = "the name of an algorithm, in upper case",
               .found = found,
               .fix = "correct it, or leave out compat"});
}

}  // namespace

void check_upstream_files(const fs::path& given, const QuantizedFiles& files,
                          std::optional<int> rank) {
  if (!fs::exists(given)) {
    throw Error(ErrorCode::kInput, "upstream wants the descriptor it is given, whatever the rank",
                {.file = given.string(), .found = "no such file"});
  }
  check_file(files.descriptor);
  check_file(files.weights);
  check_rank(files, rank);
  check_type(files.descriptor);
}

UpstreamReading upstream_reading(std::string_view label) {
  std::string upper(label);
  std::ranges::transform(upper, upper.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (contains(kLeftFloat, upper)) return UpstreamReading::kLeftFloat;
  return contains(kModes, upper) && !contains(kNoAlgorithm, upper) ? UpstreamReading::kApplied
                                                                   : UpstreamReading::kIgnored;
}

std::string leave_out_like_upstream(LinearParams& params) {
  LinearPlan& plan = params.plan;
  plan.compat = Compat::kUpstream;
  const bool weight_only = plan.activation_mode == ActivationMode::kFloat;
  const bool int4_both =
      plan.activation_mode == ActivationMode::kDynamic && plan.activation.element == Element::kInt4;
  std::string names;
  const auto leave_out = [&](Tensor& tensor, std::string_view name) {
    if (tensor.empty()) return;
    tensor = {};
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  };
  if (int4_both) leave_out(params.bias, "bias");
  if (int4_both || weight_only) leave_out(params.mul_scale, "div.mul_scale");
  leave_out(params.weight_offset, "weight_offset");
  plan.has_bias = !params.bias.empty();
  plan.weight.asymmetric = false;
  if (params.mul_scale.empty()) plan.prologue = Prologue::kNone;
  return names;
}

}  // namespace mezzotint
