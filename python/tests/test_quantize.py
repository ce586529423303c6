"""quantize() of every file that upstream's exporter made, against the C++ runtime."""

import copy
import io
import pickle
import shutil

import pytest
import torch
from safetensors import safe_open
from torch import nn
from upstream_models import LINEAR_FOLDERS, UPSTREAM, TinyModel, float_model, input_of

import mezzotint
from mezzotint import QuantLinear, quantize


@pytest.fixture(scope="module", params=LINEAR_FOLDERS)
def folder(request):
    return request.param


@pytest.fixture(scope="module")
def model(folder):
    return quantize(float_model(folder), UPSTREAM / folder)


def quantized_layers(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, QuantLinear)}


def tensors_of(folder):
    """Every tensor of a folder's weight files."""
    tensors = {}
    for path in (UPSTREAM / folder).glob("quant_model_weight*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


def assert_same_bytes(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def test_the_folders_are_all_of_them():
    assert len(LINEAR_FOLDERS) == 26


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_those_of_the_cpp_runtime_bit_for_bit(model, folder, dtype):
    layers = quantized_layers(model)
    assert layers
    for name, layer in layers.items():
        runtime = mezzotint.load_linear(UPSTREAM / folder, name)
        x = input_of(layer.in_features).to(dtype)
        y = layer(x)
        assert y.dtype == dtype and y.shape == (3, layer.out_features)
        bits = x.view(torch.uint16) if dtype == torch.bfloat16 else x
        expected = torch.from_numpy(runtime.run(bits.numpy()))
        assert torch.equal(y, expected.view(dtype) if dtype == torch.bfloat16 else expected)
        assert not torch.equal(y, layer(x * 1.01)), "the comparison sees a small difference"


def test_every_layer_is_quantized_or_has_a_reason(model, folder):
    report = model.mezzotint_report
    layers = quantized_layers(model)
    assert {row.name for row in report.quantized} == set(layers)
    linears = {name for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    assert {row.name for row in report.kept} == linears
    for row in report.quantized:
        layer = layers[row.name]
        assert (row.algorithm, row.bytes_after) == (layer.algorithm, layer.nbytes)
        assert (row.out_features, row.in_features) == (layer.out_features, layer.in_features)
    assert report.unmatched == []


def test_state_dict_is_the_file(model, folder):
    stored = tensors_of(folder)
    state = model.state_dict()
    float_names = set(float_model(folder).state_dict())
    for name, tensor in state.items():
        layer = next((l for l in quantized_layers(model) if name.startswith(l + ".")), None)
        if layer is None:
            assert name in float_names
            continue
        assert_same_bytes(tensor, stored[name])
    for layer in quantized_layers(model):
        below = {name for name in stored if name.startswith(layer + ".")}
        assert below == {name for name in state if name.startswith(layer + ".")}
    assert not any("packed" in name for name in state)


def test_load_state_dict_packs_again(model, folder):
    state = model.state_dict()
    other = copy.deepcopy(model)
    for layer in quantized_layers(other).values():
        layer.packed[64:96] ^= 1  # codes, no header
    x = input_of(1088 if "dualscale" in folder else 64)
    assert not torch.equal(other(x), model(x))
    assert other.load_state_dict(state) == ([], [])
    assert torch.equal(other(x), model(x))
    for layer in quantized_layers(other).values():
        assert layer.packed.data_ptr() % 64 == 0


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: saved_and_loaded(m),
    ],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_copies_compute_the_same(model, folder, copied):
    again = copied(model)
    x = input_of(1088 if "dualscale" in folder else 64)
    assert torch.equal(again(x), model(x))
    assert again.mezzotint_report == model.mezzotint_report
    for name, layer in quantized_layers(again).items():
        original = quantized_layers(model)[name]
        assert layer.packed.data_ptr() != original.packed.data_ptr()
        assert torch.equal(layer.packed, original.packed)
        assert repr(layer) == repr(original)


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_state_dict_travels_through_torch_save(model, folder):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = input_of(1088 if "dualscale" in folder else 64)
    assert torch.equal(other(x), model(x))


def test_a_file_of_other_numbers_loads_into_the_same_model():
    """Two folders of one algorithm, one packed along K and one unpacked."""
    a = quantize(float_model("tiny"), UPSTREAM / "old_w4a16_ascend_packed_k")
    b = quantize(float_model("tiny"), UPSTREAM / "old_w4a16_gptq")
    x = input_of(64)
    assert not torch.equal(a(x), b(x))
    a.load_state_dict(b.state_dict())
    assert torch.equal(a(x), b(x))
    assert a.state_dict()["blocks.0.to_q.weight"].shape == (10, 64)


def test_missing_and_unexpected_keys_are_named():
    model = quantize(float_model("tiny"), UPSTREAM / "w8a8_dynamic")
    state = model.state_dict()
    del state["blocks.0.to_q.weight_scale"]
    state["blocks.0.to_q.strange"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r"Missing.*to_q.weight_scale"):
        model.load_state_dict(state)
    state = model.state_dict()
    before = model(input_of(64))
    with pytest.raises(RuntimeError, match=r"Unexpected.*blocks.0.to_q.strange"):
        model.load_state_dict({**state, "blocks.0.to_q.strange": torch.zeros(1)})
    assert torch.equal(model(input_of(64)), before)
    assert model.state_dict().keys() == state.keys()
    assert model.load_state_dict({}, strict=False).missing_keys
    assert torch.equal(model(input_of(64)), before)


def test_a_wrong_tensor_is_an_error_of_the_format():
    model = quantize(float_model("tiny"), UPSTREAM / "w8a8_dynamic")
    before = model(input_of(64))
    state = model.state_dict()
    state["blocks.0.to_q.weight_scale"] = state["blocks.0.to_q.weight_scale"][:-1]
    with pytest.raises(RuntimeError, match=r"weight_scale has the wrong shape.*blocks.0.to_q"):
        model.load_state_dict(state)
    assert torch.equal(model(input_of(64)), before)


def test_one_line_is_printed(capsys):
    quantize(float_model("tiny"), UPSTREAM / "w8a8_dynamic")
    out = capsys.readouterr().out
    assert out == "mezzotint: 4 quantized, 1 kept float, 0 unmatched; 0.0 MB -> 0.0 MB\n"


def test_repr_shows_algorithm_bits_group_and_bytes():
    model = quantize(float_model("tiny"), UPSTREAM / "old_w4a16_group32")
    layer = model.blocks[0].to_q
    assert repr(layer) == (
        f"QuantLinear(in_features=64, out_features=10, bias=True, W4A16, 4 bits, group=32, "
        f"{layer.nbytes} bytes)"
    )


def test_a_failed_call_leaves_the_model_as_it_was():
    model = float_model("tiny")
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    with pytest.raises(mezzotint.Error):
        quantize(model, UPSTREAM / "w4a4_mxfp4_dualscale")
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert not hasattr(model, "mezzotint_report")


def test_training_mode_is_kept():
    model = float_model("tiny").train()
    assert quantize(model, UPSTREAM / "w8a8_dynamic").blocks[0].to_q.training


def test_upstreams_own_numbers_on_request(tmp_path):
    """Weight-only layers of upstream round the product of code and scale to bf16."""
    folder = shutil.copytree(UPSTREAM / "w8a16_ascend", tmp_path / "w8a16")
    for file in folder.iterdir():
        file.chmod(0o640)
    weights = folder / "quant_model_weights.safetensors"
    weights.rename(folder / "quant_model_weight_w8a16.safetensors")
    ours = quantize(float_model("tiny"), folder)
    theirs = quantize(float_model("tiny"), folder, compat="upstream")
    x = input_of(64).bfloat16()
    assert not torch.equal(ours.blocks[0].to_q(x), theirs.blocks[0].to_q(x))
    assert torch.equal(pickle.loads(pickle.dumps(theirs)).blocks[0].to_q(x), theirs.blocks[0].to_q(x))


def test_shared_modules_are_replaced_everywhere(tmp_path):
    model = TinyModel()
    model.alias = model.blocks[0].to_q
    quantize(model, UPSTREAM / "w8a8_dynamic")
    assert model.alias is model.blocks[0].to_q
    assert isinstance(model.alias, QuantLinear)
