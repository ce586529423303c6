#include "solve/hadamard.h"

#include <bit>
#include <cmath>
#include <numbers>

#include <Eigen/QR>

#include "base/check.h"
#include "solve/widen.h"

namespace mezzotint {
namespace {

using Signs = std::vector<int8_t>;  // row-major, square

// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014), figure 17.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // N(0,1) by Box and Muller from two outputs u = (bits 63..11 + 0.5) / 2^53.
  double next_normal() {
    const double radius = std::sqrt(-2.0 * std::log(next_uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * next_uniform());
  }

 private:
  double next_uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }

  uint64_t state_;
};

bool is_prime(int64_t n) {
  if (n < 2) return false;
  for (int64_t i = 2; i * i <= n; ++i) {
    if (n % i == 0) return false;
  }
  return true;
}

// chi[a] of the field of q elements: 0 for a = 0, 1 for squares, -1 for the others.
Signs quadratic_character(int64_t q) {
  Signs chi(static_cast<size_t>(q), -1);
  chi[0] = 0;
  for (int64_t a = 1; a < q; ++a) chi[static_cast<size_t>(a * a % q)] = 1;
  return chi;
}

// The conference matrix C:[q+1,q+1] of Paley, "On orthogonal matrices" (1933): zeros on the
// diagonal, C C^T = q I; antisymmetric for q = 3 mod 4, symmetric for q = 1 mod 4.
Signs conference_matrix(int64_t q) {
  const int64_t n = q + 1;
  const Signs chi = quadratic_character(q);
  const auto border = static_cast<int8_t>(q % 4 == 3 ? -1 : 1);
  Signs c(static_cast<size_t>(n * n), 0);
  for (int64_t i = 1; i < n; ++i) {
    c[static_cast<size_t>(i)] = 1;
    c[static_cast<size_t>(i * n)] = border;
    for (int64_t j = 1; j < n; ++j) {
      c[static_cast<size_t>(i * n + j)] = chi[static_cast<size_t>((i - j + q) % q)];
    }
  }
  return c;
}

// I + C, of order q + 1.
Signs paley_one(int64_t q) {
  Signs h = conference_matrix(q);
  for (int64_t i = 0; i <= q; ++i) h[static_cast<size_t>(i * (q + 2))] = 1;
  return h;
}

// C with every c replaced by c [[1,1],[1,-1]] and every zero by [[1,-1],[-1,-1]]; order 2 (q + 1).
Signs paley_two(int64_t q) {
  const int64_t half = q + 1;
  const int64_t n = 2 * half;
  const Signs c = conference_matrix(q);
  Signs h(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const int entry = c[static_cast<size_t>(i / 2 * half + j / 2)];
      const bool both_odd = i % 2 == 1 && j % 2 == 1;
      const bool any_odd = i % 2 == 1 || j % 2 == 1;
      const int sign = entry == 0 ? (any_odd ? -1 : 1) : (both_odd ? -entry : entry);
      h[static_cast<size_t>(i * n + j)] = static_cast<int8_t>(sign);
    }
  }
  return h;
}

// [[H,H],[H,-H]]
Signs sylvester_double(const Signs& h, int64_t n) {
  Signs out(h.size() * 4);
  for (int64_t i = 0; i < 2 * n; ++i) {
    for (int64_t j = 0; j < 2 * n; ++j) {
      const int entry = h[static_cast<size_t>(i % n * n + j % n)];
      const int sign = i >= n && j >= n ? -entry : entry;
      out[static_cast<size_t>(i * 2 * n + j)] = static_cast<int8_t>(sign);
    }
  }
  return out;
}

std::vector<float> signed_hadamard(const Signs& h, int64_t n, SplitMix64& random) {
  const double unit = 1.0 / std::sqrt(static_cast<double>(n));
  std::vector<float> r;
  for (int64_t i = 0; i < n; ++i) {
    const double row = random.next() >> 63 != 0 ? -unit : unit;
    for (int64_t j = 0; j < n; ++j) {
      r.push_back(static_cast<float>(row * h[static_cast<size_t>(i * n + j)]));
    }
  }
  return r;
}

// The signs of R's diagonal are made positive: Q is then the same whatever the library's choice.
std::vector<float> orthogonal_of_gaussian(int64_t n, SplitMix64& random) {
  Eigen::MatrixXd gaussian(n, n);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) gaussian(i, j) = random.next_normal();
  }
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(gaussian);
  const Eigen::MatrixXd q = qr.householderQ();
  std::vector<float> r;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      r.push_back(static_cast<float>(qr.matrixQR()(j, j) < 0 ? -q(i, j) : q(i, j)));
    }
  }
  return r;
}

}  // namespace

std::optional<std::vector<int8_t>> hadamard_matrix(int64_t n) {
  if (n == 1) return Signs{1};
  if (n < 2 || n % 2 != 0) return std::nullopt;
  // First, so that powers of two are Sylvester's matrices, which a fast transform multiplies with.
  if (const auto half = hadamard_matrix(n / 2)) return sylvester_double(*half, n / 2);
  if (n % 4 == 0 && is_prime(n - 1)) return paley_one(n - 1);  // n - 1 = 3 mod 4
  const int64_t q = n / 2 - 1;
  if (q % 4 == 1 && is_prime(q)) return paley_two(q);
  return std::nullopt;
}

std::optional<HadamardFactors> hadamard_factors(std::span<const float> r, int64_t n) {
  const auto size = static_cast<uint64_t>(n);
  MZ_CHECK(r.size() == size * size);
  if (n < 16 || !std::has_single_bit(size)) return std::nullopt;
  HadamardFactors factors;
  for (uint64_t i = 0; i < size; ++i) {  // the first row and column of H are ones
    factors.before.push_back(r[i * size] == r[0] ? 1.0f : -1.0f);
    factors.after.push_back(r[i]);
  }
  for (uint64_t i = 0; i < size; ++i) {
    for (uint64_t j = 0; j < size; ++j) {
      const float entry = factors.before[i] * factors.after[j];
      if (r[i * size + j] != (std::popcount(i & j) % 2 == 0 ? entry : -entry)) return std::nullopt;
    }
  }
  return factors;
}

Tensor make_rotation(int64_t head_dim, uint64_t seed) {
  MZ_CHECK(head_dim > 0);
  SplitMix64 random(seed);
  const auto hadamard = hadamard_matrix(head_dim);
  Tensor rotation = Tensor::allocate(DType::kBF16, {head_dim, head_dim});
  narrow_range(hadamard ? signed_hadamard(*hadamard, head_dim, random)
                        : orthogonal_of_gaussian(head_dim, random),
               rotation, 0);
  return rotation;
}

}  // namespace mezzotint
