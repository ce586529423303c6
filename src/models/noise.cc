#include "models/noise.h"

#include <cmath>
#include <numbers>

namespace mezzotint {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53u;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u;  // golden ratio
constexpr uint32_t kWeyl1 = 0xBB67AE85u;  // sqrt(3) - 1
constexpr int kRounds = 10;

double uniform(uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

std::array<float, 4> normals(const std::array<uint32_t, 4>& words) {
  std::array<float, 4> out{};
  for (size_t pair = 0; pair < 4; pair += 2) {
    const double radius = std::sqrt(-2.0 * std::log(uniform(words[pair])));
    const double angle = 2.0 * std::numbers::pi * uniform(words[pair + 1]);
    out[pair] = static_cast<float>(radius * std::cos(angle));
    out[pair + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return out;
}

}  // namespace

std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) noexcept {
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

void fill_noise(uint64_t seed, uint32_t sample, std::span<float> out, uint64_t first) noexcept {
  const std::array<uint32_t, 2> key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  std::array<float, 4> values{};
  for (size_t i = 0; i < out.size(); ++i) {
    const uint64_t index = first + i;
    const uint64_t block = index / 4;
    if (i == 0 || index % 4 == 0) {
      values = normals(philox4x32_10(
          {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), sample, 0}, key));
    }
    out[i] = values[index % 4];
  }
}

}  // namespace mezzotint
