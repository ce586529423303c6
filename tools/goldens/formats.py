"""Writes testdata/numerics/*.json: what other people's libraries compute for src/numerics.

    python tools/goldens/formats.py [--all]

Run by `./x goldens`. A conversion to codes is a staircase, so that the smallest float of every code
says all of it: found by bisection of the library's own function, then held against that function on
every bf16, next to every edge and on a million random floats (--all: elements on every float, half
an hour). No formula of src/numerics stands here.
"""

import importlib.metadata
import json
import logging
import os
import pathlib
import sys
import warnings

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
os.environ.setdefault("TORCHAO_FORCE_SKIP_LOADING_SO_FILES", "1")  # CUDA extensions

import gfloat  # noqa: E402
import gfloat.formats  # noqa: E402
import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torchao  # noqa: E402
from msmodelslim.core.quantizer.impl.ceil_x import ceil_x_qparam  # noqa: E402
from msmodelslim.ir.api.impl import int_quantization, mx_quantization  # noqa: E402
from msmodelslim.ir.qal import QDType, QScheme, QScope, QStorage  # noqa: E402
from msmodelslim.ir.qal.qbase import QParam  # noqa: E402
from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx  # noqa: E402

TESTDATA = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "numerics"
INFINITY = 0x7F800000
TWO_TO_126 = 0x7E800000  # above it exporter and torchao overflow in places
BLOCK = 32
CHUNK = 1 << 22

NUMPY_TYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e2m1": ml_dtypes.float4_e2m1fn,
}
TORCH_TYPES = {
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
    "e2m1": torch.float4_e2m1fn_x2,
}
GFLOAT_TYPES = {
    "e4m3": gfloat.formats.format_info_ocp_e4m3,
    "e5m2": gfloat.formats.format_info_ocp_e5m2,
    "e2m1": gfloat.formats.format_info_ocp_e2m1,
}
LARGEST = {name: float(ml_dtypes.finfo(t).max) for name, t in NUMPY_TYPES.items()}
MODES = ("FLOOR", "RCEIL", "CEIL", "EVEN")


def floats(bits):
    return np.asarray(bits, dtype=np.uint32).view(np.float32)


def every_bf16():
    return np.arange(0x7F80, dtype=np.uint32) << 16


# --- conversions of elements ----------------------------------------------------------------------


def by_gfloat(name, values, rounding):
    info = GFLOAT_TYPES[name]
    rounded = gfloat.round_ndarray(info, values.astype(np.float64), rounding, sat=True)
    return gfloat.encode_ndarray(info, rounded).astype(np.uint8)


def half_even(name, values):
    """Codes of float32 values: ml_dtypes, gfloat, and torch's cast where it has one. Clamped: the
    casts of ml_dtypes and torch do not saturate in all versions."""
    clamped = np.clip(values, -LARGEST[name], LARGEST[name])
    codes = clamped.astype(NUMPY_TYPES[name]).view(np.uint8)
    assert np.array_equal(codes, by_gfloat(name, values, gfloat.RoundMode.TiesToEven)), name
    if name != "e2m1":
        cast = torch.from_numpy(clamped).to(TORCH_TYPES[name]).view(torch.uint8).numpy()
        assert np.array_equal(codes, cast), name
    return codes


def half_away(name, values):
    """Codes of float32 values: gfloat's, and the exporter's, which rounds by floor(t + 0.5): its sum
    rounds up for the float below half of the smallest value, and it knows no -0."""
    codes = by_gfloat(name, values, gfloat.RoundMode.TiesToAway)
    smallest = float(ml_dtypes.finfo(NUMPY_TYPES[name]).smallest_subnormal)
    same = codes == exporter_half_away(name, values)
    below_half = np.abs(values) == np.nextafter(np.float32(smallest / 2), np.float32(0))
    assert np.all(same | below_half | ((values == 0) & np.signbit(values))), name
    return codes


def exporter_half_away(name, values):
    """The exporter's rounding of a block whose scale is 1."""
    values = torch.from_numpy(values)
    if name == "e5m2":  # no quantizer of it, but the rounding takes any format
        exponent = torch.floor(torch.log2(values.abs() + (values == 0)))
        rounded = mx_quantization._quant(values, bits=2 + 2, exp=exponent, exp_bits=5)
        rounded = rounded.clamp(-LARGEST[name], LARGEST[name])
    else:
        rounded = exporter_elements(name, values, torch.zeros(()))
    return rounded.numpy().astype(NUMPY_TYPES[name]).view(np.uint8)


def exporter_elements(name, values, exponents):
    dtype = QDType.MXFP4 if name == "e2m1" else QDType.MXFP8
    scheme = QScheme(dtype=dtype, scope=QScope.PER_BLOCK, symmetric=True)
    fp4, fp8 = mx_quantization.mxfp4_quantize, mx_quantization.mxfp_per_block_quantize
    quantize = fp4 if name == "e2m1" else fp8
    storage = QStorage(dtype=QDType.FLOAT, value=values)
    return quantize(storage, QParam(scheme=scheme, ext={"scale": exponents})).value


# --- scales of blocks -----------------------------------------------------------------------------


def torchao_block(name, mode, rows):
    """rows:[blocks, 32] float32 -> bytes:[blocks], codes:[blocks, 32]."""
    rule = ScaleCalculationMode[mode]
    bytes_, data = to_mx(torch.from_numpy(rows), TORCH_TYPES[name], BLOCK, rule)
    data = data.view(torch.uint8).numpy()
    if name == "e2m1":
        data = np.stack([data & 15, data >> 4], axis=-1).reshape(rows.shape)
    return bytes_.view(torch.uint8).numpy().reshape(-1), data


def torchao_scale(name, mode, amax):
    rows = np.zeros((amax.size, BLOCK), dtype=np.float32)
    rows[:, 0] = amax
    return torchao_block(name, mode, rows)[0]


def exporter_scale(rule, amax):
    """rule: e4m3, e2m1, or a ceil_x constant."""
    high = torch.from_numpy(amax)
    dtype = QDType.MXFP8 if rule == "e4m3" else QDType.MXFP4
    arguments = (-high, high)
    scheme = {"q_dtype": dtype, "q_scope": QScope.PER_BLOCK, "symmetric": True}
    if rule == "e4m3":
        param = mx_quantization.calculate_mx_qparam(*arguments, **scheme)
    elif rule == "e2m1":
        param = mx_quantization.calculate_mxfp4_qparam(*arguments, **scheme)
    else:
        param = ceil_x_qparam(*arguments, rule, **scheme, axes=-1)
    return (param.ext["scale"].numpy() + 127).astype(np.int64)


# --- staircases -----------------------------------------------------------------------------------


def staircase(oracle, last, every_float):
    """oracle: float32 values -> codes that never fall. Returns the code of 0 and, for each code
    above it up to that of the float with the bits `last`, the bits of the smallest float of it."""
    first, top = (int(oracle(floats([bits]))[0]) for bits in (0, last))
    codes = np.arange(first + 1, top + 1)
    low, high = np.zeros(codes.size, np.int64), np.full(codes.size, last, np.int64)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        reached = oracle(floats(middle)) >= codes
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    random = np.random.default_rng(7).integers(0, last + 1, 1 << 20, dtype=np.uint32)
    edges = (high[:, None] + np.arange(-64, 65)).clip(0, last).ravel()
    chunks = [every_bf16()[every_bf16() <= last], random, edges]
    if every_float:
        chunks = (np.arange(i, min(i + CHUNK, last + 1)) for i in range(0, last + 1, CHUNK))
    for bits in chunks:
        expected = first + np.searchsorted(high, bits, side="right")
        assert np.array_equal(oracle(floats(bits)), expected), "not a staircase"
    return {"first": first, "last": last, "runs": runs(high.tolist())}


def runs(values):
    """[start, step, count] for each stretch of equal steps."""
    result = []
    while values:
        step = values[1] - values[0] if len(values) > 1 else 0
        count = 1
        while count < len(values) and values[count] - values[count - 1] == step:
            count += 1
        result.append([values[0], step, count])
        values = values[count:]
    return result


# --- files ----------------------------------------------------------------------------------------


def hexadecimal(values):
    return np.asarray(values, dtype=np.uint8).tobytes().hex()


def decoded(name):
    """The bits of every code's value as float32."""
    count = 16 if name == "e2m1" else 256
    codes = np.arange(count, dtype=np.uint8)
    dtype = NUMPY_TYPES.get(name, ml_dtypes.float8_e8m0fnu)
    values = codes.view(dtype).astype(np.float32)
    torch_type = TORCH_TYPES.get(name, torch.float8_e8m0fnu)
    if name != "e2m1":
        twin = torch.from_numpy(codes).view(torch_type).to(torch.float32).numpy()
        assert np.array_equal(values, twin, equal_nan=True), name
    return ["nan" if np.isnan(v) else int(v.view(np.uint32)) for v in values]


def elements(every_float):
    result = {name: {"values": decoded(name)} for name in (*NUMPY_TYPES, "e8m0")}
    for name in NUMPY_TYPES:
        for rounding, convert in (("half_even", half_even), ("half_away", half_away)):
            last = INFINITY - 1 if rounding == "half_even" else TWO_TO_126
            stairs = staircase(lambda v: convert(name, v), last, every_float)
            sign = 8 if name == "e2m1" else 0x80
            upper = every_bf16()[1 : last >> 16]
            positive = convert(name, floats(upper))
            negative = convert(name, floats(upper | 0x80000000))
            assert np.array_equal(negative, positive | sign), name
            zero = half_even if rounding == "half_even" else exporter_half_away
            stairs["negative_zero"] = int(zero(name, floats([0x80000000]))[0])
            result[name][rounding] = stairs
    result["bf16"] = {"fnv1a": f"{fnv1a(bf16_of_neighbours()):016x}"}
    return result


def bf16_of_neighbours():
    """bf16 codes of every upper half of a float with five lower ones, about its tie; no NaN."""
    lows = np.array([0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=np.uint32)
    bits = (np.arange(65536, dtype=np.uint32)[:, None] << 16 | lows).ravel()
    values = floats(bits)
    values = values[~np.isnan(values)]
    codes = values.astype(ml_dtypes.bfloat16).view(np.uint16)
    cast = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    assert np.array_equal(codes.view(np.int16), cast)
    return codes


def fnv1a(codes):
    """Of the bytes, low ones first: http://www.isthe.com/chongo/tech/comp/fnv."""
    value = 0xCBF29CE484222325
    for byte in codes.astype("<u2").tobytes():
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return value


def scales():
    result = {"torchao": {}, "exporter": {}}
    for mode in MODES:
        for name in TORCH_TYPES:
            last = TWO_TO_126 if mode in ("EVEN", "CEIL") else INFINITY - 1
            stairs = staircase(lambda v: torchao_scale(name, mode, v), last, False)
            result["torchao"][f"{mode.lower()} {name}"] = stairs
    for rule in ("e4m3", "e2m1", 6.0, 7.25, 12.0):
        stairs = staircase(lambda v: exporter_scale(rule, v), INFINITY - 1, False)
        result["exporter"][str(rule)] = stairs
    return result


def random_rows(seed, count):
    """[count, 32] float32: bf16 and float values of up to 12 octaves about a block's own exponent,
    with zeros. The bits are stored: they are what the test reads."""
    rng = np.random.default_rng(seed)
    exponent = rng.integers(100, 150, (count, 1)) + rng.integers(-12, 1, (count, BLOCK))
    sign, mantissa = rng.integers(0, 2, exponent.shape), rng.integers(0, 1 << 23, exponent.shape)
    bits = sign << 31 | exponent << 23 | mantissa
    bits[: count // 2] &= 0xFFFF0000
    bits[rng.random(bits.shape) < 0.05] = 0
    return bits.astype(np.uint32)


def blocks():
    bits = random_rows(3, 16)
    rows = floats(bits)
    x = ["".join(f"{b:08x}" for b in row) for row in bits]
    result = {"x": x, "torchao": {}, "exporter": {}}
    for mode in MODES:
        for name in TORCH_TYPES:
            bytes_, codes = torchao_block(name, mode, rows)
            result["torchao"][f"{mode.lower()} {name}"] = [hexadecimal(bytes_), hexadecimal(codes)]
    for name in ("e4m3", "e2m1"):
        bytes_ = exporter_scale(name, np.abs(rows).max(axis=1))
        exponents = torch.from_numpy(bytes_ - 127).to(torch.float32)[:, None]
        values = exporter_elements(name, torch.from_numpy(rows.copy()), exponents).numpy()
        codes = values.astype(NUMPY_TYPES[name]).view(np.uint8)
        result["exporter"][name] = [hexadecimal(bytes_), hexadecimal(codes)]
    result["torch"] = {"e4m3 / 448": torch_tiles(torch.from_numpy(rows.copy()))}
    return result


def torch_tiles(rows):
    """Rows as tiles with the scale amax / 448: the bits of the scales, and codes."""
    scales = rows.abs().amax(dim=1) / 448
    codes = (rows / scales[:, None]).clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8)
    return [scales.numpy().view(np.uint32).tolist(), hexadecimal(codes.numpy())]


def affine():
    """Parameters and codes of the exporter for random ranges."""
    rng = np.random.default_rng(9)
    ranges = np.array([[-1, 2], [0.5, 3], [0, 0], [-3, -1]], dtype=np.float32)
    ranges = np.concatenate([ranges, np.sort(rng.normal(0, 3, (20, 2)).astype(np.float32), axis=1)])
    weights = np.linspace(-4, 4, 16, dtype=np.float32)
    result = {"weights": weights.view(np.uint32).tolist(), "cases": []}
    for bits, dtype in ((8, QDType.INT8), (4, QDType.INT4)):
        for symmetric in (False, True):
            scheme = {"q_dtype": dtype, "q_scope": QScope.PER_CHANNEL, "symmetric": symmetric}
            low, high = (torch.from_numpy(ranges[:, i : i + 1].copy()) for i in (0, 1))
            param = int_quantization.calculate_int_qparam(low, high, **scheme)
            x = torch.from_numpy(weights).expand(len(ranges), -1).clone()
            codes = int_quantization.int_quantize(QStorage(dtype=QDType.FLOAT, value=x), param)
            offsets = param.ext["offset"].expand(len(ranges), 1)
            result["cases"].append({
                "bits": bits, "symmetric": symmetric, "ranges": ranges.view(np.uint32).tolist(),
                "scales": param.ext["scale"].numpy().view(np.uint32).ravel().tolist(),
                "offsets": offsets.ravel().to(torch.int64).tolist(),
                "codes": codes.value.to(torch.int64).tolist(),
            })
    return result


def write(name, content):
    content = {"made_by": made_by(), **content}
    text = json.dumps(content, separators=(",", ":"))
    (TESTDATA / name).write_text(text.replace("},", "},\n").replace('],"', '],\n"') + "\n")


def made_by():
    versions = {"torch": torch.__version__.split("+")[0], "ml_dtypes": ml_dtypes.__version__}
    versions["gfloat"] = importlib.metadata.version("gfloat")
    return {**versions, "torchao": torchao.__version__, "msmodelslim": "26.1.0"}


def main():
    every_float = "--all" in sys.argv[1:]
    TESTDATA.mkdir(parents=True, exist_ok=True)
    write("elements.json", elements(every_float))
    write("mx_scales.json", scales())
    write("mx_blocks.json", blocks())
    write("affine.json", affine())


if __name__ == "__main__":
    main()
