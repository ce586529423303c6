"""The oracle against files that upstream's exporter made: testdata/upstream."""

import json
import pathlib

import numpy as np
import pytest

import layer_oracle
from layer_oracle import base_label, floats
from number_formats import E2M1, E4M3, unpack_nibbles
from safetensors_bytes import parse
from weight_rules import dual_upstream, int_upstream, mxfp4_upstream, mxfp8_upstream

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "upstream"
CASES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
STATIC = {"W8A8"}

# rel-L2 of y against the float layer, per label: what the format costs on these weights.
WORST = {
    "W8A16": 0.04, "W4A16": 0.5, "W8A8": 0.03, "W8A8_DYNAMIC": 0.02, "W8A8_TIMESTEP": 0.02,
    "W4A4_DYNAMIC": 0.3, "W8A8_MXFP8": 0.06, "W4A4_MXFP4": 0.25, "W4A4_MXFP4_DUALSCALE": 0.25,
}  # fmt: skip

# rel-L2 of y against the exporter's simulation. It quantizes MX inputs by the rules of weights,
# rounds bf16 models at every step, and sums groups of int4 weights from rounded weights.
SIMULATION = {
    "w8a8_smooth_bf16": 0.02, "old_w8a8_bf16": 0.03, "old_w4a16_group32": 0.002,
    "old_w4a16_ascend_packed_n": 0.002, "w8a8": 1e-4, "w8a8_ascend_i64": 1e-4,
    "w4a4_dynamic_ascend": 0.005, "w8a8_mxfp8": 0.03, "fp8_attention": 0.03, "w4a4_mxfp4": 0.15,
    "w4a4_mxfp4_dualscale": 0.2, "w4a4_mxfp4_svd": 0.1,
}  # fmt: skip
EXACT = 1e-6


def read(path):
    return parse(path.read_bytes())[0]


def merged(paths):
    return {name: tensor for path in paths for name, tensor in read(path).items()}


SOURCE = merged([FOLDER / f"{kind}.safetensors" for kind in ("tiny", "wide", "attention")])
INPUTS = read(FOLDER / "inputs.safetensors")


def layers_of(case):
    """(layer, label, its tensors as those of layer l)"""
    folder = FOLDER / case
    (descriptor,) = folder.glob("quant_model_description*.json")
    tensors = merged(folder.glob("quant_model_weight*.safetensors"))
    for key, label in json.loads(descriptor.read_text()).items():
        if not key.endswith(".weight") or label == "FLOAT":
            continue
        name = key.removesuffix(".weight").removesuffix(".linear")
        own = {k: t for k, t in tensors.items() if k.startswith(name + ".")}
        yield name, label, {"l" + k[len(name) :]: tensor for k, tensor in own.items()}


def mode_of(label):
    if base_label(label) in layer_oracle.FLOAT_ACTIVATIONS:
        return "float"
    return "static" if label in STATIC else "dynamic"


def saturates(tensors, x):
    """Whether a static range is too narrow for these rows: the calibration saw others."""
    if "l.div.mul_scale" in tensors:
        x = x * floats(tensors["l.div.mul_scale"])
    layer = layer_oracle.Layer(tensors)
    scale, offset = (floats(layer.get(f"input_{part}"))[0] for part in ("scale", "offset"))
    codes = layer_oracle.static_codes(x, scale, offset)
    return (codes == 127).any() or (codes == -128).any()


def rel(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("case", [name for name in CASES if not name.startswith("foreign")])
def test_outputs_are_those_of_the_float_layer_and_of_the_simulation(case):
    simulated = FOLDER / case / "outputs.safetensors"
    outputs = read(simulated) if simulated.exists() else {}
    layers = list(layers_of(case))
    assert layers and set(outputs) <= {name for name, _, _ in layers}
    for name, label, tensors in layers:
        w = floats(SOURCE[name + ".weight"]).astype(np.float64)
        n, k = w.shape
        x = floats(INPUTS[f"x.{k}"])
        y_float = x.astype(np.float64) @ w.T
        if name + ".bias" in SOURCE:
            y_float = y_float + floats(SOURCE[name + ".bias"])
        y = layer_oracle.linear(tensors, label, mode_of(label), None, n, x).y
        if label not in STATIC or not saturates(tensors, x):
            assert rel(y, y_float) < WORST[base_label(label)], (name, rel(y, y_float))
        if name in outputs:
            error = rel(y, outputs[name].array.astype(np.float64))
            assert error < SIMULATION.get(case, EXACT), (name, error)


def weight_of(tensors, name):
    """The float weight that was quantized: the source, times 1 / mul_scale."""
    w = floats(SOURCE[name + ".weight"])
    assert "l.div.mul_scale" not in tensors
    return w


def same(tensors, **expected):
    for suffix, array in expected.items():
        stored = tensors[f"l.{suffix}"].array
        assert np.array_equal(stored.reshape(array.shape), array), suffix


@pytest.mark.parametrize(
    "case, bits, symmetric, group",
    [
        ("w8a8_dynamic", 8, True, 0),
        ("w8a16_ascend", 8, True, 0),
        ("old_w8a8_timestep", 8, True, 0),
        ("old_w8a16_asymmetric", 8, False, 0),
        ("old_w4a16_group32", 4, True, 32),
        ("old_w4a16_ascend_packed_k", 4, False, 0),
        ("old_w4a16_ascend_packed_n", 4, False, 32),
    ],
)
def test_int_rules_give_the_exporter_s_codes_and_scales(case, bits, symmetric, group):
    for name, label, tensors in layers_of(case):
        w = weight_of(tensors, name)
        codes, scale, offset = int_upstream(w, bits, symmetric, group, case.startswith("old"))
        stored = layer_oracle.int_codes(layer_oracle.Layer(tensors), label, *w.shape)
        assert np.array_equal(stored, codes), name
        same(tensors, weight_scale=scale, weight_offset=offset)


def test_static_bias_and_scale_are_the_exporter_s():
    for name, _, tensors in layers_of("w8a8"):
        codes, scale, _ = int_upstream(weight_of(tensors, name), 8, True, 0)
        input_scale, offset = (tensors[f"l.input_{part}"].array for part in ("scale", "offset"))
        deq = input_scale * scale[:, 0]
        bias = tensors["l.bias"].array if "l.bias" in tensors else np.zeros_like(deq)
        correction = codes.sum(axis=1, dtype=np.int64).astype(np.float32) * offset
        quant_bias = np.rint(bias / deq - correction).astype(np.int32)
        same(tensors, weight=codes, deq_scale=deq, quant_bias=quant_bias)


def test_mx_rules_give_the_exporter_s_codes_and_scales():
    for name, _, tensors in layers_of("w8a8_mxfp8"):
        codes, byte = mxfp8_upstream(weight_of(tensors, name), E4M3)
        same(tensors, weight=codes, weight_scale=byte)
    for name, _, tensors in layers_of("w4a4_mxfp4"):
        codes, byte = mxfp4_upstream(weight_of(tensors, name))
        assert np.array_equal(unpack_nibbles(tensors["l.weight"].array, 1), codes), name
        same(tensors, weight_scale=byte)
    for name, _, tensors in layers_of("w4a4_mxfp4_dualscale"):
        codes, byte, dual = dual_upstream(weight_of(tensors, name))
        assert np.array_equal(unpack_nibbles(tensors["l.weight"].array, 1), codes), name
        same(tensors, weight_scale=byte, weight_dual_scale=dual)


def test_codes_of_e2m1_fill_the_range():
    """A file of zeros would pass much of the above."""
    for name, _, tensors in layers_of("w4a4_mxfp4"):
        codes = unpack_nibbles(tensors["l.weight"].array, 1)
        assert np.abs(E2M1.decode(codes)).max() >= 4, name


def test_files_stay_small():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) <= 300_000


def test_rotations_are_one_orthogonal_hadamard_matrix():
    (path,) = (FOLDER / "fp8_attention").glob("quant_model_weight*.safetensors")
    tensors = read(path)
    q, k = (floats(tensors[f"blocks.0.attn.{part}_rot"]).astype(np.float64) for part in "qk")
    assert np.array_equal(q, k) and np.array_equal(np.abs(q), np.full((64, 64), 0.125))
    assert np.array_equal(q @ q.T, np.eye(64))
