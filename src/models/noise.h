// Starting noise of a sampler: Philox4x32-10 counters turned into N(0,1) by Box-Muller. The value
// at an index depends on seed, sample and index only, never on the batch. Twin: tools/noise.py.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace mezzotint {

// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): ten rounds.
std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter,
                                      std::array<uint32_t, 2> key) noexcept;

// out[i] for the flat indices first, first + 1, ... of [tokens, channels] of one sample.
// key = seed (low, high word); counter = (i / 4 low, i / 4 high, sample, 0). The four words of a
// counter give two pairs u = (word + 0.5) / 2^32; a pair (u, w) gives sqrt(-2 ln u) cos(2 pi w) and
// sqrt(-2 ln u) sin(2 pi w), in double, rounded to f32.
void fill_noise(uint64_t seed, uint32_t sample, std::span<float> out, uint64_t first = 0) noexcept;

}  // namespace mezzotint
