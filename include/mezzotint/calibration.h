// How statistics of activations decide what is written: ExportOptions::calibration.
//
//   options.calibration.statistics = "stats.safetensors";   // of `mezzotint collect`
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace mezzotint {

// The range of static activation scales.
enum class RangeRule : uint8_t {
  kMse,         // the range with the least expected squared error
  kMinMax,      // everything that was seen
  kPercentile,  // without 1e-4 of the values
};

// Scales that move the range of activations into weights (X.div.mul_scale in the file).
enum class Smoothing : uint8_t {
  kSearch,  // the exponents with the least output error, for algorithms that quantize activations
  kNone,    // except AWQ, which is nothing else
};

// Whether weights are rounded one column after another, making up for earlier errors.
enum class ErrorFeedback : uint8_t {
  kByName,  // for the _GPTQ algorithms
  kAlways,  // for every algorithm
};

// Which column error feedback rounds first. Scales of groups are fixed before that in any order, so
// files hold no order.
enum class FeedbackOrder : uint8_t {
  kAuto,      // by energy for int4 with one scale per row, else as stored
  kStored,    // from the first to the last
  kByEnergy,  // columns with large inputs first ("act-order")
};

inline constexpr double kStaticTolerance = 1.1;

struct Calibration {
  std::filesystem::path statistics{};  // empty: none, and nothing below applies
  std::string model{};  // whose statistics they must be; empty: the identity of the source
  RangeRule range = RangeRule::kMse;
  Smoothing smoothing = Smoothing::kSearch;
  ErrorFeedback feedback = ErrorFeedback::kByName;
  FeedbackOrder order = FeedbackOrder::kAuto;
  // W8A8_TIMESTEP: a step is static where its summed error of activations is at most this many
  // times that of one scale per row. Below 1 rarely one is; 0: none.
  double static_tolerance = kStaticTolerance;
};

}  // namespace mezzotint
