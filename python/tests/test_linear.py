"""PackedLinear against numpy in float64."""

import copy

import numpy as np
import pytest
from conftest import K, LAYER, N, bf16_round, write_quantized
from safetensors.numpy import save_file

import mezzotint

EPS = 2.0**-24  # half an ulp of float32 at 1


def dequantized_rows(x):
    """What the activation quantizer makes of x: codes times scale, and the scale, in float64."""
    amax = np.abs(x).max(axis=1, keepdims=True)
    scale = amax * np.float32(1 / 127)
    safe = np.where(scale > 0, scale, np.float32(1))
    codes = np.where(scale > 0, np.clip(np.rint(x / safe), -127, 127), 0)
    return codes.astype(np.float64) * scale.astype(np.float64)


def expected(layer, algorithm, x):
    """y in float64 and a bound of the float32 error of any order of summation."""
    x = x.astype(np.float32)
    if layer.mul_scale is not None:
        x = x * layer.mul_scale
    weight = layer.codes.astype(np.float64) * layer.scale.astype(np.float64)[:, None]
    rows = dequantized_rows(x) if algorithm == "W8A8_DYNAMIC" else x.astype(np.float64)
    bound = (K + 4) * EPS * (np.abs(rows) @ np.abs(weight).T + np.abs(layer.bias)) + 1e-44
    return rows @ weight.T + layer.bias, bound


def assert_within(y, reference, bound):
    excess = np.abs(y.astype(np.float64) - reference) - bound
    assert excess.max() <= 0, f"{excess.max()} over the bound at {np.unravel_index(excess.argmax(), y.shape)}"


def test_run_equals_float64_arithmetic(quantized, algorithm, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    assert_within(linear.run(x), *expected(quantized, algorithm, x))


def test_the_bound_sees_one_wrong_code(quantized, algorithm, x):
    y = mezzotint.load_linear(quantized.folder, LAYER).run(x)
    wrong = copy.copy(quantized)
    wrong.codes = quantized.codes.copy()
    wrong.codes[7, 11] += 1 if wrong.codes[7, 11] < 0 else -1
    with pytest.raises(AssertionError, match="over the bound"):
        assert_within(y, *expected(wrong, algorithm, x))


def test_smoothing_is_applied_in_float32(algorithm, x, tmp_path):
    layer = write_quantized(tmp_path / "smooth", algorithm, smooth=True)
    linear = mezzotint.load_linear(layer.folder, LAYER)
    np.testing.assert_array_equal(linear.mul_scale, layer.mul_scale)
    assert_within(linear.run(x), *expected(layer, algorithm, x))


def test_float_model_without_descriptor(x, tmp_path):
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(N, K)).astype(np.float32)
    save_file({f"{LAYER}.weight": weight}, tmp_path / "model.safetensors")
    linear = mezzotint.load_linear(tmp_path, LAYER)
    assert (linear.algorithm, linear.bias, linear.weight_scale) == ("FLOAT", None, None)
    reference = x.astype(np.float64) @ weight.T.astype(np.float64)
    bound = (K + 4) * EPS * (np.abs(x.astype(np.float64)) @ np.abs(weight).T.astype(np.float64))
    assert_within(linear.run(x), reference, bound + 1e-44)


def test_properties_and_repr(quantized, algorithm):
    linear = mezzotint.load_linear(str(quantized.folder), LAYER)
    assert (linear.name, linear.algorithm) == (LAYER, algorithm)
    assert (linear.in_features, linear.out_features) == (K, N)
    np.testing.assert_array_equal(linear.weight_scale, quantized.scale)
    np.testing.assert_array_equal(linear.bias, quantized.bias)
    assert linear.packed.dtype == np.uint8
    assert bytes(linear.packed[:8]) == b"MZPACKED"
    assert linear.packed.nbytes < 4 * N * K  # the int8 codes, not a widened copy
    assert linear.kernel(9)
    assert repr(linear) == (
        f"PackedLinear('{LAYER}', {algorithm}, in_features={K}, out_features={N}, bias=True, "
        f"{linear.packed.nbytes} bytes)"
    )


@pytest.mark.parametrize("shape", [(K,), (0, K), (1, K), (2, 3, K), (2, 0, K)])
def test_leading_dimensions_are_kept(quantized, shape):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    y = linear.run(x)
    assert (y.shape, y.dtype) == ((*shape[:-1], N), np.float32)
    np.testing.assert_array_equal(y.reshape(-1, N), linear.run(x.reshape(-1, K)))


def test_any_view_gives_the_same_bits(quantized, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    y = linear.run(x)
    wide = np.full((x.shape[0], K + 3), np.nan, np.float32)
    wide[:, :K] = x
    shifted = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    shifted[:] = x
    read_only = x.copy()
    read_only.setflags(write=False)
    for view in (wide[:, :K], np.asfortranarray(x), x[::-1].copy()[::-1], shifted, read_only):
        np.testing.assert_array_equal(linear.run(view), y)
    np.testing.assert_array_equal(linear.run(x[::2]), y[::2])
    row = np.broadcast_to(x[0], x.shape)
    np.testing.assert_array_equal(linear.run(row), np.broadcast_to(y[0], y.shape))


def test_half_precision_in_and_out(quantized, algorithm, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    x16 = x[:1].astype(np.float16)
    y16 = linear.run(x16)
    assert y16.dtype == np.float16
    np.testing.assert_array_equal(y16, linear.run(x16.astype(np.float32)).astype(np.float16))

    rounded = bf16_round(x)
    bits = (rounded.view(np.uint32) >> 16).astype(np.uint16)
    y = linear.run(bits)
    assert y.dtype == np.uint16
    widened = (y.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, bf16_round(linear.run(rounded)))
