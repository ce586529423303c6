// Rotations of queries and keys for FP8 attention: orthogonal matrices that spread a channel with
// large values over all channels of a head, so that one scale per block of rows fits all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "mezzotint/tensor.h"

namespace mezzotint {

// What quantized files of the format are made with; q and k share one matrix, so scores stay.
inline constexpr uint64_t kRotationSeed = 1234;

// A Hadamard matrix of this order: entries +-1, rows orthogonal; row-major [n,n]. Sylvester
// doubling of a Paley matrix over a prime field (q = n - 1 = 3 mod 4, or q = n / 2 - 1 = 1 mod 4).
// Reaches every multiple of 4 up to 128 but 52, 92, 100 and 116; none for other orders.
std::optional<std::vector<int8_t>> hadamard_matrix(int64_t n);

// R:[head_dim,head_dim] BF16 with R R^T = I but for the rounding of its entries to BF16.
// diag(+-1) H / sqrt(head_dim) where a Hadamard matrix H is known, else the Q of a QR decomposition
// of a Gaussian matrix. Signs and Gaussians come from SplitMix64 started at `seed`: the sign of row
// i is minus when bit 63 of output i is set.
Tensor make_rotation(int64_t head_dim, uint64_t seed);

// R = diag(before) H diag(after) with Sylvester's H of +-1 and `before` of +-1: then x R takes
// n log2 n additions instead of n^2 products.
struct HadamardFactors {
  std::vector<float> before;  // [n]
  std::vector<float> after;   // [n]
};

// Of R:[n,n], row-major, when it is such a product to the last bit and n is a power of two of at
// least 16.
std::optional<HadamardFactors> hadamard_factors(std::span<const float> r, int64_t n);

}  // namespace mezzotint
