"""FP8_DYNAMIC attention in float64: rotate, block-quantize, online softmax in tiles of 256 keys.

exp comes from the decimal module, correctly rounded, so that goldens do not depend on a libm.
"""

import decimal
import math

import numpy as np

from number_formats import E4M3, Ties

E4M3_MAX = np.float32(448)
Q_ROWS = 128  # rows of q that share a scale
KV_ROWS = 256  # of k and v; also keys per tile of the softmax


def block_quantized(x, rows):
    """f32 [s,d] -> e4m3 codes [s,d], scales f32 [ceil(s/rows)]: s = amax / 448, a division."""
    codes = np.zeros(x.shape, dtype=np.uint8)
    scales = []
    for begin in range(0, len(x), rows):
        block = x[begin : begin + rows]
        scale = np.abs(block).max() / E4M3_MAX
        scales.append(scale)
        if scale > 0:
            codes[begin : begin + rows] = E4M3.encode(block / scale, Ties.EVEN)
    return codes, np.array(scales, dtype=np.float32)


def values_of(codes, scales, rows):
    return E4M3.decode(codes) * np.repeat(scales.astype(np.float64), rows)[: len(codes), None]


def exp(values):
    """Of numbers up to 0."""
    context = decimal.Context(prec=30)
    flat = [float(decimal.Decimal(v).exp(context)) for v in np.ravel(values).tolist()]
    return np.array(flat).reshape(np.shape(values))


def dot(a, b):
    """a [d], b [n,d] -> [n], each sum rounded once."""
    return np.array([math.fsum((a * row).tolist()) for row in b])


def softmax_row(scores, v, tile):
    """P of each tile relative to the running maximum, rounded to e4m3; its sum is not rounded.

    scores [n], v [n,d] as tiles of (codes' values, scale).
    """
    largest, total, out = -math.inf, 0.0, np.zeros(v[0][0].shape[1])
    for index, (elements, scale) in enumerate(v):
        part = scores[index * tile : index * tile + len(elements)]
        new = max(largest, part.max())
        p = exp(part - new)
        alpha = float(exp(largest - new)) if largest > -math.inf else 0.0
        rounded = E4M3.decode(E4M3.encode(p, Ties.EVEN))
        total = total * alpha + math.fsum(p.tolist())
        out = out * alpha + scale * dot_columns(rounded, elements)
        largest = new
    return out / total


def dot_columns(p, elements):
    return np.array([math.fsum((p * column).tolist()) for column in elements.T])


def attention_head(q, k, v, rotation, scale, rows):
    """q [sq,d], k, v [skv,d] f32 of one head; y of the chosen rows, and the quantized q, k, v."""
    q, k = ((x.astype(np.float64) @ rotation.astype(np.float64)).astype(np.float32) for x in (q, k))
    quantized = [block_quantized(x, n) for x, n in ((q, Q_ROWS), (k, KV_ROWS), (v, KV_ROWS))]
    (q_codes, q_scales), (k_codes, k_scales), (v_codes, v_scales) = quantized
    q8 = values_of(q_codes, q_scales, Q_ROWS)
    k8 = values_of(k_codes, k_scales, KV_ROWS)
    tiles = [
        (E4M3.decode(v_codes[i * KV_ROWS : (i + 1) * KV_ROWS]), float(s))
        for i, s in enumerate(v_scales)
    ]
    y = [softmax_row(dot(q8[row], k8) * float(scale), tiles, KV_ROWS) for row in rows]
    return np.array(y), quantized


def float_attention_head(q, k, v, scale, rows):
    """The same without any quantization."""
    y = []
    for row in rows:
        scores = dot(q[row].astype(np.float64), k.astype(np.float64)) * float(scale)
        p = exp(scores - scores.max())
        y.append(dot_columns(p, v.astype(np.float64)) / math.fsum(p.tolist()))
    return np.array(y)
