"""The layers of testdata/oracle/layers: random tensors under the names that upstream's files use."""

import dataclasses

import numpy as np

from layer_oracle import (
    DUAL_BLOCK,
    FLOAT_ACTIVATIONS,
    INT4_WEIGHTS,
    MX,
    MX_BLOCK,
    base_label,
    floats,
)
from number_formats import E2M1, E4M3, Ties, pack_nibbles
from random_tensors import Random, float_tensor
from safetensors_bytes import Tensor

STATIC = {"W8A8", "W8A8_PER_CHANNEL", "W8A8_PER_TENSOR", "W8A8_PER_CHANNEL_PER_TENSOR"}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    algorithm: str
    n: int
    k: int
    m: int = 2
    activation: str = ""  # empty: what the label says
    step: int | None = None
    seed: str = ""  # empty: the name; cases of equal seed hold the same layer
    layout: str = "unpacked"  # int4: or packed_k, packed_n; e2m1: packed_k or values
    weight_dtype: str = ""  # of packed int4: U8 or I8
    scale_shape: str = "n1"  # n, n1, 1n, 1, 11
    group: int = 0
    scale: str = "F32"
    offset: str = ""  # empty: none; zero; random
    bias: str = ""  # empty: none; a dtype
    smooth: str = ""
    steps: int = 1  # rows of static activation tensors
    input_scale: str = "F32"
    deq: str = "F32"  # or I64
    deq_one: bool = False  # one value for all channels
    rank: int = 0
    edges: bool = False  # MX: zero blocks, dual 0; int: channels of 0, of -128; static: scale 1
    zero_row: bool = False  # x: its last row is zero

    @property
    def mode(self):
        if self.activation:
            return self.activation
        if self.algorithm in FLOAT_ACTIVATIONS:
            return "float"
        return "static" if self.algorithm in STATIC else "dynamic"


def _scale_shape(case):
    n = case.n
    if case.group:
        assert case.k % case.group == 0
        return (n, case.k // case.group)
    return {"n": (n,), "n1": (n, 1), "1n": (1, n), "1": (1,), "11": (1, 1)}[case.scale_shape]


def _int_weight(case, random):
    n, k = case.n, case.k
    low, high = (-8, 7) if case.algorithm in INT4_WEIGHTS else (-128, 127)
    codes = random.integers(low, high + 1, (n, k))
    codes[0, :4] = [low, high, low, 0]
    if case.edges:
        codes[1], codes[2] = 0, low
    if case.layout == "unpacked":
        return Tensor("I8", codes.astype(np.int8))
    packed = pack_nibbles(codes, {"packed_k": 1, "packed_n": 0}[case.layout])
    if case.weight_dtype == "I8":
        return Tensor("I8", packed.view(np.int8))
    return Tensor("U8", packed)


def _int_tensors(case, random):
    shape = _scale_shape(case)
    tensors = {"weight": _int_weight(case, random)}
    scale = float_tensor(random.uniform(0.001, 0.02, shape), case.scale)
    if case.mode != "static" or case.steps > 1:
        tensors["weight_scale"] = scale
    if case.offset:
        limit = 5 if case.algorithm in INT4_WEIGHTS else 40
        values = random.integers(-limit, limit + 1, shape) * (case.offset == "random")
        tensors["weight_offset"] = float_tensor(values, case.scale)
    return tensors, scale


def _static_tensors(case, random, tensors, weight_scale):
    """input_scale, input_offset [T,1] or [1]; deq_scale, quant_bias [T,N] or [N], as exported."""
    t, n = case.steps, case.n
    step_shape = (t, 1) if t > 1 else (1,)
    # Scale 1 gives ties; the first offset is odd, so that they round otherwise than without it.
    values = np.ones(step_shape) if case.edges else random.uniform(0.02, 0.05, step_shape)
    scale = float_tensor(values, case.input_scale)
    offset = np.where(np.arange(t) == 0, -5, random.integers(-100, 101, t)).reshape(step_shape)
    s = floats(scale).reshape(t, 1)
    ws = np.broadcast_to(floats(weight_scale).reshape(1, -1), (1, n))
    deq = (s * (ws[:, :1] if case.deq_one else ws)).astype(np.float32)
    sums = tensors["weight"].array.astype(np.int64).sum(axis=1)
    bias = tensors["bias"].array.astype(np.float64) if "bias" in tensors else np.zeros(n)
    quant_bias = np.rint(bias / deq - offset.reshape(t, 1) * sums).astype(np.int32)
    if t == 1:
        deq, quant_bias = deq[0], quant_bias[0]
    if case.deq == "I64":
        tensors["deq_scale"] = Tensor("I64", deq.view(np.uint32).astype(np.int64))
    else:
        tensors["deq_scale"] = Tensor("F32", deq)
    tensors["quant_bias"] = Tensor("I32", quant_bias)
    tensors["input_scale"] = scale
    tensors["input_offset"] = float_tensor(offset, case.input_scale)


def _mx_tensors(case, random):
    n, k = case.n, case.k
    blocks = -(-k // MX_BLOCK)
    scale = random.integers(118, 126, (n, blocks)).astype(np.uint8)
    if case.algorithm == "W8A8_MXFP8":
        magnitude = random.integers(0, 0x7F, (n, k))  # without NaN
        codes = (magnitude | random.integers(0, 2, (n, k)) << 7).astype(np.uint8)
    else:
        codes = random.integers(0, 16, (n, k)).astype(np.uint8)
    if case.edges:
        codes[0, :MX_BLOCK], scale[0, 0] = 0, 0
        scale[1, 0] = 1
    tensors = {"weight_scale": Tensor("U8", scale)}
    if case.algorithm == "W8A8_MXFP8":
        tensors["weight"] = Tensor("F8_E4M3", codes)
    elif case.layout == "values":
        tensors["weight"] = Tensor("F8_E4M3", E4M3.encode(E2M1.decode(codes), Ties.EVEN))
    else:
        tensors["weight"] = Tensor("U8", pack_nibbles(codes, 1))
    if case.algorithm == "W4A4_MXFP4_DUALSCALE":
        dual = random.uniform(0.5, 2, (n, -(-k // DUAL_BLOCK), 1))
        if case.edges:
            dual[2, 0, 0] = 0  # whatever the codes are, the block is zero
        tensors["weight_dual_scale"] = Tensor("F32", dual)
    return tensors


def layer_tensors(case):
    """Name -> Tensor, as a file holds layer `l`."""
    random = Random(case.seed or case.name)
    n, k = case.n, case.k
    if base_label(case.algorithm) in MX:
        tensors = _mx_tensors(case, random)
    else:
        tensors, weight_scale = _int_tensors(case, random)
    if case.bias:
        tensors["bias"] = float_tensor(random.normal((n,)), case.bias)
    if case.mode == "static" or case.steps > 1:
        _static_tensors(case, random, tensors, weight_scale)
    prefix = "l.linear" if case.smooth else "l"
    named = {f"{prefix}.{suffix}": tensor for suffix, tensor in tensors.items()}
    if case.smooth:
        named["l.div.mul_scale"] = float_tensor(random.uniform(0.25, 2, (k,)), case.smooth)
    if case.rank:
        named["l.svd_lowrank_l1"] = float_tensor(random.normal((case.rank, k)) / 8, "BF16")
        named["l.svd_lowrank_l2"] = float_tensor(random.normal((n, case.rank)) / 8, "BF16")
    return named


_TIMESTEP = Case(
    "", "W8A8_TIMESTEP", 7, 40, steps=4, seed="w8a8_timestep", scale="BF16", bias="BF16"
)
_TIMESTEP_I64 = Case(
    "", "W8A8_TIMESTEP", 6, 48, steps=4, seed="w8a8_timestep_i64", input_scale="BF16", deq="I64",
    smooth="BF16", bias="F32",
)  # fmt: skip


def _at(case, name, activation, step=None):
    return dataclasses.replace(case, name=name, activation=activation, step=step)


CASES = [
    # int8 weights, float activations
    Case("w8a16", "W8A16", 7, 40, bias="F32"),
    Case("w8a16_asymmetric_smooth", "W8A16", 5, 96, offset="random", smooth="F32", scale="BF16"),
    Case("w8a16_group32_f16", "W8A16", 9, 96, group=32, offset="zero", scale="F16", bias="F16"),
    Case("w8a16_scale_n", "W8A16", 7, 33, scale_shape="n", edges=True),
    Case("w8a16_scale_1n", "W8A16", 5, 64, scale_shape="1n", offset="random", bias="BF16"),
    Case("w8a16_wide", "W8A16", 5, 352, m=1, group=32, bias="F32"),
    Case("w8a16_gptq", "W8A16_GPTQ", 7, 64, group=32, offset="random", bias="F32"),
    # int4 weights, float activations: the three encodings
    Case("w4a16_unpacked", "W4A16", 7, 40, bias="F32", offset="zero"),
    Case("w4a16_packed_k_u8", "W4A16", 7, 40, layout="packed_k", bias="F32", smooth="BF16"),
    Case("w4a16_packed_k_i8", "W4A16", 5, 96, layout="packed_k", weight_dtype="I8", scale="BF16"),
    Case("w4a16_packed_n_i8", "W4A16", 6, 64, layout="packed_n", weight_dtype="I8", group=32,
         offset="random", bias="BF16"),
    Case("w4a16_packed_n_u8", "W4A16", 8, 128, layout="packed_n", group=64, smooth="F32"),
    Case("w4a16_group64_wide", "W4A16", 5, 576, m=1, layout="packed_k", group=64, bias="F32"),
    Case("w4a16_group32_asymmetric", "W4A16", 9, 96, group=32, offset="random", scale="F16"),
    Case("w4a16_awq", "W4A16_AWQ", 7, 128, layout="packed_k", group=64, offset="random",
         bias="F32", smooth="F32"),
    Case("w4a16_gptq", "W4A16_GPTQ", 5, 96, layout="packed_k", group=32, bias="F32"),
    # int4 weights, int8 and int4 activations
    Case("w4a8_awq", "W4A8_AWQ", 7, 128, layout="packed_k", group=64, offset="random", bias="F32"),
    Case("w4a8_awq_channel", "W4A8_AWQ", 6, 40, smooth="F32", m=3, zero_row=True, bias="BF16"),
    Case("w4a4_dynamic", "W4A4_DYNAMIC", 7, 40, offset="zero", bias="F32", smooth="F32"),
    Case("w4a4_dynamic_group32", "W4A4_DYNAMIC", 9, 96, layout="packed_k", group=32,
         offset="random", m=3, zero_row=True, bias="F32"),
    Case("w4a4_dynamic_packed_n", "W4A4_DYNAMIC", 6, 64, layout="packed_n", edges=True),
    # int8 both, static
    Case("w8a8", "W8A8", 7, 40, bias="F32"),
    Case("w8a8_smooth_i64", "W8A8", 9, 96, deq="I64", smooth="BF16", bias="F32"),
    Case("w8a8_bf16_no_bias", "W8A8", 5, 352, m=1, input_scale="BF16"),
    Case("w8a8_per_channel_static", "W8A8_PER_CHANNEL", 7, 33, bias="F32", edges=True),
    Case("w8a8_per_tensor_static", "W8A8_PER_TENSOR", 7, 40, deq_one=True, bias="F32"),
    Case("w8a8_per_channel_per_tensor_static", "W8A8_PER_CHANNEL_PER_TENSOR", 5, 64, deq="I64"),
    Case("w8a8_per_channel_per_token_static", "W8A8_PER_CHANNEL_PER_TOKEN", 5, 40,
         activation="static", bias="F32"),
    Case("w8a8_per_tensor_per_token_static", "W8A8_PER_TENSOR_PER_TOKEN", 5, 40,
         activation="static", deq_one=True),
    _at(_TIMESTEP, "w8a8_timestep_step0", "static", 0),
    _at(_TIMESTEP, "w8a8_timestep_step1", "static", 1),
    _at(_TIMESTEP, "w8a8_timestep_step2", "static", 2),
    _at(_TIMESTEP, "w8a8_timestep_step3", "static", 3),
    _at(_TIMESTEP, "w8a8_timestep_dynamic", "dynamic"),
    _at(_TIMESTEP_I64, "w8a8_timestep_i64_step3", "static", 3),
    _at(_TIMESTEP_I64, "w8a8_timestep_i64_dynamic", "dynamic"),
    # int8 both, dynamic
    Case("w8a8_dynamic", "W8A8_DYNAMIC", 7, 40, offset="zero", bias="F32", m=3, zero_row=True),
    Case("w8a8_dynamic_smooth", "W8A8_DYNAMIC", 9, 96, scale="BF16", smooth="F32", bias="BF16"),
    Case("w8a8_dynamic_group64", "W8A8_DYNAMIC", 5, 128, group=64, bias="F32"),
    Case("w8a8_dynamic_wide", "W8A8_DYNAMIC", 5, 352, m=1, edges=True),
    Case("w8a8_dynamic_lowrank", "W8A8_DYNAMIC", 7, 64, rank=4, smooth="F32", bias="F32"),
    Case("w8a8_svd_dynamic", "W8A8_SVD_DYNAMIC", 5, 40, rank=3, m=1, bias="F32"),
    Case("w8a8_per_channel_dynamic", "W8A8_PER_CHANNEL", 7, 33, activation="dynamic", bias="F32"),
    Case("w8a8_per_tensor_dynamic", "W8A8_PER_TENSOR", 7, 40, activation="dynamic",
         scale_shape="1"),
    Case("w8a8_per_channel_per_tensor_dynamic", "W8A8_PER_CHANNEL_PER_TENSOR", 5, 64,
         activation="dynamic", bias="BF16"),
    Case("w8a8_per_channel_per_token_dynamic", "W8A8_PER_CHANNEL_PER_TOKEN", 5, 40, bias="F32"),
    Case("w8a8_per_tensor_per_token_dynamic", "W8A8_PER_TENSOR_PER_TOKEN", 5, 40,
         scale_shape="11", bias="F32"),
    # microscaled
    Case("mxfp8", "W8A8_MXFP8", 7, 64, bias="F32", m=3, zero_row=True),
    Case("mxfp8_k40", "W8A8_MXFP8", 5, 40, m=3, edges=True),
    Case("mxfp8_k96_smooth", "W8A8_MXFP8", 9, 96, smooth="F32", bias="BF16"),
    Case("mxfp8_wide", "W8A8_MXFP8", 5, 352, m=1, bias="F32"),
    Case("mxfp4_packed", "W4A4_MXFP4", 7, 64, bias="F32", m=3, zero_row=True),
    Case("mxfp4_values", "W4A4_MXFP4", 5, 96, layout="values", smooth="F32", bias="F32"),
    Case("mxfp4_k40", "W4A4_MXFP4", 9, 40, edges=True),
    Case("mxfp4_k34_values", "W4A4_MXFP4", 6, 34, layout="values"),
    Case("mxfp4_wide", "W4A4_MXFP4", 5, 352, m=1, bias="BF16"),
    Case("mxfp4_dual", "W4A4_MXFP4_DUALSCALE", 7, 64, bias="F32", m=3, zero_row=True),
    Case("mxfp4_dual_wide_edges", "W4A4_MXFP4_DUALSCALE", 5, 1088, m=1, edges=True,
         bias="F32"),
    Case("mxfp4_dual_k544_values", "W4A4_MXFP4_DUALSCALE", 3, 544, m=1, layout="values",
         smooth="F32"),
    Case("mxfp4_svd", "W4A4_MXFP4_SVD", 7, 64, rank=8, bias="F32"),
    Case("mxfp4_svd_smooth", "W4A4_MXFP4_SVD", 9, 96, rank=4, smooth="BF16", layout="values"),
    Case("mxfp4_svd_k40", "W4A4_MXFP4_SVD", 5, 40, rank=3),
]  # fmt: skip
