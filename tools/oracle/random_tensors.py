"""Seeded inputs without a call of libm: the same bits on every machine."""

import zlib

import numpy as np

from number_formats import round_bf16, round_f16, to_bf16_bits
from safetensors_bytes import Tensor


class Random:
    def __init__(self, name):
        self.state = np.random.RandomState(zlib.crc32(name.encode()))

    def integers(self, low, high, shape):
        """Of [low, high)."""
        return self.state.randint(low, high, size=shape)

    def normal(self, shape):
        """f32, mean 0, variance 1: twelve uniform values less six, multiples of 2^-16."""
        total = self.integers(0, 65536, (12, *shape)).sum(axis=0) - 6 * 65535
        return (total / 65536).astype(np.float32)

    def uniform(self, low, high, shape):
        share = self.integers(0, 65536, shape) / 65536
        return (low + (high - low) * share).astype(np.float32)


def float_tensor(values, dtype):
    """Rounds f32 values to the stored type."""
    values = np.asarray(values, dtype=np.float32)
    if dtype == "BF16":
        return Tensor("BF16", to_bf16_bits(values).reshape(values.shape))
    if dtype == "F16":
        return Tensor("F16", round_f16(values).astype(np.float16))
    assert dtype == "F32"
    return Tensor("F32", values)


def input_rows(random, m, k):
    """f32 [m,k]: normal rows; row 1 with outliers and exact ties, row 2 tiny.

    Row 1 holds multiples of 1/2 and one 127, so that s = 1 for int8 and half of the codes are ties.
    """
    x = random.normal((m, k))
    if m > 1:
        x[1] = np.rint(x[1] * 8) / 2
        x[1, k // 2] = 127
    if m > 2:
        x[2] *= np.float32(2.0**-12)
    return x


def rounded_to_bf16(x):
    return round_bf16(x)
