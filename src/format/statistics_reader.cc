// read_statistics(): nothing of the file is believed.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "format/statistics_fields.h"
#include "mezzotint/error.h"
#include "mezzotint/weights.h"

namespace mezzotint {
namespace {

constexpr int64_t kMostSteps = 100'000;  // no sampler takes more; a hostile file may claim it
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& file)
      : file_(file.string()), store_(WeightStore::open_file(file)) {}

  Statistics read() {
    if (text(statistics_keys::kVersion).value_or("") != kStatisticsVersion) {
      throw Error(ErrorCode::kInput, "this is no file of statistics",
                  {.file = file_,
                   .expected = fmt::format("metadata {} = \"{}\"", statistics_keys::kVersion,
                                           kStatisticsVersion),
                   .found = text(statistics_keys::kVersion).value_or("none"),
                   .fix = "mezzotint collect makes one"});
    }
    Statistics stats;
    stats.model = text(statistics_keys::kModel).value_or("");
    stats.run = text("mezzotint_run").value_or("");
    stats.steps = integer(statistics_keys::kSteps, 1, kMostSteps);
    stats.token_limit = integer(statistics_keys::kTokens, 0, std::numeric_limits<int32_t>::max());
    stats.sigmas = sigmas(stats.steps);
    for (const auto& [key, value] : store_.metadata()) {
      if (key.starts_with(statistics_keys::kFactPrefix))
        stats.facts[key.substr(statistics_keys::kFactPrefix.size())] = value;
      if (key.starts_with(statistics_keys::kMembersPrefix)) {
        stats.inputs.push_back(
            read_input(key.substr(statistics_keys::kMembersPrefix.size()), value, stats));
      }
      if (key.starts_with(statistics_keys::kAttentionPrefix)) {
        stats.attentions.push_back(read_attention(
            key.substr(statistics_keys::kAttentionPrefix.size()), value, stats.steps));
      }
    }
    check_nothing_is_left(stats);
    return stats;
  }

 private:
  std::optional<std::string> text(const std::string& key) const {
    const auto entry = store_.metadata().find(key);
    if (entry == store_.metadata().end()) return std::nullopt;
    return entry->second;
  }

  int64_t integer(const char* key, int64_t least, int64_t most) const {
    const std::string value = text(key).value_or("nothing");
    int64_t number = 0;
    const char* end = value.data() + value.size();
    const auto parsed = std::from_chars(value.data(), end, number);
    if (parsed.ec == std::errc() && parsed.ptr == end && number >= least && number <= most) {
      return number;
    }
    fail(fmt::format("metadata {} cannot be read", key), "",
         fmt::format("a whole number from {} to {}", least, most), value);
  }

  std::vector<float> sigmas(int64_t steps) const {
    std::vector<float> values;
    const std::string all = text(statistics_keys::kSigmas).value_or("");
    if (all.empty()) return values;
    for (const std::string& part : split(all, ',')) {
      float value = 0;
      const char* end = part.data() + part.size();
      const auto parsed = std::from_chars(part.data(), end, value);
      if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value)) {
        fail("metadata sigmas cannot be read", "", "numbers", part);
      }
      values.push_back(value);
    }
    if (static_cast<int64_t>(values.size()) != steps) {
      fail("metadata sigmas has another length", "", fmt::format("{} values", steps),
           std::to_string(values.size()));
    }
    return values;
  }

  InputStatistics read_input(const std::string& name, const std::string& members,
                             const Statistics& stats) {
    InputStatistics input;
    input.name = name;
    input.members = split(members, '\n');
    input.rows = read_count(name);
    for (const StatisticsField& field : kStatisticsFields) read_field(field, stats, input);
    if (input.tokens.empty() != input.token_keys.empty() ||
        input.tokens.empty() != input.token_steps.empty()) {
      fail("a sample of tokens is not complete", name + ".tokens",
           "tokens, token_keys and token_steps", "some of them");
    }
    check_values(input, stats.steps);
    return input;
  }

  AttentionStatistics read_attention(const std::string& name, const std::string& text,
                                     int64_t steps) {
    const size_t space = text.find(' ');
    AttentionStatistics attention = {.name = name, .algorithm = text.substr(0, space)};
    const std::string_view dim =
        space == std::string::npos ? "" : std::string_view(text).substr(space + 1);
    const auto parsed = std::from_chars(dim.data(), dim.data() + dim.size(), attention.head_dim);
    if (parsed.ec != std::errc() || parsed.ptr != dim.data() + dim.size() ||
        attention.head_dim < 1) {
      fail(fmt::format("metadata {}{} cannot be read", statistics_keys::kAttentionPrefix, name), "",
           "an algorithm and a head_dim", text);
    }
    const auto not_negative = [](double v, int64_t) { return v >= 0 && v < kInfinity; };
    for (const auto& [suffix, field] : {std::pair{kNoiseSuffix, &AttentionStatistics::noise},
                                        std::pair{kSignalSuffix, &AttentionStatistics::signal}}) {
      const std::string tensor = fmt::format("{}.{}", name, suffix);
      attention.*field = required(tensor, DType::kF64, {steps});
      check_all<double>(attention.*field, tensor, "0 or more", not_negative);
    }
    return attention;
  }

  int64_t read_count(const std::string& name) {
    const Tensor count = required(name + ".count", DType::kI64, {1});
    const int64_t rows = count.data<int64_t>()[0];
    if (rows < 1) fail("a count cannot be right", name + ".count", "1 or more", rows);
    return rows;
  }

  void read_field(const StatisticsField& field, const Statistics& stats, InputStatistics& input) {
    const std::string tensor = fmt::format("{}.{}", input.name, field.suffix);
    const TensorInfo* info = store_.find(tensor);
    if (info == nullptr && !field.required()) return;
    if (info == nullptr) fail("a tensor is missing", tensor, "one", "none");
    if (field.field == &InputStatistics::amax && info->shape.size() == 1) input.k = info->shape[0];
    input.*field.field = required(tensor, field.dtype, expected_shape(field, *info, stats, input));
  }

  static Shape expected_shape(const StatisticsField& field, const TensorInfo& info,
                              const Statistics& stats, const InputStatistics& input) {
    switch (field.kind) {
      case StatisticsField::Kind::kChannels:
        return {std::max<int64_t>(input.k, 1)};
      case StatisticsField::Kind::kSteps:
        return {stats.steps};
      case StatisticsField::Kind::kHistogram:
        return {stats.steps, 2, kHistogramBins};
      case StatisticsField::Kind::kGram:
        return {input.k, input.k};
      case StatisticsField::Kind::kTokenRows:
        return {input.tokens.dim(0)};
      case StatisticsField::Kind::kTokens: {
        const int64_t stored = info.shape.empty() ? 0 : info.shape[0];
        const int64_t most = std::max<int64_t>(1, std::min(stats.token_limit, input.rows));
        return {std::clamp<int64_t>(stored, 1, most), input.k};
      }
    }
    MZ_CHECK(false);
  }

  Tensor required(const std::string& tensor, DType dtype, const Shape& shape) {
    const TensorInfo* info = store_.find(tensor);
    if (info == nullptr) fail("a tensor is missing", tensor, "one", "none");
    if (info->dtype != dtype || info->shape != shape) {
      fail("a tensor has the wrong shape", tensor,
           fmt::format("{} {}", dtype_name(dtype), to_string(shape)),
           fmt::format("{} {}", dtype_name(info->dtype), to_string(info->shape)));
    }
    ++read_;
    return store_.read(tensor);
  }

  template <typename T, typename Rule>
  void check_all(const Tensor& values, const std::string& tensor, std::string_view expected,
                 const Rule& is_right) const {
    if (values.empty()) return;
    const T* data = values.data<T>();
    for (int64_t i = 0; i < values.size(); ++i) {
      if (!is_right(data[i], i)) {
        fail("a value cannot be right", tensor, expected, fmt::format("{} at {}", data[i], i));
      }
    }
  }

  // The Gram matrix is read when it is used; here its diagonal.
  void check_values(const InputStatistics& in, int64_t steps) const {
    const auto not_negative = [](auto v, int64_t) { return v >= 0 && v < kInfinity; };
    check_all<float>(in.amax, in.name + ".amax", "0 or more", not_negative);
    check_all<double>(in.mean_abs, in.name + ".mean_abs", "0 or more", not_negative);
    const float* max = in.max.data<float>();
    check_all<float>(in.min, in.name + ".min", "a finite number up to max",
                     [&](float v, int64_t i) {
                       return (std::isfinite(v) && std::isfinite(max[i]) && v <= max[i]) ||
                              (v == kInfinity && max[i] == -kInfinity);
                     });
    check_all<int64_t>(in.hist, in.name + ".hist", "0 or more",
                       [](int64_t v, int64_t) { return v >= 0; });
    check_all<int32_t>(in.token_steps, in.name + ".token_steps", "a step",
                       [&](int32_t v, int64_t) { return v >= 0 && v < steps; });
    if (!in.token_keys.empty()) {
      const int64_t* keys = in.token_keys.data<int64_t>();
      check_all<int64_t>(
          in.token_keys, in.name + ".token_keys", "ascending keys",
          [&](int64_t v, int64_t i) { return v >= 0 && (i == 0 || keys[i - 1] <= v); });
    }
    check_tokens(in);
    if (in.gram.empty()) return;
    const float* gram = in.gram.data<float>();
    for (int64_t i = 0; i < in.k; ++i) {
      const float v = gram[i * (in.k + 1)];
      if (!(v >= 0 && v < kInfinity)) {
        fail("a value cannot be right", in.name + ".gram", "a finite sum of squares", v);
      }
    }
  }

  void check_tokens(const InputStatistics& in) const {
    if (in.tokens.empty()) return;
    const auto* bits = reinterpret_cast<const uint16_t*>(in.tokens.raw());
    constexpr uint16_t kExponent = 0x7f80;
    for (int64_t i = 0; i < in.tokens.size(); ++i) {
      if ((bits[i] & kExponent) != kExponent) continue;
      fail("a value cannot be right", in.name + ".tokens", "finite values",
           fmt::format("inf or nan at {}", i));
    }
  }

  void check_nothing_is_left(const Statistics& stats) const {
    if (stats.inputs.empty()) fail("the statistics are of no input", "", "one or more", "none");
    if (read_ == store_.tensors().size()) return;
    fail("tensors belong to no input and no attention", "", fmt::format("{} tensors", read_),
         std::to_string(store_.tensors().size()));
  }

  template <typename Found>
  [[noreturn]] void fail(std::string_view what, std::string tensor, std::string_view expected,
                         const Found& found) const {
    throw Error(ErrorCode::kInput, what,
                {.tensor = std::move(tensor),
                 .file = file_,
                 .expected = std::string(expected),
                 .found = fmt::format("{}", found),
                 .fix = "the file is damaged: collect again"});
  }

  std::string file_;
  WeightStore store_;
  size_t read_ = 0;
};

}  // namespace

Statistics read_statistics(const std::filesystem::path& file) { return Reader(file).read(); }

}  // namespace mezzotint
