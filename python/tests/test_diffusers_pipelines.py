"""Five families of diffusers, quantized while they are loaded, saved, and loaded again."""

import json
import subprocess
import sys
from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers import PipelineQuantizationConfig
from pipelines import FAMILIES, latents, padding, transformer

import mezzotint
from mezzotint import MezzotintConfig, QuantLinear, quantize_model
from mezzotint.attention import FP8Attention

WISHES = {"algo": "w8a8_dynamic", "attention": "fp8_dynamic"}
SAME = 1e-6  # relative: torch's float layers round differently where weights lie differently in memory


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


def layers(model, kind=QuantLinear):
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


class Folders:
    """Of one family: its float model, saved, and what became of it."""

    def __init__(self, name, root):
        self.name = name
        self.cls = getattr(diffusers, FAMILIES[name].transformer)
        self.float_folder, self.quantized_folder = root / "float", root / "quantized"
        model = transformer(name)
        model.save_pretrained(self.float_folder)
        self.exact = latents(name, model)
        self.quantized = self.load(self.float_folder, MezzotintConfig(**WISHES))
        self.quantized.save_pretrained(self.quantized_folder)

    def load(self, folder, config=None, **options):
        return self.cls.from_pretrained(folder, quantization_config=config, **options)


@pytest.fixture(scope="module", params=FAMILIES)
def folders(request, tmp_path_factory):
    return Folders(request.param, tmp_path_factory.mktemp(request.param))


def test_every_layer_is_replaced_or_kept_by_the_preset(folders):
    family = FAMILIES[folders.name]
    report = folders.quantized.mezzotint_report
    assert len(layers(folders.quantized)) == family.linears - family.kept
    assert len(layers(folders.quantized, torch.nn.Linear)) == family.kept == len(report.kept)
    assert len(layers(folders.quantized, FP8Attention)) == family.attentions
    assert all(row.reason for row in report.kept)
    assert not any(tensor.is_meta for tensor in folders.quantized.state_dict().values())


def test_the_pipeline_runs_near_float(folders):
    y = latents(folders.name, folders.quantized)
    error = FAMILIES[folders.name].error
    assert error / 4 < relative(y, folders.exact) < error


def test_the_bound_sees_one_wrong_layer(folders):
    family, model = FAMILIES[folders.name], folders.load(folders.quantized_folder)
    model.get_submodule(family.sensitive).weight_scale *= 2
    assert relative(latents(folders.name, model), folders.exact) > 4 * family.error


def test_it_is_what_quantize_model_makes(folders):
    model = quantize_model(transformer(folders.name), **WISHES)
    a, b = folders.quantized.state_dict(), model.state_dict()
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]), key
    y = latents(folders.name, folders.quantized)
    assert relative(latents(folders.name, model), y) < SAME < relative(folders.exact, y)


def test_a_saved_model_is_loaded_again(folders, tmp_path):
    again = folders.load(folders.quantized_folder)
    assert layers(again).keys() == layers(folders.quantized).keys()
    a, b = again.state_dict(), folders.quantized.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert layers(again, FP8Attention).keys() == layers(folders.quantized, FP8Attention).keys()
    y = latents(folders.name, folders.quantized)
    assert relative(latents(folders.name, again), y) < SAME
    again.save_pretrained(tmp_path)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (tmp_path / file).stat().st_size > 0
    saved = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert saved["quant_method"] == "mezzotint"
    assert set(saved["layers"].values()) == {"W8A8_DYNAMIC"}


def test_files_hold_codes(folders):
    def size(folder):
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    report = folders.quantized.mezzotint_report
    saved = report.bytes_before - report.bytes_after
    assert saved > 0
    assert size(folders.quantized_folder) < size(folders.float_folder) - saved / 2


# --- on one family --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return Folders("flux", tmp_path_factory.mktemp("flux"))


def test_shards_are_read_one_after_the_other(flux, tmp_path):
    transformer("flux").save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 3
    model = flux.load(tmp_path / "shards", MezzotintConfig(**WISHES))
    y = latents("flux", flux.quantized)
    assert relative(latents("flux", model), y) < SAME
    model.save_pretrained(tmp_path / "quantized", max_shard_size="50KB")
    again = flux.load(tmp_path / "quantized")
    assert relative(latents("flux", again), y) < SAME
    assert layers(again).keys() == layers(flux.quantized).keys()


def test_the_dtype_of_what_stays_float(flux):
    model = flux.load(flux.float_folder, MezzotintConfig(**WISHES), torch_dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    a, b = layers(model), layers(flux.quantized)
    assert all(torch.equal(a[name].packed, b[name].packed) for name in b)
    assert all(a[name].weight_scale.dtype == torch.float32 for name in b)


def test_what_stays_float_by_wish(flux):
    model = flux.load(
        flux.float_folder,
        MezzotintConfig(
            algo="w4a16", rules={"*.ff.*": "w8a8_dynamic"}, exclude=["*proj_mlp"],
            modules_to_not_convert=["attn", "norm1.linear"], preset="none",
        ),
    )  # fmt: skip
    found = {name: layer.algorithm for name, layer in layers(model).items()}
    assert found["transformer_blocks.0.ff.net.2"] == "W8A8_DYNAMIC"
    assert found["proj_out"] == "W4A16"
    assert not any(".attn." in name or "proj_mlp" in name for name in found)
    assert "transformer_blocks.0.norm1.linear" not in found
    assert "transformer_blocks.0.norm1_context.linear" in found


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({}, TypeError, "give algo=, rules= or attention="),
        ({"algo": "w8a9"}, mezzotint.Error, "unknown algorithm.*w8a9"),
        ({"algo": "w8a16", "modules_to_not_convert": ["to_x"]}, mezzotint.Error, "to_x.*matches no"),
        ({"algo": "w8a16", "preset": "fluxx"}, ValueError, "did you mean flux"),
        ({"attention": "fp4"}, ValueError, "expected 'fp8_dynamic.*got 'fp4'"),
        ({"attention": "fp8_dynamic:*.atn"}, ValueError, r"\*.atn matches no attention.*attn"),
        ({"algo": "w8a16", "devcie": "cpu"}, TypeError, "devcie"),
    ],
)
def test_wrong_configs_are_refused(flux, config, error, words):
    with pytest.raises(error, match=words):
        flux.load(flux.float_folder, MezzotintConfig(**config))


def test_weights_that_are_not_there_are_named(flux, tmp_path):
    from safetensors.torch import load_file, save_file

    flux.quantized.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["transformer_blocks.0.attn.to_q.weight"]
    save_file(tensors, file)
    with pytest.raises(ValueError, match="not all of their tensors: transformer_blocks.0.attn.to_q$"):
        flux.load(tmp_path)


def test_other_devices_are_refused(flux):
    with pytest.raises(ValueError, match="device_map: expected None or 'cpu'"):
        flux.load(flux.float_folder, MezzotintConfig(**WISHES), device_map={"": "meta"})
    assert layers(flux.load(flux.float_folder, MezzotintConfig(**WISHES), device_map="cpu"))


def test_a_whole_pipeline(flux, tmp_path):
    """Quantized by its own kind of config, saved, and found again without one."""
    absent = dict.fromkeys(FAMILIES["flux"].components)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    pipe = diffusers.FluxPipeline(scheduler=scheduler, transformer=transformer("flux"), **absent)
    pipe.save_pretrained(tmp_path / "float")
    config = PipelineQuantizationConfig(quant_mapping={"transformer": MezzotintConfig(**WISHES)})
    load = diffusers.FluxPipeline.from_pretrained
    quantized = load(tmp_path / "float", quantization_config=config, **absent)
    y = latents("flux", flux.quantized)
    assert relative(latents("flux", quantized.transformer), y) < SAME
    quantized.save_pretrained(tmp_path / "quantized")
    again = load(tmp_path / "quantized", **absent)
    assert relative(latents("flux", again.transformer), y) < SAME


def test_what_quantize_made_is_saved_as_well(flux, tmp_path):
    model = quantize_model(transformer("flux"), algo="w4a16", group_size=32)
    model.save_pretrained(tmp_path)
    again = flux.load(tmp_path)
    assert "group=32" in repr(again.transformer_blocks[0].attn.to_q)
    assert relative(latents("flux", again), latents("flux", model)) < SAME


def test_padding_between_text_and_image_does_not_count():
    """Qwen-Image attends to [text, padding, image]. Its queries share blocks, hence scales, with
    padding, so that the result is not the same to the last bit."""
    model = quantize_model(transformer("qwen_image"), **WISHES)
    expected = latents("qwen_image", model)
    family = FAMILIES["qwen_image"]
    embeds = family.inputs["prompt_embeds"].clone()
    embeds[:, 5:] *= -3

    def of_mask(valid):
        inputs = {**family.inputs, "prompt_embeds": embeds, "prompt_embeds_mask": padding(valid)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(FAMILIES, "qwen_image", replace(family, inputs=inputs))
            return latents("qwen_image", model)

    assert relative(of_mask(5), expected) < family.error < relative(of_mask(8), expected)


@pytest.mark.parametrize("first", ["mezzotint", "diffusers", "diffusers.quantizers"])
def test_it_is_registered_whoever_is_imported_first(first):
    code = f"""
import {first}, mezzotint, diffusers
from diffusers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as configs
print(configs["mezzotint"] is mezzotint.MezzotintConfig)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
