// Reads testdata/numerics, what ml_dtypes, gfloat, torch, torchao and upstream's exporter compute
// (tools/goldens/formats.py). For tests only.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mezzotint {

using GoldenJson = nlohmann::json;

inline GoldenJson read_numerics_golden(const std::string& source_dir, const std::string& file) {
  std::ifstream stream(source_dir + "/testdata/numerics/" + file);
  return GoldenJson::parse(stream);
}

// A conversion of floats that are not negative to codes that never fall.
struct Staircase {
  int first;                    // the code of 0
  uint32_t last;                // the float up to which the library was asked
  std::vector<uint32_t> edges;  // the smallest float of code first + 1, first + 2, ...

  int code(uint32_t bits) const {
    const auto edge = std::upper_bound(edges.begin(), edges.end(), bits);
    return first + static_cast<int>(edge - edges.begin());
  }
};

// {"first": code, "last": bits, "runs": [[bits of an edge, step, count], ...]}
inline Staircase read_staircase(const GoldenJson& json) {
  Staircase result{.first = json.at("first"), .last = json.at("last"), .edges = {}};
  for (const GoldenJson& run : json.at("runs")) {
    const uint32_t start = run.at(0);
    const uint32_t step = run.at(1);
    for (uint32_t i = 0; i < run.at(2).get<uint32_t>(); ++i) {
      result.edges.push_back(start + i * step);
    }
  }
  return result;
}

// "0a1b" -> {0x0a, 0x1b}
inline std::vector<uint8_t> read_hexadecimal(std::string_view text) {
  std::vector<uint8_t> result;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    result.push_back(static_cast<uint8_t>(std::stoul(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return result;
}

inline float float_of_bits(uint32_t bits) { return std::bit_cast<float>(bits); }

// The floats of "x", a list of rows in hexadecimal bits.
inline std::vector<float> golden_rows(const GoldenJson& goldens) {
  std::vector<float> x;
  for (const std::string row : goldens.at("x")) {
    for (size_t i = 0; i < row.size(); i += 8) {
      x.push_back(float_of_bits(static_cast<uint32_t>(std::stoul(row.substr(i, 8), nullptr, 16))));
    }
  }
  return x;
}

}  // namespace mezzotint
