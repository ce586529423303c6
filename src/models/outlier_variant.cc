#include "models/outlier_variant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "mezzotint/error.h"
#include "models/flux_config.h"
#include "models/noise.h"
#include "models/read_f32.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

namespace fs = std::filesystem;

// Chunks of the rows of an adaLN linear, each as wide as the model.
constexpr int64_t kShiftMsa = 0, kScaleMsa = 1, kShiftMlp = 3, kScaleMlp = 4;
constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";

using Names = std::vector<std::string>;

class Reparametrisation {
 public:
  Reparametrisation(const WeightStore& source, const OutlierOptions& options)
      : source_(source), config_(read_flux_config(source.folder())), options_(options) {}

  void run() {
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      double_block(fmt::format("transformer_blocks.{}", i));
    }
    for (int64_t i = 0; i < config_.num_single_layers; ++i) {
      single_block(fmt::format("single_transformer_blocks.{}", i));
    }
  }

  void write(const fs::path& file) const {
    std::vector<TensorPlan> plan;
    for (const TensorInfo& tensor : source_.tensors()) {
      plan.push_back({tensor.name, written_dtype(tensor), tensor.shape});
    }
    Writer writer(file, plan);
    for (const TensorPlan& tensor : plan) writer.put(tensor.name, written(tensor));
    writer.finish();
  }

 private:
  // [rows, columns]; a vector is one column.
  struct View {
    float* values;
    int64_t rows, columns;
    float* row(int64_t i) const { return values + i * columns; }
  };

  View edit(const std::string& name) {
    if (!changed_.contains(name)) changed_.emplace(name, read_f32(source_, name));
    Tensor& tensor = changed_.at(name);
    return {tensor.mutable_data<float>(), tensor.dim(0), tensor.size() / tensor.dim(0)};
  }

  void scale_rows(const std::string& name, int64_t first, const std::vector<int64_t>& rows) {
    const View view = edit(name);
    for (const int64_t row : rows) {
      float* values = view.row(first + row);
      for (int64_t k = 0; k < view.columns; ++k) values[k] *= options_.factor;
    }
  }

  // 1 + (w x + b) -> factor (1 + w x + b)
  void raise_scale(const std::string& linear, int64_t first, const std::vector<int64_t>& rows) {
    scale_rows(linear + ".weight", first, rows);
    const View bias = edit(linear + ".bias");
    const double factor = options_.factor;
    for (const int64_t row : rows) {
      float& b = bias.values[first + row];
      b = static_cast<float>(factor * double{b} + (factor - 1));
    }
  }

  void divide_columns(const Names& linears, const std::vector<int64_t>& channels) {
    for (const std::string& linear : linears) {
      const View weight = edit(linear + ".weight");
      for (int64_t n = 0; n < weight.rows; ++n) {
        for (const int64_t channel : channels) weight.row(n)[channel] /= options_.factor;
      }
    }
  }

  void modulation(const std::string& norm, int64_t shift, int64_t scale, const Names& readers) {
    const int64_t width = config_.width();
    const std::vector<int64_t> channels = outlier_channels(width, site_++, options_);
    scale_rows(norm + ".weight", shift * width, channels);
    scale_rows(norm + ".bias", shift * width, channels);
    raise_scale(norm, scale * width, channels);
    divide_columns(readers, channels);
  }

  void value_path(const Names& producers, const Names& readers) {
    const std::vector<int64_t> channels = outlier_channels(config_.width(), site_++, options_);
    for (const std::string& producer : producers) {
      scale_rows(producer + ".weight", 0, channels);
      scale_rows(producer + ".bias", 0, channels);
    }
    divide_columns(readers, channels);
  }

  void double_block(const std::string& block) {
    const std::string attn = block + ".attn.";
    const std::string norm = block + ".norm1.linear", context = block + ".norm1_context.linear";
    modulation(norm, kShiftMsa, kScaleMsa, {attn + "to_q", attn + "to_k", attn + "to_v"});
    modulation(context, kShiftMsa, kScaleMsa,
               {attn + "add_q_proj", attn + "add_k_proj", attn + "add_v_proj"});
    value_path({attn + "to_v", attn + "add_v_proj"}, {attn + "to_out.0", attn + "to_add_out"});
    modulation(norm, kShiftMlp, kScaleMlp, {block + ".ff.net.0.proj"});
    modulation(context, kShiftMlp, kScaleMlp, {block + ".ff_context.net.0.proj"});
  }

  // proj_out reads [attention, mlp]: the channels of attention come first.
  void single_block(const std::string& block) {
    const std::string attn = block + ".attn.";
    modulation(block + ".norm.linear", kShiftMsa, kScaleMsa,
               {attn + "to_q", attn + "to_k", attn + "to_v", block + ".proj_mlp"});
    value_path({attn + "to_v"}, {block + ".proj_out"});
  }

  static bool is_exact(const Tensor& wide, DType dtype) {
    const Tensor back = widened(narrowed(wide, dtype));
    return std::ranges::equal(back.buffer().bytes(), wide.buffer().bytes());
  }

  static Tensor narrowed(const Tensor& wide, DType dtype) {
    Tensor narrow = Tensor::allocate(dtype, wide.shape());
    narrow_range({wide.data<float>(), static_cast<size_t>(wide.size())}, narrow, 0);
    return narrow;
  }

  DType written_dtype(const TensorInfo& tensor) const {
    const auto found = changed_.find(tensor.name);
    if (found == changed_.end() || is_exact(found->second, tensor.dtype)) return tensor.dtype;
    if (tensor.name.ends_with(".bias")) return DType::kF32;
    throw Error(ErrorCode::kUnsupported, "a weight times the factor is not exact",
                {.tensor = tensor.name,
                 .expected = fmt::format("{} values", dtype_name(tensor.dtype)),
                 .found = fmt::format("a value beyond its range at factor {:g}", options_.factor)});
  }

  Tensor written(const TensorPlan& plan) const {
    const auto found = changed_.find(plan.name);
    return found == changed_.end() ? source_.read(plan.name) : narrowed(found->second, plan.dtype);
  }

  const WeightStore& source_;
  FluxConfig config_;
  OutlierOptions options_;
  uint32_t site_ = 0;
  std::map<std::string, Tensor, std::less<>> changed_;  // F32
};

void check(const OutlierOptions& options) {
  int exponent = 0;
  const bool is_power = std::frexp(options.factor, &exponent) == 0.5f && options.factor > 1.0f;
  if (!is_power || !std::isfinite(options.factor)) {
    throw Error(
        ErrorCode::kUsage, "the factor of an outlier channel",
        {.expected = "a power of two above 1", .found = fmt::format("{:g}", options.factor)});
  }
  if (!(options.fraction > 0.0 && options.fraction <= 1.0)) {
    throw Error(
        ErrorCode::kUsage, "the share of outlier channels",
        {.expected = "more than 0, at most 1", .found = fmt::format("{:g}", options.fraction)});
  }
}

}  // namespace

std::vector<int64_t> outlier_channels(int64_t width, uint32_t site, const OutlierOptions& options) {
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(options.seed),
                                       static_cast<uint32_t>(options.seed >> 32)};
  std::vector<std::pair<uint32_t, int64_t>> order;
  for (int64_t channel = 0; channel < width; ++channel) {
    const auto words = philox4x32_10({static_cast<uint32_t>(channel), site, 0, 0}, key);
    order.emplace_back(words[0], channel);
  }
  std::ranges::sort(order);
  const auto wanted = std::llround(options.fraction * static_cast<double>(width));
  order.resize(static_cast<size_t>(std::max<int64_t>(wanted, 1)));
  std::vector<int64_t> channels;
  for (const auto& [word, channel] : order) channels.push_back(channel);
  std::ranges::sort(channels);
  return channels;
}

void write_outlier_variant(const WeightStore& source, const fs::path& folder,
                           const OutlierOptions& options) {
  check(options);
  Reparametrisation work(source, options);
  work.run();
  fs::create_directories(folder);
  work.write(folder / kWeights);
  fs::copy_file(source.folder() / "config.json", folder / "config.json",
                fs::copy_options::overwrite_existing);
}

}  // namespace mezzotint
