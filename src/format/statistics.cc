#include "format/statistics.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "format/content_hash.h"
#include "format/statistics_fields.h"
#include "mezzotint/weights.h"

namespace mezzotint {

const InputStatistics* Statistics::find(std::string_view name) const {
  const auto it = std::ranges::find(inputs, name, &InputStatistics::name);
  return it == inputs.end() ? nullptr : &*it;
}

const InputStatistics* Statistics::of_linear(std::string_view linear) const {
  for (const InputStatistics& input : inputs) {
    if (std::ranges::find(input.members, linear) != input.members.end()) return &input;
  }
  return nullptr;
}

const AttentionStatistics* Statistics::of_attention(std::string_view name) const {
  const auto it = std::ranges::find(attentions, name, &AttentionStatistics::name);
  return it == attentions.end() ? nullptr : &*it;
}

double AttentionStatistics::error() const {
  double all_noise = 0, all_signal = 0;
  for (int64_t t = 0; t < signal.size(); ++t) {
    all_noise += noise.data<double>()[t];
    all_signal += signal.data<double>()[t];
  }
  return all_signal > 0 ? all_noise / all_signal : 0;
}

std::vector<double> AttentionStatistics::step_errors() const {
  std::vector<double> errors;
  for (int64_t t = 0; t < signal.size(); ++t) {
    const double energy = signal.data<double>()[t];
    errors.push_back(energy > 0 ? noise.data<double>()[t] / energy : -1.0);
  }
  return errors;
}

int64_t token_key(std::string_view input, int64_t row) noexcept {
  uint64_t z = hash_bytes(std::as_bytes(std::span(input))).low + static_cast<uint64_t>(row);
  z *= 0x9e3779b97f4a7c15u;  // SplitMix64's mixing function
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<int64_t>((z ^ (z >> 31)) >> 1);
}

void write_statistics(const std::filesystem::path& file, const Statistics& statistics) {
  WriterOptions options;
  options.metadata = {
      {statistics_keys::kVersion, kStatisticsVersion},
      {statistics_keys::kModel, statistics.model},
      {statistics_keys::kSteps, std::to_string(statistics.steps)},
      {statistics_keys::kSigmas, fmt::format("{}", fmt::join(statistics.sigmas, ","))},
      {statistics_keys::kTokens, std::to_string(statistics.token_limit)}};
  for (const auto& [key, value] : statistics.facts) {
    options.metadata[std::string(statistics_keys::kFactPrefix) + key] = value;
  }
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const InputStatistics& input : statistics.inputs) {
    options.metadata[std::string(statistics_keys::kMembersPrefix) + input.name] =
        fmt::format("{}", fmt::join(input.members, "\n"));
    tensors.emplace_back(fmt::format("{}.{}", input.name, kCountSuffix),
                         Tensor::copy_of<int64_t>(std::array{input.rows}, {1}));
    for (const StatisticsField& field : kStatisticsFields) {
      const Tensor& tensor = input.*field.field;
      if (!tensor.empty())
        tensors.emplace_back(fmt::format("{}.{}", input.name, field.suffix), tensor);
    }
  }
  for (const AttentionStatistics& attention : statistics.attentions) {
    options.metadata[std::string(statistics_keys::kAttentionPrefix) + attention.name] =
        fmt::format("{} {}", attention.algorithm, attention.head_dim);
    tensors.emplace_back(fmt::format("{}.{}", attention.name, kNoiseSuffix), attention.noise);
    tensors.emplace_back(fmt::format("{}.{}", attention.name, kSignalSuffix), attention.signal);
  }
  std::vector<TensorPlan> plan;
  for (const auto& [name, tensor] : tensors) {
    plan.push_back({.name = name, .dtype = tensor.dtype(), .shape = tensor.shape()});
  }
  Writer writer(file, std::move(plan), std::move(options));
  for (const auto& [name, tensor] : tensors) writer.put(name, tensor);
  writer.finish();
}

}  // namespace mezzotint
