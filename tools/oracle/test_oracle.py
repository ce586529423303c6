"""The oracle against number formats and products that nobody here wrote, and its committed files."""

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors import safe_open

import attention_cases
import attention_oracle
import layer_oracle
import make_goldens
from layer_cases import CASES, layer_tensors
from number_formats import (
    E2M1,
    E4M3,
    Ties,
    e8m0_value,
    int4_of_nibble,
    pack_nibbles,
    round_bf16,
    unpack_nibbles,
)
from safetensors_bytes import parse
from weight_rules import dual_upstream, int_upstream, mx_export, mxfp4_upstream, mxfp8_upstream


def all_bf16():
    values = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    return values[np.isfinite(values)]


def test_e4m3_agrees_with_ml_dtypes_and_torch_for_all_codes_and_bf16_values():
    codes = np.array([c for c in range(256) if c & 0x7F != 0x7F], dtype=np.uint8)
    theirs = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    assert np.array_equal(E4M3.decode(codes), theirs)
    values = all_bf16()
    clamped = np.clip(values, -448, 448)
    mine = E4M3.encode(values, Ties.EVEN)
    assert np.array_equal(mine, clamped.astype(ml_dtypes.float8_e4m3fn).view(np.uint8))
    in_torch = torch.from_numpy(clamped).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert np.array_equal(mine, in_torch)


def test_e2m1_agrees_with_ml_dtypes_for_all_codes_and_bf16_values():
    codes = np.arange(16, dtype=np.uint8)
    theirs = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float64)
    assert np.array_equal(E2M1.decode(codes), theirs)
    values = all_bf16()
    theirs = np.clip(values, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    assert np.array_equal(E2M1.encode(values, Ties.EVEN), theirs)


def test_ties():
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])
    assert E2M1.decode(E2M1.encode(ties, Ties.EVEN)).tolist() == [0, 1, 1, 2, 2, 4, 4]
    assert E2M1.decode(E2M1.encode(ties, Ties.AWAY)).tolist() == [0.5, 1, 1.5, 2, 3, 4, 6]
    assert E4M3.decode(E4M3.encode(np.array([17.0, 19, -1.0625]), Ties.EVEN)).tolist() == [
        16, 20, -1,
    ]  # fmt: skip
    assert E4M3.decode(E4M3.encode(np.array([17.0, 19, -1.0625]), Ties.AWAY)).tolist() == [
        18, 20, -1.125,
    ]  # fmt: skip


def test_bf16_agrees_with_torch():
    values = np.random.RandomState(1).randint(0, 1 << 32, 100000, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)]
    theirs = torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
    assert np.array_equal(round_bf16(values), theirs)


def test_nibbles():
    row = np.arange(-8, 0)[None, :]
    assert pack_nibbles(row, 1).tobytes().hex() == "98badcfe"
    both = np.stack([np.arange(-8, 0), np.arange(8)])
    assert pack_nibbles(both, 0).tobytes().hex() == "08192a3b4c5d6e7f"
    for axis in (0, 1):
        packed = pack_nibbles(both, axis)
        assert np.array_equal(int4_of_nibble(unpack_nibbles(packed, axis)), both)


def test_worked_numbers_of_the_format():
    x = np.array([[1, -3, 0.5, 4]], dtype=np.float32)
    codes = layer_oracle.per_token(x, 127).codes
    assert codes.tolist() == [[32, -95, 16, 127]]
    row = np.array([[0, 8, 64, 512] + [0] * 28], dtype=np.float32)
    codes, byte = layer_oracle.microscaled(row, E4M3)
    assert byte.tolist() == [[128]] and E4M3.decode(codes)[0, :4].tolist() == [0, 4, 32, 256]
    dual = layer_oracle.dual_activation(np.full((1, 512), 8, dtype=np.float32))
    assert dual.dual[0, 0] == np.float32(8 / 6) and set(dual.scale[0]) == {127}
    assert set(dual.codes[0]) == {7}


def test_dequantized_weights_agree_with_float64_matmul():
    for case in CASES:
        if case.mode == "static" or case.rank:
            continue
        tensors = layer_tensors(case)
        x = make_goldens.inputs_of(case)[""]
        output = layer_oracle.linear(tensors, case.algorithm, case.mode, None, case.n, x)
        layer = layer_oracle.Layer(tensors)
        if layer_oracle.base_label(case.algorithm) in layer_oracle.MX:
            w = layer_oracle.mx_weight(layer, case.algorithm, case.k)
        else:
            w = layer_oracle.int_weight(layer, case.algorithm, case.n, case.k)
        y = output.x.values @ w.T + layer.bias(case.n)
        assert np.abs(y - output.y).max() <= 1e-12 * output.bound.max(), case.name


def test_quantized_inputs_are_near_the_inputs():
    """A quantizer that is too good or too bad is another one."""
    worst = {"int8": 0.03, "int4": 0.35, "mxfp8": 0.07, "mxfp4": 0.35}
    for case in CASES:
        if case.mode != "dynamic":
            continue
        tensors = layer_tensors(case)
        x = make_goldens.inputs_of(case)[""][:1]
        output = layer_oracle.linear(tensors, case.algorithm, case.mode, None, case.n, x)
        smooth = layer_oracle.Layer(tensors).outer("div.mul_scale")
        if smooth is not None:
            x = x * layer_oracle.floats(smooth)
        error = np.linalg.norm(output.x.values - x) / np.linalg.norm(x)
        kind = (
            ("mxfp8" if case.algorithm == "W8A8_MXFP8" else "mxfp4")
            if layer_oracle.base_label(case.algorithm) in layer_oracle.MX
            else ("int4" if case.algorithm == "W4A4_DYNAMIC" else "int8")
        )
        assert worst[kind] / 10 < error < worst[kind], (case.name, error)


def test_every_label_has_a_case():
    labels = {case.algorithm for case in CASES}
    assert labels == {
        "W8A16", "W4A16", "W4A16_AWQ", "W4A8_AWQ", "W8A16_GPTQ", "W4A16_GPTQ", "W8A8",
        "W8A8_TIMESTEP", "W8A8_DYNAMIC", "W8A8_PER_CHANNEL", "W8A8_PER_TENSOR",
        "W8A8_PER_CHANNEL_PER_TOKEN", "W8A8_PER_CHANNEL_PER_TENSOR", "W8A8_PER_TENSOR_PER_TOKEN",
        "W8A8_MXFP8", "W4A4_DYNAMIC", "W4A4_MXFP4", "W4A4_MXFP4_DUALSCALE", "W4A4_MXFP4_SVD",
        "W8A8_SVD_DYNAMIC",
    }  # fmt: skip


def test_committed_files_are_what_the_oracle_writes():
    assert make_goldens.check(make_goldens.all_files()) == []


def test_the_safetensors_library_reads_the_same():
    paths = sorted(make_goldens.FOLDER.rglob("*.safetensors"))
    assert paths
    for path in paths:
        mine, metadata = parse(path.read_bytes())
        with safe_open(path, "pt") as file:
            assert file.metadata() == metadata
            assert set(file.keys()) == set(mine)
            for name, tensor in mine.items():
                theirs = file.get_tensor(name).contiguous()
                assert list(theirs.shape) == list(tensor.array.shape)
                assert theirs.view(torch.uint8).numpy().tobytes() == tensor.array.tobytes()


def test_files_stay_small():
    assert sum(p.stat().st_size for p in make_goldens.FOLDER.rglob("*.safetensors")) <= 300_000


def read(name):
    return parse((make_goldens.FOLDER / name).read_bytes())[0]


def test_exported_int_weights_are_within_half_a_step():
    """Half a step, and what rounding s to bf16 takes from the largest."""
    for name, largest in (("int8", 127), ("int4_channel", 7)):
        file = read(f"weights/{name}.safetensors")
        w, scale = file["w"].array, file["weight_scale"].array
        codes = file["weight"].array
        if largest == 7:
            codes = int4_of_nibble(unpack_nibbles(codes, 1))
        assert np.abs(codes).max() == largest
        assert np.array_equal(round_bf16(scale), scale)
        error = np.abs(codes * scale.astype(np.float64) - w)
        assert (error <= scale * (0.5 + 2.0**-8 * largest)).all()


def block_errors(w, codes, byte, fmt):
    values = fmt.decode(codes) * layer_oracle.per_block(e8m0_value(byte), 32, w.shape[1])
    return (layer_oracle.blocks_of(values - w, 32) ** 2).sum(axis=2)


@pytest.mark.parametrize("fmt", [E4M3, E2M1])
def test_exported_mx_scales_are_the_best_of_all(fmt):
    """No byte at all beats the three candidates on these weights, and floor alone is beaten."""
    w = read("weights/mxfp4.safetensors")["w"].array[:3].astype(np.float64)
    codes, byte = mx_export(w.astype(np.float32), fmt)
    mine = block_errors(w, codes, byte, fmt)
    for shift in range(-6, 7):
        other = (byte.astype(int) + shift).astype(np.uint8)
        scaled = w / layer_oracle.per_block(e8m0_value(other), 32, w.shape[1])
        assert (
            mine <= block_errors(w, fmt.encode(scaled, Ties.EVEN), other, fmt) * (1 + 1e-12)
        ).all()
    floor_codes, floor_byte = layer_oracle.microscaled(w.astype(np.float32), fmt)
    assert mine.sum() < block_errors(w, floor_codes, floor_byte, fmt).sum()


def test_worked_numbers_of_upstream_s_exporter():
    w = np.zeros((1, 64), dtype=np.float32)
    w[0, :4], w[0, 32] = [1, -0.3, 0.001, 1.74609375], -3
    codes, byte = mxfp8_upstream(w, E4M3)
    assert byte.tolist() == [[119, 120]]
    assert codes[0, :4].tobytes().hex() == "78ea287e" and codes[0, 32] == 0xFC
    for amax, expected in ((0.875, 125), (1.75, 126), (3.5, 127), (6, 127), (7, 128), (12, 128)):
        _, byte = mxfp4_upstream(np.full((1, 32), amax, dtype=np.float32))
        assert byte[0, 0] == expected
    assert mxfp4_upstream(np.zeros((1, 32), dtype=np.float32))[1][0, 0] == 105
    row = np.zeros((1, 512), dtype=np.float32)
    row[0, 0], row[0, 1], row[0, 32] = 12, -6, 1
    codes, byte, dual = dual_upstream(row)
    assert dual[0, 0] == 2 and byte[0].tolist() == [127, 124] + [105] * 14
    assert pack_nibbles(codes, 1)[0, [0, 16]].tolist() == [0xD7, 0x06]
    for low, high, scale, offset in ((-1, 2, 0.01176471, -43), (0.5, 3, 0.01176471, -128)):
        _, s, o = int_upstream(np.array([[low, high]], dtype=np.float32), 8, False, 0)
        assert abs(s[0, 0] - scale) < 1e-8 and o[0, 0] == offset


def torch_attention(case, b, head, quantized):
    """softmax(q k^T scale) v in float64, of the inputs or of what their codes stand for."""
    q, k, v = attention_cases.inputs_of(case)
    kv, keys = head * case.kv_heads // case.heads, slice(0, case.kv_length[b])
    parts = [q[b, :, head], k[b, keys, kv], v[b, keys, kv]]
    if quantized:
        rotation = attention_cases.rotation_of(case)
        parts[:2] = [parts[0] @ rotation, parts[1] @ rotation]
        rows = (attention_oracle.Q_ROWS, attention_oracle.KV_ROWS, attention_oracle.KV_ROWS)
        parts = [
            attention_oracle.values_of(*attention_oracle.block_quantized(x, n), n)
            for x, n in zip(parts, rows)
        ]
    q, k, v = (torch.from_numpy(np.asarray(x, np.float64))[None, None] for x in parts)
    scale = float(np.float32(case.scale))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
    return y[0, 0, list(case.rows)].numpy()


@pytest.mark.parametrize("case", attention_cases.CASES, ids=lambda case: case.name)
def test_attention_agrees_with_torch(case):
    """Without P's rounding to within 4 %, as it should be; without any rounding exactly."""
    file = read(f"attention/{case.name}.safetensors")
    y, y_float = file["y"].array, file["y_float"].array
    for b, head in np.ndindex(case.batch, case.heads):
        exact = torch_attention(case, b, head, quantized=False)
        assert np.abs(y_float[b, head] - exact).max() < 1e-6
        dequantized = torch_attention(case, b, head, quantized=True)
        error = np.linalg.norm(y[b, head] - dequantized) / np.linalg.norm(dequantized)
        assert 1e-4 < error < 0.04, error  # 0 would be attention without FP8 P


def test_block_scales_are_amax_over_448():
    x = np.full((300, 4), 2, dtype=np.float32)
    x[130] = 448
    codes, scales = attention_oracle.block_quantized(x, 128)
    assert scales.tolist() == [np.float32(2) / np.float32(448), 1, np.float32(2) / np.float32(448)]
    assert set(codes[:128].ravel()) == {0x7E} and codes[130, 0] == 0x7E
    assert np.array_equal(attention_oracle.block_quantized(x * 0, 128)[0], x * 0)
