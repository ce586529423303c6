"""The weights of testdata/oracle/weights: float weights and what each rule makes of them."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from number_formats import E2M1, E4M3
from random_tensors import Random
from weight_rules import (
    INT4_GROUP,
    dual_export,
    dual_upstream,
    int_export,
    int_tensors,
    int_upstream,
    mx_export,
    mx_tensors,
    mxfp4_upstream,
    mxfp8_upstream,
)


@dataclasses.dataclass(frozen=True)
class WeightCase:
    name: str
    algorithm: str
    rule: str  # "export": the project's; "upstream": the exporter's
    n: int
    k: int
    quantize: Callable
    edges: bool = True  # rows with zeros, denormals, extreme values


def weights(case):
    """f32 [n,k]: normal rows; an outlier; exact ties; then, with edges, zeros and extremes."""
    random = Random("w " + case.name)
    w = random.normal((case.n, case.k)) / 16
    w[1, case.k // 3] *= 1000
    # Multiples of 1/2 below 127, or of 1/4 below 7: s = 1 for int8, or int4, and ties.
    largest = 7 if case.algorithm.startswith("W4") else 127
    w[2] = np.clip(random.integers(-2 * largest, 2 * largest + 1, case.k) / 2, -largest, largest)
    w[2, 0] = largest
    if case.edges:
        w[3, : min(case.k, 512)] = 0
        w[3, 1] = np.float32(-0.0)
        w[4] = np.ldexp(random.normal((case.k,)), -124)  # scales near the smallest
        w[4, :8] = np.float32(1e-45)
        w[5] = np.ldexp(random.normal((case.k,)), 120)
        w[6, 0], w[6, 1:] = 1, np.float32(-1e-6)  # the rest rounds to -0 in its block
    return w


def _int(largest, group=0, packed=False, w=None):
    codes, scale = int_export(w, largest, group)
    return int_tensors(codes, scale, packed=packed)


def _mxfp8(w):
    return mx_tensors(*mx_export(w, E4M3), packed=False)


def _mxfp4(w):
    return mx_tensors(*mx_export(w, E2M1), packed=True)


def _dual(w):
    codes, scale, dual = dual_export(w)
    return mx_tensors(codes, scale, packed=True, dual=dual)


def _int_upstream(bits, symmetric, group, w):
    return int_tensors(*int_upstream(w, bits, symmetric, group))


def _mxfp8_upstream(w):
    return mx_tensors(*mxfp8_upstream(w, E4M3), packed=False)


def _mxfp4_upstream(w):
    return mx_tensors(*mxfp4_upstream(w), packed=True)


def _dual_upstream(w):
    codes, scale, dual = dual_upstream(w)
    return mx_tensors(codes, scale, packed=True, dual=dual)


def _bind(function, *arguments, **named):
    return lambda w: functools.partial(function, *arguments, **named)(w=w)


WEIGHT_CASES = [
    WeightCase("int8", "W8A8_DYNAMIC", "export", 7, 40, _bind(_int, 127)),
    WeightCase("int4_channel", "W4A16", "export", 7, 40, _bind(_int, 7, INT4_GROUP, True)),
    WeightCase("int4_group64", "W4A16", "export", 7, 128, _bind(_int, 7, INT4_GROUP, True)),
    WeightCase("mxfp8", "W8A8_MXFP8", "export", 9, 64, _mxfp8),
    WeightCase("mxfp8_k40", "W8A8_MXFP8", "export", 7, 40, _mxfp8),
    WeightCase("mxfp4", "W4A4_MXFP4", "export", 9, 96, _mxfp4),
    WeightCase("mxfp4_k34", "W4A4_MXFP4", "export", 7, 34, _mxfp4),
    WeightCase("dual", "W4A4_MXFP4_DUALSCALE", "export", 7, 544, _dual),
    WeightCase("dual_k64", "W4A4_MXFP4_DUALSCALE", "export", 7, 64, _dual),
    WeightCase("upstream_int8", "W8A16", "upstream", 7, 40, _bind(_int_upstream, 8, True, 0)),
    WeightCase("upstream_int8_asymmetric", "W8A16", "upstream", 7, 64,
               _bind(_int_upstream, 8, False, 32)),
    WeightCase("upstream_int4", "W4A4_DYNAMIC", "upstream", 7, 40, _bind(_int_upstream, 4, True, 0)),
    WeightCase("upstream_int4_asymmetric", "W4A16", "upstream", 7, 128,
               _bind(_int_upstream, 4, False, 64)),
    WeightCase("upstream_mxfp8", "W8A8_MXFP8", "upstream", 5, 72, _mxfp8_upstream, edges=False),
    WeightCase("upstream_mxfp4", "W4A4_MXFP4", "upstream", 5, 96, _mxfp4_upstream, edges=False),
    WeightCase("upstream_dual", "W4A4_MXFP4_DUALSCALE", "upstream", 3, 544, _dual_upstream,
               edges=False),
]  # fmt: skip
