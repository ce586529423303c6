"""Element formats as tables of their values: e4m3fn, e2m1, e8m0; bf16 and f16 rounding; nibbles.

Codes are found by searching the table of exact midpoints, not by arithmetic on exponents, so that
nothing here resembles an implementation. Sources: OCP 8-bit floating point specification v1.0,
OCP Microscaling formats v1.0.
"""

import enum

import numpy as np


class Ties(enum.Enum):
    EVEN = "even"  # to the even code
    AWAY = "away"  # away from zero


def _magnitudes(exponent_bits, mantissa_bits, bias, count):
    """Values of the codes 0..count-1 without sign."""
    values = []
    for code in range(count):
        exponent, mantissa = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
        one = 1 << mantissa_bits
        if exponent == 0:
            values.append(np.ldexp(float(mantissa), 1 - bias - mantissa_bits))
        else:
            values.append(np.ldexp(float(one + mantissa), exponent - bias - mantissa_bits))
    return np.array(values)


class FloatFormat:
    """A sign-magnitude format without infinities; its largest finite value is its last code."""

    def __init__(self, name, exponent_bits, mantissa_bits, bias, count, emax):
        self.name = name
        self.sign = 1 << (exponent_bits + mantissa_bits)
        self.magnitudes = _magnitudes(exponent_bits, mantissa_bits, bias, count)
        self.midpoints = (self.magnitudes[:-1] + self.magnitudes[1:]) / 2  # exact in float64
        self.emax = emax  # exponent of the largest value

    def decode(self, codes):
        codes = np.asarray(codes, dtype=np.int64)
        magnitude = self.magnitudes[codes & (self.sign - 1)]
        return np.where(codes & self.sign, -magnitude, magnitude)

    def encode(self, values, ties):
        """Saturating; keeps the sign of zero. values: float64, finite."""
        magnitude = np.abs(np.asarray(values, dtype=np.float64))
        assert np.isfinite(magnitude).all()
        code = np.searchsorted(self.midpoints, magnitude, side="left")  # midpoints below value
        tie = magnitude == self.midpoints[np.minimum(code, len(self.midpoints) - 1)]
        up = tie & ((code % 2 == 1) if ties is Ties.EVEN else True)
        code = code + up
        return (code | np.where(np.signbit(values), self.sign, 0)).astype(np.uint8)


E4M3 = FloatFormat("e4m3", 4, 3, 7, 127, emax=8)  # 0x7F is NaN
E2M1 = FloatFormat("e2m1", 2, 1, 1, 8, emax=2)
assert E4M3.magnitudes[-1] == 448 and E4M3.magnitudes[1] == 2.0**-9
assert E2M1.magnitudes.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]

E8M0_BIAS = 127


def e8m0_value(byte):
    """2^(byte - 127), exact in float64; byte 255 is NaN."""
    byte = np.asarray(byte, dtype=np.int64)
    return np.where(byte == 255, np.nan, np.ldexp(1.0, byte - E8M0_BIAS))


def floor_log2(values):
    """Exact floor(log2) of positive floats."""
    _, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    return exponent.astype(np.int64) - 1


def to_bf16_bits(values):
    """f32 -> bits of the nearest bf16, ties to even. Finite input."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16)


def from_bf16_bits(bits):
    return (np.asarray(bits, dtype=np.uint32) << 16).view(np.float32)


def round_bf16(values):
    return from_bf16_bits(to_bf16_bits(values)).reshape(np.shape(values))


def round_f16(values):
    return np.asarray(values, dtype=np.float32).astype(np.float16).astype(np.float32)


def pack_nibbles(codes, axis):
    """[n,k] codes -> uint8 with two per byte along `axis`; the even index in the low nibble."""
    codes = np.moveaxis(np.asarray(codes).astype(np.int64) & 15, axis, -1)
    assert codes.shape[-1] % 2 == 0
    packed = codes[..., 0::2] | codes[..., 1::2] << 4
    return np.ascontiguousarray(np.moveaxis(packed, -1, axis)).astype(np.uint8)


def unpack_nibbles(packed, axis):
    """The codes 0..15 of pack_nibbles."""
    packed = np.moveaxis(np.asarray(packed).view(np.uint8).astype(np.int64), axis, -1)
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return np.moveaxis(both.reshape(*packed.shape[:-1], -1), -1, axis)


def int4_of_nibble(nibble):
    """Two's complement."""
    return np.where(nibble >= 8, nibble - 16, nibble)
