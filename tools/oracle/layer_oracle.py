"""y = linear(x) of a quantized layer, from the tensors of its file.

x is widened to f32 and multiplied by mul_scale in f32; activations are quantized in f32 by the rule
of the algorithm; everything after that is float64, every sum exactly rounded (math.fsum), so the
result depends on no library and no order.
"""

import dataclasses
import math

import numpy as np

from number_formats import (
    E2M1,
    E4M3,
    E8M0_BIAS,
    Ties,
    e8m0_value,
    floor_log2,
    from_bf16_bits,
    int4_of_nibble,
    unpack_nibbles,
)

MX_BLOCK = 32
DUAL_BLOCK = 512
DUAL_RECIPROCAL = np.array(0x3E2AAAAB, dtype=np.uint32).view(np.float32)  # f32(1/6)
MIN_NORMAL = np.float32(2.0**-126)

INT4_WEIGHTS = {"W4A16", "W4A16_AWQ", "W4A16_GPTQ", "W4A8_AWQ", "W4A4_DYNAMIC"}
FLOAT_ACTIVATIONS = {"W8A16", "W4A16", "W4A16_AWQ", "W8A16_GPTQ", "W4A16_GPTQ"}
FP4 = {"W4A4_MXFP4", "W4A4_MXFP4_DUALSCALE"}
MX = FP4 | {"W8A8_MXFP8"}


def base_label(label):
    """Upstream's exporter marks low-rank layers: L becomes L_SVD, L_DYNAMIC L_SVD_DYNAMIC."""
    return label.removesuffix("_SVD").replace("_SVD_DYNAMIC", "_DYNAMIC")


def floats(tensor):
    """Any stored float as f32. I64 holds the bits of a float in its low half."""
    if tensor.dtype == "BF16":
        return from_bf16_bits(tensor.array)
    if tensor.dtype == "I64":
        return (tensor.array & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    return tensor.array.astype(np.float32)


class Layer:
    """The tensors of layer `l`; smoothed layers keep theirs under `l.linear`."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.prefix = "l.linear" if "l.div.mul_scale" in tensors else "l"

    def get(self, suffix):
        return self.tensors.get(f"{self.prefix}.{suffix}")

    def outer(self, suffix):
        return self.tensors.get(f"l.{suffix}")

    def bias(self, n):
        bias = self.get("bias")
        return np.zeros(n) if bias is None else floats(bias).astype(np.float64)


# ---- weights -------------------------------------------------------------------------------------


def int_codes(layer, algorithm, n, k):
    weight = layer.get("weight").array
    if weight.shape == (n, k):
        codes = weight.astype(np.int64)
    else:
        assert algorithm in INT4_WEIGHTS
        axis = {(n, k // 2): 1, (n // 2, k): 0}[weight.shape]
        codes = int4_of_nibble(unpack_nibbles(weight, axis))
    assert algorithm not in INT4_WEIGHTS or (codes.min() >= -8 and codes.max() <= 7)
    return codes


def per_element(values, n, k):
    """[n,k] from one value per layer, per channel ([n], [n,1], [1,n]) or per group [n,k/g]."""
    if values.size == 1:
        return np.full((n, k), values.reshape(-1)[0])
    if values.size == n:
        return np.repeat(values.reshape(n, 1), k, axis=1)
    groups = values.shape[1]
    assert values.shape == (n, groups) and k % groups == 0
    return np.repeat(values, k // groups, axis=1)


def int_weight(layer, algorithm, n, k):
    scale = per_element(floats(layer.get("weight_scale")), n, k).astype(np.float64)
    codes = int_codes(layer, algorithm, n, k).astype(np.float64)
    offset = layer.get("weight_offset")
    if offset is not None:
        codes = codes - per_element(floats(offset), n, k).astype(np.float64)
    return codes * scale


def per_block(values, block, k):
    return np.repeat(values, block, axis=-1)[..., :k]


def mx_weight(layer, algorithm, k):
    weight = layer.get("weight")
    if algorithm in FP4 and weight.dtype == "U8":
        elements = E2M1.decode(unpack_nibbles(weight.array, 1))
    else:
        assert weight.dtype == "F8_E4M3"
        elements = E4M3.decode(weight.array)
        if algorithm in FP4:
            assert np.isin(np.abs(elements), E2M1.magnitudes).all()
    w = elements * per_block(e8m0_value(layer.get("weight_scale").array), MX_BLOCK, k)
    dual = layer.get("weight_dual_scale")
    if dual is not None:
        factor = per_block(dual.array[..., 0].astype(np.float64), DUAL_BLOCK, k)
        w = np.where(factor == 0, 0.0, w * factor)
    return w


# ---- activations ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Activation:
    values: np.ndarray  # [m,k] float64, what the codes stand for
    codes: np.ndarray | None = None  # [m,k] int8, or uint8 for MX
    scale: np.ndarray | None = None  # [m] f32, or [m,k/32] uint8
    dual: np.ndarray | None = None  # [m,k/512] f32


def per_token(x, largest):
    """s = amax * f32(1/Q), q = rne(x / s); a row of zeros has s = 0 and codes 0."""
    amax = np.abs(x).max(axis=1)
    scale = amax * (np.float32(1) / np.float32(largest))
    assert scale.dtype == np.float32
    divisor = np.where(scale == 0, np.float32(1), scale)[:, None]
    codes = np.clip(np.rint(x / divisor), -largest, largest)
    codes = np.where(scale[:, None] == 0, 0, codes).astype(np.int8)
    return Activation(codes.astype(np.float64) * scale.astype(np.float64)[:, None], codes, scale)


def static_codes(x, scale, offset):
    """q = clamp(rne(x / s + offset), -128, 127), the offset added before rounding, all in f32."""
    shifted = x / np.float32(scale) + np.float32(offset)
    assert shifted.dtype == np.float32
    return np.clip(np.rint(shifted), -128, 127).astype(np.int8)


def blocks_of(x, block):
    """[m,k] -> [m,ceil(k/block),block], padded with zeros."""
    m, k = x.shape
    padded = np.zeros((m, -(-k // block) * block), dtype=x.dtype)
    padded[:, :k] = x
    return padded.reshape(m, -1, block)


def microscaled(x, fmt):
    """Scale byte = floor(log2 amax) - emax + 127; elements half to even, saturating.

    A block below 2^(emax - 126) has byte 0 and codes 0. Returns codes [m,k], bytes [m,ceil(k/32)].
    """
    blocks = blocks_of(x, MX_BLOCK)
    amax = np.abs(blocks).max(axis=2)
    tiny = amax < np.ldexp(1.0, fmt.emax - 126)
    byte = floor_log2(np.where(tiny, 1, amax)) - fmt.emax + E8M0_BIAS
    byte = np.where(tiny, 0, byte)
    assert byte.min() >= 0 and byte.max() <= 254
    scaled = blocks.astype(np.float64) / e8m0_value(byte)[:, :, None]
    codes = np.where(tiny[:, :, None], 0, fmt.encode(scaled, Ties.EVEN))
    return codes.reshape(len(x), -1)[:, : x.shape[1]].astype(np.uint8), byte.astype(np.uint8)


def mx_activation(x, fmt):
    codes, byte = microscaled(x, fmt)
    values = fmt.decode(codes) * per_block(e8m0_value(byte), MX_BLOCK, x.shape[1])
    return Activation(values, codes, byte)


def dual_activation(x):
    """d = amax of 512 * f32(1/6), then microscaled(x / d); d below 2^-126 counts as 0."""
    k = x.shape[1]
    dual = np.abs(blocks_of(x, DUAL_BLOCK)).max(axis=2) * DUAL_RECIPROCAL
    assert dual.dtype == np.float32
    dual = np.where(dual < MIN_NORMAL, np.float32(0), dual)
    divisor = per_block(np.where(dual == 0, np.float32(1), dual), DUAL_BLOCK, k)
    inner = np.where(per_block(dual, DUAL_BLOCK, k) == 0, np.float32(0), x / divisor)
    result = mx_activation(inner, E2M1)
    result.values = result.values * per_block(dual.astype(np.float64), DUAL_BLOCK, k)
    result.dual = dual
    return result


def quantized_input(x, algorithm):
    if algorithm in FLOAT_ACTIVATIONS:
        return Activation(x.astype(np.float64))
    if algorithm == "W8A8_MXFP8":
        return mx_activation(x, E4M3)
    if algorithm == "W4A4_MXFP4_DUALSCALE":
        return dual_activation(x)
    if algorithm in MX:
        return mx_activation(x, E2M1)
    return per_token(x, 7 if algorithm == "W4A4_DYNAMIC" else 127)


# ---- the product ---------------------------------------------------------------------------------


def exact_matmul(a, b):
    """a [m,k] b [n,k] -> sum_k and sum_k of magnitudes, each rounded once."""
    total = np.empty((len(a), len(b)))
    magnitude = np.empty_like(total)
    for i, row in enumerate(a):
        for j, column in enumerate(b):
            products = (row * column).tolist()
            total[i, j] = math.fsum(products)
            magnitude[i, j] = math.fsum(map(abs, products))
    return total, magnitude


@dataclasses.dataclass
class Output:
    y: np.ndarray  # [m,n] float64
    bound: np.ndarray  # [m,n] sum_k |x w| of the quantized operands with their scales
    bound_lowrank: np.ndarray | None  # [m,n] sum_r sum_k |x l1 l2|
    x: Activation


def static_linear(layer, x, n, step):
    row = 0 if step is None else step
    rows = layer.get("input_scale").array.size
    scale = floats(layer.get("input_scale")).reshape(rows)[row]
    offset = floats(layer.get("input_offset")).reshape(rows)[row]
    deq = floats(layer.get("deq_scale")).reshape(rows, -1)[row].astype(np.float64)
    quant_bias = layer.get("quant_bias").array.reshape(rows, n)[row].astype(np.float64)
    codes = static_codes(x, scale, offset)
    w = layer.get("weight").array.astype(np.float64)
    total, magnitude = exact_matmul(codes.astype(np.float64), w)
    return Output((total + quant_bias) * deq, magnitude * deq, None, Activation(None, codes))


def low_rank(layer, raw, smoothed):
    """l1, l2 [r,k], [n,r] and the input of their branch.

    Factors of a smoothed weight stand beside `l.linear` and read the smoothed input. Where upstream
    decomposed first and smoothed the rest, they stand below it and fit the raw input only.
    """
    for get, x in ((layer.outer, smoothed), (layer.get, raw)):
        if get("svd_lowrank_l1") is not None:
            l1, l2 = get("svd_lowrank_l1"), get("svd_lowrank_l2")
            return floats(l1).astype(np.float64), floats(l2).astype(np.float64), x
    return None, None, None


def linear(tensors, label, activation, step, n, x):
    """x: f32 [m,k]; activation: "float", "dynamic" or "static"; step: row of W8A8_TIMESTEP."""
    algorithm = base_label(label)
    layer = Layer(tensors)
    k = x.shape[1]
    raw = x
    smooth = layer.outer("div.mul_scale")
    if smooth is not None:
        x = x * floats(smooth).reshape(1, k)
    assert x.dtype == np.float32
    if activation == "static":
        return static_linear(layer, x, n, step)
    is_mx = algorithm in MX
    w = mx_weight(layer, algorithm, k) if is_mx else int_weight(layer, algorithm, n, k)
    quantized = quantized_input(x, algorithm)
    y, bound = exact_matmul(quantized.values, w)
    bound_lowrank = None
    l1, l2, branch_input = low_rank(layer, raw, x)
    if l1 is not None:
        h, h_magnitude = exact_matmul(branch_input.astype(np.float64), l1)
        branch, _ = exact_matmul(h, l2)
        _, bound_lowrank = exact_matmul(h_magnitude, l2)
        y = y + branch
    return Output(y + layer.bias(n), bound, bound_lowrank, quantized)
