"""The attention calls of testdata/oracle/attention. Inputs and rotations are formulas."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class AttentionCase:
    name: str
    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    sq: int
    skv: int
    kv_length: tuple  # per batch
    scale: float
    rows: tuple  # of q, for which outputs are kept
    rotated: bool  # by the Hadamard matrix, else by the identity


CASES = [
    AttentionCase("rotated_d64", 1, 2, 1, 64, 130, 300, (300,), 0.125, (0, 127, 128, 129), True),
    AttentionCase("tails_d96", 2, 2, 2, 96, 3, 257, (257, 200), 0.1, (2,), False),
]


def hashed(count, seed):
    """count multiples of 1/64 in [-2, 2), which bf16 holds: the top byte of murmur3's finalizer."""
    x = (np.arange(count, dtype=np.uint64) + seed * 0x9E3779B1) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    x ^= x >> 16
    return ((x >> 24).astype(np.float32) - 128) / 64


def inputs_of(case):
    """q, k, v [batch,seq,heads,dim]; channel 3 of k is four times as large."""
    shapes = (
        (case.batch, case.sq, case.heads, case.head_dim),
        (case.batch, case.skv, case.kv_heads, case.head_dim),
        (case.batch, case.skv, case.kv_heads, case.head_dim),
    )
    q, k, v = (hashed(int(np.prod(s)), seed).reshape(s) for seed, s in zip((1, 2, 3), shapes))
    k[..., 3] *= 4
    return q, k, v


def rotation_of(case):
    """[d,d] f32: (-1)^popcount(i & j) / sqrt(d), or the identity."""
    if not case.rotated:
        return np.eye(case.head_dim, dtype=np.float32)
    index = range(case.head_dim)
    ones = np.array([[(i & j).bit_count() for j in index] for i in index])
    return (np.where(ones % 2, -1, 1) / np.sqrt(case.head_dim)).astype(np.float32)
