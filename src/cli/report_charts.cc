#include "cli/report_charts.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "cli/report_page.h"
#include "cli/text.h"

namespace mezzotint::cli {
namespace {

constexpr double kWidth = 720, kHeight = 280;
constexpr double kLeft = 56, kRight = 24, kTop = 30, kBottom = 40;
constexpr int kTicks = 4;
constexpr int kColors = 5;  // classes c0 ... of report_assets.cc

struct Range {
  double low = 0, high = 1;

  // With some air; never empty.
  static Range around(const std::vector<double>& values) {
    const auto [low, high] = std::ranges::minmax_element(values);
    const double air = std::max((*high - *low) * 0.06, 1e-9 + std::abs(*high) * 1e-3);
    return {*low - air, *high + air};
  }
  double share(double v) const { return (v - low) / (high - low); }
};

class Plot {
 public:
  Plot(Range x, Range y, std::string_view y_title) : x_(x), y_(y) {
    svg_ = fmt::format(
        "<svg class=\"chart\" viewBox=\"0 0 {:g} {:g}\" role=\"img\" aria-label=\"{}\">", kWidth,
        kHeight, html_escaped(y_title));
    for (int i = 0; i <= kTicks; ++i) {
      const double v = y.low + (y.high - y.low) * i / kTicks;
      svg_ += fmt::format(
          "<path class=\"grid-line\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>"
          "<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"end\">{:.1f}</text>",
          kLeft, down(v), kWidth - kRight, kLeft - 6, down(v) + 4, v);
    }
    svg_ += fmt::format("<text x=\"4\" y=\"{:.1f}\">{}</text>", kTop - 14, html_escaped(y_title));
  }

  double across(double v) const { return kLeft + x_.share(v) * (kWidth - kLeft - kRight); }
  double down(double v) const {
    return kHeight - kBottom - y_.share(v) * (kHeight - kTop - kBottom);
  }

  void x_label(double v, std::string_view text) {
    svg_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"mid\">{}</text>", across(v),
                        kHeight - kBottom + 18, html_escaped(text));
  }
  void x_title(std::string_view text) {
    svg_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"mid\">{}</text>", kWidth / 2,
                        kHeight - 6, html_escaped(text));
  }
  void line(const std::vector<std::pair<double, double>>& points, std::string_view classes) {
    std::string path;
    for (const auto& [x, y] : points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", across(x), down(y));
    }
    svg_ += fmt::format("<path class=\"curve {}\" d=\"{}\"/>", classes, path);
  }
  void dot(double x, double y, std::string_view label, std::string_view title,
           std::string_view classes) {
    svg_ += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"><title>{}</title></circle>",
        classes, across(x), down(y), html_escaped(title));
    const bool right_half = x_.share(x) > 0.7;
    svg_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>",
                        across(x) + (right_half ? -9 : 9), down(y) + 4, right_half ? "end" : "",
                        html_escaped(label));
  }
  std::string svg() && { return std::move(svg_) + "</svg>"; }

 private:
  Range x_, y_;
  std::string svg_;
};

// The mean over the layers of each algorithm: by step, in dB; steps that were not seen are left
// out.
using StepLines = std::map<std::string, std::vector<std::pair<double, double>>>;

StepLines step_lines(const Report& report) {
  struct Mean {
    double sum = 0;
    int64_t count = 0;
  };
  std::map<std::string, std::map<size_t, Mean>> means;
  for (const LayerReport& layer : report.layers) {
    for (size_t step = 0; step < layer.step_errors.size(); ++step) {
      if (layer.step_errors[step] < 0) continue;
      Mean& mean = means[layer.algorithm][step];
      mean.sum += layer.step_errors[step];
      ++mean.count;
    }
  }
  StepLines lines;
  for (const auto& [algorithm, steps] : means) {
    for (const auto& [step, mean] : steps) {
      if (mean.sum <= 0) continue;
      lines[algorithm].emplace_back(static_cast<double>(step),
                                    -10 * std::log10(mean.sum / static_cast<double>(mean.count)));
    }
  }
  return lines;
}

std::string legend(const StepLines& lines) {
  std::string html = "<div class=\"legend\">";
  int color = 0;
  for (const auto& [algorithm, points] : lines) {
    html +=
        fmt::format("<span class=\"c{}\">{}</span>", color++ % kColors, html_escaped(algorithm));
  }
  return html + "</div>";
}

}  // namespace

std::string size_chart(std::vector<ChartPoint> points, std::string_view y_title) {
  if (points.size() < 2) return "";
  std::ranges::sort(points, {}, &ChartPoint::x);
  std::vector<double> xs, ys;
  std::vector<std::pair<double, double>> curve;
  for (const ChartPoint& point : points) {
    xs.push_back(point.x);
    ys.push_back(point.y);
    if (point.kind == PointKind::kCurve) curve.emplace_back(point.x, point.y);
  }
  const Range x = Range::around(xs);
  Plot plot(x, Range::around(ys), y_title);
  for (int i = 0; i <= kTicks; ++i) {
    const double v = x.low + (x.high - x.low) * i / kTicks;
    plot.x_label(v, human_bytes(static_cast<int64_t>(std::max(v, 0.0))));
  }
  if (!curve.empty()) plot.line(curve, "c0");
  for (const ChartPoint& point : points) {
    if (point.kind == PointKind::kCurve) continue;
    plot.dot(point.x, point.y, point.label,
             fmt::format("{}: {}, {:.1f} dB", point.label,
                         human_bytes(static_cast<int64_t>(point.x)), point.y),
             point.kind == PointKind::kChosen ? "chosen" : "dot");
  }
  return "<div class=\"card\">" + std::move(plot).svg() + "</div>";
}

std::string step_chart(const Report& report) {
  const StepLines lines = step_lines(report);
  std::vector<double> xs, ys;
  for (const auto& [algorithm, points] : lines) {
    for (const auto& [x, y] : points) {
      xs.push_back(x);
      ys.push_back(y);
    }
  }
  if (xs.empty()) return "";
  const Range x = Range::around(xs);
  Plot plot(x, Range::around(ys), "output SQNR dB");
  const auto last = static_cast<int>(*std::ranges::max_element(xs));
  for (int step = 0; step <= last; step += std::max(1, last / 10)) {
    plot.x_label(step, std::to_string(step));
  }
  plot.x_title("denoising step");
  int color = 0;
  for (const auto& [algorithm, points] : lines) {
    plot.line(points, fmt::format("c{}", color++ % kColors));
  }
  return "<h3>Error per denoising step, mean over the layers</h3>" + legend(lines) +
         std::move(plot).svg();
}

}  // namespace mezzotint::cli
