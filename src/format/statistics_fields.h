// The tensors and metadata keys of a file of statistics: one list for reader and writer.
#pragma once

#include <string_view>

#include "format/statistics.h"

namespace mezzotint {

namespace statistics_keys {
inline constexpr const char* kVersion = "mezzotint_stats";
inline constexpr const char* kModel = "model";
inline constexpr const char* kSteps = "steps";
inline constexpr const char* kSigmas = "sigmas";
inline constexpr const char* kTokens = "tokens";
inline constexpr std::string_view kMembersPrefix = "members:";      // + input: one linear a line
inline constexpr std::string_view kAttentionPrefix = "attention:";  // + name: ALGORITHM HEAD_DIM
inline constexpr std::string_view kFactPrefix = "fact:";
}  // namespace statistics_keys

inline constexpr const char* kStatisticsVersion = "1";
inline constexpr std::string_view kCountSuffix = "count";  // I64 [1], InputStatistics::rows

inline constexpr std::string_view kNoiseSuffix = "attention_noise";    // F64 [steps]
inline constexpr std::string_view kSignalSuffix = "attention_signal";  // F64 [steps]

// One tensor of an input.
struct StatisticsField {
  enum class Kind : uint8_t { kChannels, kSteps, kHistogram, kTokens, kTokenRows, kGram };
  std::string_view suffix;
  Tensor InputStatistics::* field;
  DType dtype;
  Kind kind;

  bool required() const { return kind == Kind::kChannels || kind == Kind::kSteps; }
};

inline constexpr StatisticsField kStatisticsFields[] = {
    {"amax", &InputStatistics::amax, DType::kF32, StatisticsField::Kind::kChannels},
    {"mean_abs", &InputStatistics::mean_abs, DType::kF64, StatisticsField::Kind::kChannels},
    {"min", &InputStatistics::min, DType::kF32, StatisticsField::Kind::kSteps},
    {"max", &InputStatistics::max, DType::kF32, StatisticsField::Kind::kSteps},
    {"hist", &InputStatistics::hist, DType::kI64, StatisticsField::Kind::kHistogram},
    {"tokens", &InputStatistics::tokens, DType::kBF16, StatisticsField::Kind::kTokens},
    {"token_keys", &InputStatistics::token_keys, DType::kI64, StatisticsField::Kind::kTokenRows},
    {"token_steps", &InputStatistics::token_steps, DType::kI32, StatisticsField::Kind::kTokenRows},
    {"gram", &InputStatistics::gram, DType::kF32, StatisticsField::Kind::kGram}};

}  // namespace mezzotint
