#include "models/metrics.h"

#include <array>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "mezzotint/error.h"

namespace mezzotint {
namespace {

constexpr int64_t kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kC1 = 0.01 * 0.01;  // (K L)^2 with L = 1
constexpr double kC2 = 0.03 * 0.03;

struct Plane {
  int64_t width = 0;
  int64_t height = 0;
  std::vector<double> values;

  double at(int64_t x, int64_t y) const { return values[static_cast<size_t>(y * width + x)]; }
};

void check_pair(std::span<const Image> a, std::span<const Image> b, int64_t at_least) {
  if (a.size() != b.size() || a.empty()) {
    throw Error(ErrorCode::kUsage, "images to compare",
                {.expected = "as many on both sides, at least one",
                 .found = fmt::format("{} and {}", a.size(), b.size())});
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const bool same =
        a[i].width == b[i].width && a[i].height == b[i].height && a[i].channels == b[i].channels;
    if (same && a[i].width >= at_least && a[i].height >= at_least && a[i].channels >= 1) continue;
    throw Error(ErrorCode::kUsage, fmt::format("image {} to compare", i),
                {.expected = fmt::format("two of one size, at least {0} x {0}", at_least),
                 .found = fmt::format("{} x {} x {} and {} x {} x {}", a[i].width, a[i].height,
                                      a[i].channels, b[i].width, b[i].height, b[i].channels)});
  }
}

int64_t color_channels(const Image& image) { return image.channels < 3 ? 1 : 3; }

double mean_squared_error(const Image& a, const Image& b) {
  const int64_t colors = color_channels(a);
  double sum = 0;
  for (int64_t pixel = 0; pixel < a.pixels(); ++pixel) {
    for (int64_t c = 0; c < colors; ++c) {
      const auto i = static_cast<size_t>(pixel * a.channels + c);
      const double difference = double{a.values[i]} - double{b.values[i]};
      sum += difference * difference;
    }
  }
  return sum / static_cast<double>(a.pixels() * colors);
}

Plane luma(const Image& image) {
  Plane plane{image.width, image.height, {}};
  plane.values.reserve(static_cast<size_t>(image.pixels()));
  for (int64_t pixel = 0; pixel < image.pixels(); ++pixel) {
    const float* v = image.values.data() + pixel * image.channels;
    const bool grey = color_channels(image) == 1;
    plane.values.push_back(
        grey ? double{v[0]} : 0.299 * double{v[0]} + 0.587 * double{v[1]} + 0.114 * double{v[2]});
  }
  return plane;
}

std::array<double, kWindow> gaussian() {
  constexpr int64_t kCentre = kWindow / 2;
  std::array<double, kWindow> weights{};
  double sum = 0;
  for (int64_t i = 0; i < kWindow; ++i) {
    const double x = static_cast<double>(i - kCentre) / kSigma;
    weights[static_cast<size_t>(i)] = std::exp(-0.5 * x * x);
    sum += weights[static_cast<size_t>(i)];
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

struct Moments {
  double a = 0, b = 0, aa = 0, bb = 0, ab = 0;
};

Moments moments_at(const Plane& a, const Plane& b, int64_t left, int64_t top,
                   const std::array<double, kWindow>& weights) {
  Moments m;
  for (int64_t dy = 0; dy < kWindow; ++dy) {
    for (int64_t dx = 0; dx < kWindow; ++dx) {
      const double weight = weights[static_cast<size_t>(dy)] * weights[static_cast<size_t>(dx)];
      const double x = a.at(left + dx, top + dy), y = b.at(left + dx, top + dy);
      m.a += weight * x;
      m.b += weight * y;
      m.aa += weight * x * x;
      m.bb += weight * y * y;
      m.ab += weight * x * y;
    }
  }
  return m;
}

double similarity(const Moments& m) {
  const double variance_a = m.aa - m.a * m.a;
  const double variance_b = m.bb - m.b * m.b;
  const double covariance = m.ab - m.a * m.b;
  return (2 * m.a * m.b + kC1) * (2 * covariance + kC2) /
         ((m.a * m.a + m.b * m.b + kC1) * (variance_a + variance_b + kC2));
}

double ssim_of(const Image& image_a, const Image& image_b) {
  const Plane a = luma(image_a), b = luma(image_b);
  const std::array<double, kWindow> weights = gaussian();
  const int64_t columns = a.width - kWindow + 1, rows = a.height - kWindow + 1;
  double sum = 0;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < columns; ++x) sum += similarity(moments_at(a, b, x, y, weights));
  }
  return sum / static_cast<double>(rows * columns);
}

}  // namespace

double psnr(std::span<const Image> a, std::span<const Image> b) {
  check_pair(a, b, 1);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += mean_squared_error(a[i], b[i]);
  return -10.0 * std::log10(sum / static_cast<double>(a.size()));
}

double ssim(std::span<const Image> a, std::span<const Image> b) {
  check_pair(a, b, kWindow);
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += ssim_of(a[i], b[i]);
  return sum / static_cast<double>(a.size());
}

}  // namespace mezzotint
