// How far quantized values are from exact ones: sums over any number of pairs.
#pragma once

#include <cmath>

namespace mezzotint {

struct Difference {
  double signal = 0;   // y^2
  double decoded = 0;  // y'^2
  double product = 0;  // y y'
  double noise = 0;    // (y - y')^2

  void add(double exact, double quantized) {
    signal += exact * exact;
    decoded += quantized * quantized;
    product += exact * quantized;
    noise += (exact - quantized) * (exact - quantized);
  }
  void add(const Difference& other) {
    signal += other.signal;
    decoded += other.decoded;
    product += other.product;
    noise += other.noise;
  }

  // || y - y' ||^2 / || y ||^2; 0 where there is no signal.
  double error() const { return signal > 0 ? noise / signal : 0; }
  // 1 for equal values, 0 where one of the two is all zero.
  double cosine() const {
    if (!(noise > 0)) return 1;
    const double lengths = std::sqrt(signal * decoded);
    return lengths > 0 ? product / lengths : 0;
  }
};

}  // namespace mezzotint
