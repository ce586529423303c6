"""save(): folders that stand alone, and report()."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from upstream_models import LINEAR_FOLDERS, UPSTREAM, TinyModel, float_model, input_of

import mezzotint
from mezzotint import QuantLinear, quantize, quantize_model, save


def outputs(model):
    with torch.no_grad():
        return model(input_of(1088 if hasattr(model.blocks[0], "wide") else 64))


def check(folder):
    command = [sys.executable, "-m", "mezzotint", "inspect", str(folder), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", LINEAR_FOLDERS)
def test_what_was_loaded_is_saved_byte_for_byte(tmp_path, folder):
    model = quantize(float_model(folder), UPSTREAM / folder)
    save(model, tmp_path / "out")
    again = quantize(float_model(folder), tmp_path / "out")
    assert torch.equal(outputs(again), outputs(model))
    a, b = model.state_dict(), again.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name].contiguous().view(torch.uint8), b[name].contiguous().view(torch.uint8))


@pytest.mark.parametrize("algo", ["w8a8_dynamic", "w4a16", "w4a4_mxfp4_svd"])
def test_what_was_quantized_in_memory(tmp_path, algo):
    model = quantize_model(float_model("tiny"), algo=algo, exclude=["*.to_k"])
    save(model, tmp_path / "out")
    check(tmp_path / "out")
    again = quantize(float_model("tiny"), tmp_path / "out")
    assert torch.equal(outputs(again), outputs(model))
    layer = mezzotint.load_linear(tmp_path / "out", "blocks.0.to_q")  # by C++ alone
    x = input_of(64).float()
    assert torch.equal(torch.from_numpy(layer.run(x.numpy())), model.blocks[0].to_q(x))
    descriptor = json.loads(next((tmp_path / "out").glob("quant_model_description*")).read_text())
    assert descriptor["blocks.0.to_k.weight"] == "FLOAT"
    assert "--exclude" in descriptor["metadata"]["mezzotint"]["kept:blocks.0.to_k"]
    with torch.device("meta"):
        empty = TinyModel()
    assert torch.equal(outputs(quantize(empty, tmp_path / "out")), outputs(model))


def test_the_tensors_are_those_of_an_export(tmp_path):
    from safetensors.torch import load_file, save_file

    save_file(float_model("tiny").state_dict(), tmp_path / "m.safetensors")
    command = [sys.executable, "-m", "mezzotint", "quantize", str(tmp_path / "m.safetensors"), "--algo"]
    subprocess.run([*command, "w8a16", "-o", str(tmp_path / "exported")], check=True, capture_output=True)
    save(quantize_model(float_model("tiny"), algo="w8a16"), tmp_path / "saved")
    name = "quant_model_weight_w8a16.safetensors"
    a, b = load_file(tmp_path / "exported" / name), load_file(tmp_path / "saved" / name)
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]), key


def test_attention_and_shards(tmp_path):
    from upstream_models import attention_model

    model = quantize(attention_model(), UPSTREAM / "fp8_attention")
    save(model, tmp_path / "out", max_shard_size=4096)
    assert len(list((tmp_path / "out").glob("*-of-*.safetensors"))) > 1
    check(tmp_path / "out")
    again = quantize(attention_model(), tmp_path / "out")
    x = input_of(32).reshape(1, 3, 32)
    assert torch.equal(again(x), model(x))


def test_nothing_is_replaced_unasked_and_nothing_half_written(tmp_path):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    save(model, tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    with pytest.raises(mezzotint.Error, match="out"):
        save(model, tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    with torch.no_grad():
        model.head.bias += 1
    save(model, tmp_path / "out", overwrite=True)
    with torch.device("meta"):
        empty = TinyModel()
    assert torch.equal(outputs(quantize(empty, tmp_path / "out")), outputs(model))
    with pytest.raises(ValueError, match="has no quantized layer"):
        save(float_model("tiny"), tmp_path / "float")
    model.head.to("meta")
    with pytest.raises(ValueError, match="head.weight is on the meta device"):
        save(model, tmp_path / "meta")
    with pytest.raises(ValueError, match="'5GB', got '5XB'"):
        save(quantize_model(float_model("tiny"), algo="w8a16"), tmp_path / "x", max_shard_size="5XB")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


# --- report() ----------------------------------------------------------------------------------------


def test_a_report_names_the_worst_layer(tmp_path):
    reference = float_model("tiny")
    model = quantize_model(
        copy.deepcopy(reference), algo="w8a16", rules={"*.ff_in": "w4a4_mxfp4", "*.to_k": "float"}
    )
    result = mezzotint.report(reference, model, (input_of(64),))
    assert result.worst[0].name == "blocks.0.ff_in"
    assert {layer.name for layer in result.layers} == {
        name for name, m in model.named_modules() if isinstance(m, QuantLinear)
    }
    assert set(result.kept) == {"blocks.0.to_k", "head"}
    by_name = {layer.name: layer for layer in result.layers}
    x = reference.blocks[0].norm(input_of(64))
    exact, made = reference.blocks[0].to_q(x), model.blocks[0].to_q(x)
    expected = 10 * torch.log10((exact**2).sum() / ((exact - made) ** 2).sum())
    assert by_name["blocks.0.to_q"].output_sqnr_db == pytest.approx(float(expected), rel=1e-4)
    error = outputs(model) - outputs(reference)
    expected = 10 * torch.log10((outputs(reference) ** 2).sum() / (error**2).sum())
    assert result.output_sqnr_db == pytest.approx(float(expected), rel=1e-4)
    for ending in ("html", "json", "md"):
        result.save(tmp_path / f"r.{ending}")
        assert "blocks.0.ff_in" in (tmp_path / f"r.{ending}").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["layers"][0]["algorithm"]
    assert "http" not in (tmp_path / "r.html").read_text()
    assert "worst layer blocks.0.ff_in" in str(result)


def test_equal_models_and_wrong_calls():
    model = quantize_model(float_model("tiny"), algo="w8a16")
    with pytest.raises(ValueError, match="layer blocks.0.to_q should be float, it is quantized"):
        mezzotint.report(model, model, (input_of(64),))
    with pytest.raises(ValueError, match="it has no quantized layer"):
        mezzotint.report(float_model("tiny"), float_model("tiny"), (input_of(64),))
    with pytest.raises(ValueError, match="ends in .html, .json or .md"):
        mezzotint.report(float_model("tiny"), model, lambda m: m(input_of(64))).save("r.pdf")
    assert isinstance(model.head, nn.Linear)
