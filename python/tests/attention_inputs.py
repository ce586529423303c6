"""Inputs, masks and references of the attention tests."""

import math

import torch
from torch.nn import functional


def hadamard(dim, dtype=torch.bfloat16):
    signs = [[(-1.0) ** bin(i & j).count("1") for j in range(dim)] for i in range(dim)]
    return (torch.tensor(signs) / math.sqrt(dim)).to(dtype)


def heads(*shape, seed=1, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def lengths_mask(lengths, keys, dtype=torch.bool):
    allowed = torch.arange(keys) < torch.tensor(lengths)[:, None]
    allowed = allowed[:, None, None, :]
    if dtype == torch.bool:
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, -math.inf)


def exact(q, k, v, **options):
    wide = [t.double() for t in (q, k, v)]
    return functional.scaled_dot_product_attention(*wide, **options)


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())
