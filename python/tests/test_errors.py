"""Errors of the library arrive as mezzotint.Error with the library's text."""

import json
import re

import numpy as np
import pytest
from conftest import K, LAYER, N, write_quantized

import mezzotint

USAGE, INPUT, UNSUPPORTED = 2, 3, 4


@pytest.fixture
def layer(tmp_path):
    return write_quantized(tmp_path / "model", "W8A8_DYNAMIC")


@pytest.fixture
def linear(layer):
    return mezzotint.load_linear(layer.folder, LAYER)


def descriptor_of(layer):
    (path,) = layer.folder.glob("*.json")
    return path


def relabel(layer, label):
    path = descriptor_of(layer)
    path.write_text(path.read_text().replace("W8A8_DYNAMIC", label, 2))


def fails(call, code, *words):
    with pytest.raises(mezzotint.Error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert caught.value.code == code


def test_wrong_width_names_the_layer(linear):
    fails(lambda: linear.run(np.zeros((2, K + 1), np.float32)), USAGE, LAYER, str(K), str(K + 1))


@pytest.mark.parametrize("dtype", ["float64", "int32", "complex64", "bool", "object", ">f4"])
def test_other_dtypes_are_refused_by_name(linear, dtype):
    with pytest.raises(TypeError, match=f"expected float32.* got {dtype} .layer {LAYER}."):
        linear.run(np.zeros((2, K), dtype))


def test_a_scalar_is_refused(linear):
    with pytest.raises(ValueError, match=re.escape(f"expected [..., {K}]")):
        linear.run(np.float32(1))


def test_unknown_layer_suggests_a_name(layer):
    fails(lambda: mezzotint.load_linear(layer.folder, "blocks.0.prj"), USAGE, "did you mean", LAYER)


def test_missing_folder_is_named(tmp_path):
    missing = tmp_path / "nowhere"
    fails(lambda: mezzotint.load_linear(missing, LAYER), INPUT, str(missing))


def test_truncated_weights_are_an_input_error(layer):
    (weights,) = layer.folder.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    fails(lambda: mezzotint.load_linear(layer.folder, LAYER), INPUT, weights.name)


def test_broken_json_is_an_input_error(layer):
    descriptor_of(layer).write_text("{")
    fails(lambda: mezzotint.load_linear(layer.folder, LAYER), INPUT, descriptor_of(layer).name)


def test_unknown_algorithm_is_never_float(layer):
    path = descriptor_of(layer)
    labels = json.loads(path.read_text())
    labels[f"{LAYER}.weight"] = "W9A9"
    path.write_text(json.dumps(labels))
    fails(lambda: mezzotint.load_linear(layer.folder, LAYER), UNSUPPORTED, "W9A9", LAYER)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p[:-1], ["packed"]),
        (lambda p: p[:32], ["packed"]),
        (lambda p: np.concatenate([np.zeros(8, np.uint8), p[8:]]), ["MZPACKED"]),
    ],
    ids=["short", "no header", "other magic"],
)
def test_a_damaged_blob_is_refused(linear, change, words):
    packed = change(linear.packed.copy())
    fails(
        lambda: mezzotint.PackedLinear(
            packed, linear.weight_scale, linear.bias, algorithm=linear.algorithm
        ),
        INPUT,
        *words,
    )


def test_missing_scale_is_named(linear):
    fails(
        lambda: mezzotint.PackedLinear(linear.packed, algorithm="W8A16", name="up"),
        INPUT,
        "up.weight_scale",
    )


def test_wrong_number_of_scales_is_named(linear):
    scale = np.ones(N - 1, np.float32)
    fails(
        lambda: mezzotint.PackedLinear(linear.packed, scale, algorithm="W8A16", name="up"),
        INPUT,
        "up",
        str(N),
        str(N - 1),
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda p: p.view(np.int8), "int8"), (lambda p: p.reshape(2, -1), r"uint8 \[2, "), (list, "bytes-like")],
    ids=["signed", "two dimensions", "list"],
)
def test_a_packed_weight_must_be_bytes(linear, change, found):
    with pytest.raises(TypeError, match=found):
        mezzotint.PackedLinear(change(linear.packed), algorithm="W8A16")


@pytest.mark.parametrize("algorithm", ["W4A16", "W8A8", "W4A4_MXFP4", "W8A8_SVD_DYNAMIC"])
def test_what_vectors_do_not_hold_comes_from_files_only(linear, algorithm):
    with pytest.raises(mezzotint.Error, match=f"needs its whole file.*got {algorithm}"):
        mezzotint.PackedLinear(
            linear.packed, linear.weight_scale, linear.bias, algorithm=algorithm
        )


def test_error_is_a_runtime_error():
    assert issubclass(mezzotint.Error, RuntimeError)


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert mezzotint.__version__ == version("mezzotint")


def test_import_is_cheap():
    """Only numpy comes along: no torch, no safetensors."""
    import subprocess
    import sys

    code = "import sys, mezzotint; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "safetensors", "scipy", "pandas"} & set(loaded)
