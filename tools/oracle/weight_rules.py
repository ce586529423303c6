"""Codes and scales of weights, data-free: by the project's own rules, and by upstream's exporter.

Upstream: msmodelslim 26.1.0 (PyPI), ir/api/impl/int_quantization.py, ir/api/impl/mx_quantization.py
and core/quantizer/impl/dualscale.py.
"""

import numpy as np

from layer_oracle import DUAL_BLOCK, DUAL_RECIPROCAL, MIN_NORMAL, MX_BLOCK, blocks_of, per_block
from number_formats import (
    E2M1,
    E8M0_BIAS,
    Ties,
    e8m0_value,
    floor_log2,
    pack_nibbles,
    round_bf16,
)
from safetensors_bytes import Tensor

E8M0_MAX = 254
INT4_GROUP = 64
DUAL_ZERO_BYTE = 127


# ---- the project's rules -------------------------------------------------------------------------


def int_export(w, largest, group):
    """s = bf16(amax * f32(1/Q)), 1 if that is 0; q = clamp(rne(w / s), -Q, Q).

    Per group of k, or per channel where group does not divide k. Returns codes, scales [n,groups].
    """
    n, k = w.shape
    grouped = w.reshape(n, -1, group) if group and k % group == 0 else w.reshape(n, 1, k)
    amax = np.abs(grouped).max(axis=2)
    scale = round_bf16(amax * (np.float32(1) / np.float32(largest)))
    scale = np.where(scale == 0, np.float32(1), scale)
    codes = np.clip(np.rint(grouped / scale[:, :, None]), -largest, largest)
    return codes.reshape(n, k).astype(np.int8), scale


def best_byte(block, fmt):
    """The byte of floor, floor - 1, floor + 1 with the least squared error; the first of equals.

    The error is summed in float64 in the order of k.
    """
    amax = np.abs(block).max()
    if amax == 0:
        return 0, np.zeros(len(block), dtype=np.uint8)
    floor = int(floor_log2(amax)) - fmt.emax + E8M0_BIAS
    best = None
    for candidate in (floor, floor - 1, floor + 1):
        byte = min(max(candidate, 0), E8M0_MAX)
        scale = float(e8m0_value(byte))
        codes = fmt.encode(block.astype(np.float64) / scale, Ties.EVEN)
        error = 0.0
        for value, code in zip(block.tolist(), fmt.decode(codes).tolist()):
            difference = value - code * scale
            error += difference * difference
        if best is None or error < best[0]:
            best = (error, byte, codes)
    return best[1], best[2]


def mx_export(w, fmt):
    """codes [n,k], bytes [n,ceil(k/32)]"""
    n, k = w.shape
    codes = np.zeros((n, k), dtype=np.uint8)
    scale = np.zeros((n, -(-k // MX_BLOCK)), dtype=np.uint8)
    for row in range(n):
        for b in range(scale.shape[1]):
            part = slice(b * MX_BLOCK, min((b + 1) * MX_BLOCK, k))
            scale[row, b], codes[row, part] = best_byte(w[row, part], fmt)
    return codes, scale


def dual_export(w):
    """d = amax of 512 * f32(1/6), then mx_export of w / d in f32.

    A block of zeros has d = 0, codes 0 and bytes 127. Returns codes, bytes, d [n,ceil(k/512)].
    """
    k = w.shape[1]
    dual = np.abs(blocks_of(w, DUAL_BLOCK)).max(axis=2) * DUAL_RECIPROCAL
    dual = np.where(dual < MIN_NORMAL, np.float32(0), dual)
    zero = per_block(dual, DUAL_BLOCK, k) == 0
    divisor = np.where(zero, np.float32(1), per_block(dual, DUAL_BLOCK, k))
    inner = np.where(zero, np.float32(0), w / divisor)
    assert inner.dtype == np.float32
    codes, scale = mx_export(inner, E2M1)
    zero_block = per_block(dual, DUAL_BLOCK // MX_BLOCK, scale.shape[1]) == 0
    return codes, np.where(zero_block, DUAL_ZERO_BYTE, scale).astype(np.uint8), dual


# ---- upstream's exporter -------------------------------------------------------------------------

FLOAT_EPSILON = np.float32(2.0**-23)
LOG_EPSILON = np.float32(9.6e-7)


def int_upstream(w, bits, symmetric, group, old_exporter=False):
    """Scales at least float's epsilon; the offset is added before rounding. All in f32.

    The exporter divides max and min each, the older one (pytorch/llm_ptq) their difference.
    """
    n, k = w.shape
    grouped = w.reshape(n, -1, group) if group else w.reshape(n, 1, k)
    low = np.minimum(grouped.min(axis=2), np.float32(0))
    high = np.maximum(grouped.max(axis=2), np.float32(0))
    lowest = -(2 ** (bits - 1))
    if symmetric:
        scale = np.maximum(-low, high) / np.float32(-lowest - 1)
        scale = np.maximum(scale, FLOAT_EPSILON)
        offset = np.zeros_like(scale)
    else:
        steps = np.float32(2**bits - 1)
        scale = (high - low) / steps if old_exporter else high / steps - low / steps
        scale = np.maximum(scale, FLOAT_EPSILON)
        offset = np.rint(-low / scale) + np.float32(lowest)
    shifted = grouped / scale[:, :, None] + offset[:, :, None]
    assert shifted.dtype == np.float32
    codes = np.clip(np.rint(shifted), lowest, -lowest - 1).astype(np.int8)
    return codes.reshape(n, k), scale, offset


def _sign_of_zero_dropped(codes, values, fmt):
    """sign(0) is 0 there, so that -0 becomes +0; a small negative value still becomes -0."""
    return np.where(values == 0, 0, codes).astype(np.uint8)


def _log2_is_safe(values):
    """Upstream takes log2 in f32, which errs just below a power of two; goldens stay away."""
    return (values / np.ldexp(1.0, floor_log2(values)) < 2 - 1e-5).all()


def mxfp8_upstream(w, fmt):
    """byte = floor(log2 amax) - 8 + 127; elements half away from zero."""
    blocks = blocks_of(w, MX_BLOCK)
    amax = np.abs(blocks).max(axis=2).astype(np.float64)
    amax = np.where(amax == 0, 2.0**-126, amax)
    assert _log2_is_safe(amax)
    byte = np.clip(floor_log2(amax) - fmt.emax, -127, 127) + E8M0_BIAS
    scaled = blocks.astype(np.float64) / e8m0_value(byte)[:, :, None]
    codes = _sign_of_zero_dropped(fmt.encode(scaled, Ties.AWAY), scaled, fmt)
    return codes.reshape(len(w), -1)[:, : w.shape[1]], byte.astype(np.uint8)


def mxfp4_upstream(w):
    """byte = floor(log2(amax / 0.875 + 9.6e-7)) - 2 + 127, in f32; elements half away from zero."""
    blocks = blocks_of(w, MX_BLOCK)
    amax = np.abs(blocks).max(axis=2)
    raised = amax / np.float32(0.875) + LOG_EPSILON
    assert raised.dtype == np.float32 and _log2_is_safe(raised.astype(np.float64))
    byte = np.clip(floor_log2(raised) - E2M1.emax, -129, 125) + E8M0_BIAS
    scaled = blocks.astype(np.float64) / e8m0_value(byte)[:, :, None]
    codes = _sign_of_zero_dropped(E2M1.encode(scaled, Ties.AWAY), scaled, E2M1)
    return codes.reshape(len(w), -1)[:, : w.shape[1]], byte.astype(np.uint8)


def dual_upstream(w):
    """d = amax of 512 / 6, then mxfp4_upstream of w / d. A block of zeros is 0/0 there: not here."""
    dual = np.abs(blocks_of(w, DUAL_BLOCK)).max(axis=2) / np.float32(6)
    assert (dual > 0).all()
    codes, scale = mxfp4_upstream(w / per_block(dual, DUAL_BLOCK, w.shape[1]))
    return codes, scale, dual


# ---- as tensors of a file ------------------------------------------------------------------------


def int_tensors(codes, scale, offset=None, packed=False):
    weight = Tensor("U8", pack_nibbles(codes, 1)) if packed else Tensor("I8", codes)
    tensors = {"weight": weight, "weight_scale": Tensor("F32", scale)}
    if offset is not None:
        tensors["weight_offset"] = Tensor("F32", offset)
    return tensors


def mx_tensors(codes, scale, packed, dual=None):
    weight = Tensor("U8", pack_nibbles(codes, 1)) if packed else Tensor("F8_E4M3", codes)
    tensors = {"weight": weight, "weight_scale": Tensor("U8", scale)}
    if dual is not None:
        tensors["weight_dual_scale"] = Tensor("F32", dual[:, :, None])
    return tensors
