// Charts of a report as inline SVG, without script.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mezzotint/report.h"

namespace mezzotint::cli {

enum class PointKind : uint8_t {
  kCurve,   // joined by a line, in the order of x
  kNamed,   // with its label
  kChosen,  // likewise, and it stands out
};

struct ChartPoint {
  std::string label{};
  double x = 0;  // bytes
  double y = 0;  // dB, higher is better
  PointKind kind = PointKind::kNamed;
};

// A quality over bytes; "" with fewer than two points.
std::string size_chart(std::vector<ChartPoint> points, std::string_view y_title);

// The mean error of the outputs over the denoising steps, one line per algorithm; "" where no layer
// has errors per step.
std::string step_chart(const Report& report);

}  // namespace mezzotint::cli
