"""Starting noise of the sampler in numpy: the twin of src/models/noise.cc.

    python tools/noise.py SEED SAMPLE COUNT        prints COUNT values

Philox4x32-10 with key = seed (low, high word) and counter = (i // 4 low, i // 4 high, sample, 0) for
flat index i of [tokens, channels]. The four words of a counter give two pairs u = (word + 0.5) / 2^32;
a pair (u, w) gives sqrt(-2 ln u) cos(2 pi w) and sqrt(-2 ln u) sin(2 pi w), in float64, rounded to
float32.
"""

import sys

import numpy as np

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)


def philox4x32_10(counter, key):
    """counter: four uint64 arrays that hold 32-bit words; key: two ints. Returns four arrays."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> SHIFT) ^ c1 ^ np.uint64(k0),
            product1 & MASK,
            (product0 >> SHIFT) ^ c3 ^ np.uint64(k1),
            product0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def noise(seed, sample, count):
    """float32 [count]: the values at flat indices 0 ... count - 1 of one sample."""
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    zero = np.zeros_like(block)
    counter = (block & MASK, block >> SHIFT, zero + np.uint64(sample), zero)
    words = philox4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32))
    u = [(word.astype(np.float64) + 0.5) * 2.0**-32 for word in words]
    out = np.empty((block.size, 4))
    for pair in (0, 2):
        radius = np.sqrt(-2.0 * np.log(u[pair]))
        angle = 2.0 * np.pi * u[pair + 1]
        out[:, pair], out[:, pair + 1] = radius * np.cos(angle), radius * np.sin(angle)
    return out.reshape(-1)[:count].astype(np.float32)


def main():
    seed, sample, count = (int(argument) for argument in sys.argv[1:4])
    print(", ".join(f"{value!s}f" for value in noise(seed, sample, count)))


if __name__ == "__main__":
    main()
