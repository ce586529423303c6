"""Python owns the packed weight; C++ borrows it."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
from conftest import LAYER, write_quantized

import mezzotint


def rebuild(linear, packed):
    return mezzotint.PackedLinear(
        packed, linear.weight_scale, linear.bias, algorithm=linear.algorithm, name=linear.name
    )


def test_a_copy_of_the_parts_is_the_same_layer(quantized, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    again = mezzotint.PackedLinear(
        linear.packed.copy(),
        linear.weight_scale.copy(),
        linear.bias.copy(),
        algorithm=linear.algorithm.lower(),
    )
    np.testing.assert_array_equal(again.run(x), linear.run(x))
    assert again.algorithm == linear.algorithm


def test_parts_may_come_as_they_stand_in_files(quantized, x):
    """Bytes from anywhere, scales as [n,1], lists of numbers."""
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    again = mezzotint.PackedLinear(
        bytes(linear.packed),
        linear.weight_scale.reshape(-1, 1),
        linear.bias.tolist(),
        algorithm=linear.algorithm,
    )
    np.testing.assert_array_equal(again.run(x), linear.run(x))
    strided = np.repeat(linear.packed, 2)[::2]
    np.testing.assert_array_equal(rebuild(linear, strided).run(x), linear.run(x))


def test_smoothing_is_a_part(algorithm, x, tmp_path):
    layer = write_quantized(tmp_path / "smooth", algorithm, smooth=True)
    linear = mezzotint.load_linear(layer.folder, LAYER)
    parts = (linear.packed, linear.weight_scale, linear.bias)
    again = mezzotint.PackedLinear(*parts, algorithm=algorithm, mul_scale=linear.mul_scale)
    np.testing.assert_array_equal(again.run(x), linear.run(x))
    without = mezzotint.PackedLinear(*parts, algorithm=algorithm)
    assert not np.array_equal(without.run(x), linear.run(x))


def test_offsets_are_a_part(algorithm, x, tmp_path):
    layer = write_quantized(tmp_path / "offset", algorithm, offset=-28.0)
    linear = mezzotint.load_linear(layer.folder, LAYER)
    expected = x[0] @ ((layer.codes + 28.0) * layer.scale[:, None]).T + layer.bias
    np.testing.assert_allclose(linear.run(x[:1])[0], expected, rtol=0.05, atol=1.0)
    parts = (linear.packed, linear.weight_scale, linear.bias)
    again = mezzotint.PackedLinear(*parts, algorithm=algorithm, weight_offset=linear.weight_offset)
    np.testing.assert_array_equal(again.run(x), linear.run(x))


def test_an_aligned_buffer_is_used_in_place(quantized, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    again = rebuild(linear, linear.packed)
    assert again.packed is linear.packed
    unaligned = np.zeros(linear.packed.size + 65, np.uint8)
    start = -unaligned.ctypes.data % 64 + 1
    view = unaligned[start : start + linear.packed.size]
    view[:] = linear.packed
    copied = rebuild(linear, view)
    assert copied.packed is not view
    assert copied.packed.ctypes.data % 64 == 0
    unaligned[:] = 0
    np.testing.assert_array_equal(copied.run(x), linear.run(x))


def test_the_layer_computes_with_pythons_bytes(quantized, x):
    """The only copy of the weight is `packed`: changing it changes the result."""
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    packed = rebuild(linear, linear.packed.copy()).packed.copy()
    again = rebuild(linear, packed)
    before = again.run(x)
    again.packed[64:] ^= 1
    assert not np.array_equal(again.run(x), before)


def test_a_loaded_weight_cannot_be_written_to(quantized):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    with pytest.raises(ValueError, match="read-only"):
        linear.packed[64] = 1


def test_the_layer_keeps_its_buffers_alive_and_frees_them(quantized, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    y = linear.run(x)
    packed = linear.packed
    owner = weakref.ref(packed if packed.base is None else packed.base)
    del packed
    linear.packed = None  # now only C++ holds it
    gc.collect()
    assert owner() is not None
    np.testing.assert_array_equal(linear.run(x), y)
    del linear
    gc.collect()
    assert owner() is None


def test_vectors_outlive_the_layer(quantized):
    bias = mezzotint.load_linear(quantized.folder, LAYER).bias
    gc.collect()
    np.testing.assert_array_equal(bias, quantized.bias)


def test_threads_share_a_layer(quantized, x):
    linear = mezzotint.load_linear(quantized.folder, LAYER)
    expected = linear.run(x)
    contexts = [mezzotint.Context(threads=n) for n in (1, 2, 3)] + [None]
    wrong = []

    def work(context):
        for _ in range(50):
            if not np.array_equal(linear.run(x, context), expected):
                wrong.append(context)

    threads = [threading.Thread(target=work, args=(c,)) for c in contexts for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_gil_is_free_while_a_layer_runs(tmp_path):
    """While one long call runs, another thread never waits for as long as the call takes."""
    layer = write_quantized(tmp_path / "w8a16", "W8A16")
    linear = mezzotint.load_linear(layer.folder, LAYER)
    x = np.ones((200_000, linear.in_features), np.float32)
    span = []

    def work():
        begin = time.perf_counter()
        linear.run(x, mezzotint.Context(threads=1))
        span.extend((begin, time.perf_counter()))

    thread = threading.Thread(target=work)
    stamps = [time.perf_counter()]
    thread.start()
    while thread.is_alive():
        stamps.append(time.perf_counter())
    thread.join()
    duration = span[1] - span[0]
    assert duration > 0.02, "too short to tell"
    assert max(np.diff(stamps)) < duration / 2


def test_context_counts_threads():
    assert mezzotint.Context(threads=3).threads == 3
    assert mezzotint.Context().threads >= 1
