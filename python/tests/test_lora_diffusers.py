"""diffusers' own LoRA loader, by peft, on quantized pipelines."""

import subprocess
import sys

import diffusers
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from pipelines import FAMILIES, latents, transformer
from torch import nn

import mezzotint
from mezzotint import QuantLinear, quantize_model

pytest.importorskip("peft")


def pipeline(family, model):
    absent = dict.fromkeys(FAMILIES[family].components)
    cls = getattr(diffusers, FAMILIES[family].pipeline)
    return cls(scheduler=FlowMatchEulerDiscreteScheduler(), transformer=model, **absent)


def lora_of(model, every=3, seed=1, scale=0.05):
    """Keys as diffusers writes them, for some of all linears."""
    generator = torch.Generator().manual_seed(seed)
    linears = [(n, m) for n, m in model.named_modules() if isinstance(m, (QuantLinear, nn.Linear))]
    state = {}
    for name, layer in linears[::every]:
        down = torch.randn(4, layer.in_features, generator=generator) * scale
        state[f"transformer.{name}.lora_A.weight"] = down
        state[f"transformer.{name}.lora_B.weight"] = torch.randn(layer.out_features, 4, generator=generator)
    return state


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_load_lora_weights_is_load_lora(family):
    model = quantize_model(transformer(family), algo="w8a16")
    pipe, lora, plain = pipeline(family, model), lora_of(model), latents(family, model)
    pipe.load_lora_weights(dict(lora), adapter_name="style")
    theirs = latents(family, model)
    pipe.set_adapters("style", 0.25)
    quarter = latents(family, model)
    pipe.unload_lora_weights()
    assert torch.equal(latents(family, model), plain)
    report = mezzotint.load_lora(model, lora)
    assert len(report.matched) == len(lora) // 2
    change = relative(theirs, plain)
    assert relative(theirs, latents(family, model)) < 1e-3 * change
    mezzotint.set_lora_scale(model, "default", 0.25)
    assert relative(quarter, latents(family, model)) < 1e-3 * change < 0.5 * relative(quarter, plain)


def test_smoothed_and_packed_layers_take_it(tmp_path):
    """Their files hold another `weight` than the float layer, or none by that name."""
    model = transformer("flux")
    with mezzotint.collect(model, tmp_path / "stats.safetensors"):
        latents("flux", model)
    quantize_model(model, algo="w4a4_dynamic", stats=tmp_path / "stats.safetensors")
    pipe, lora, plain = pipeline("flux", model), lora_of(model), latents("flux", model)
    pipe.load_lora_weights(dict(lora), adapter_name="a")
    pipe.load_lora_weights(dict(lora), adapter_name="b")  # shapes are compared again, through peft's layers
    pipe.set_adapters(["a", "b"], [0.5, 0.5])
    theirs = latents("flux", model)
    pipe.unload_lora_weights()
    mezzotint.load_lora(model, lora)
    assert relative(theirs, latents("flux", model)) < 0.05 * relative(theirs, plain)


def test_what_cannot_be_says_so():
    model = quantize_model(transformer("flux"), algo="w8a8_dynamic")
    pipe, lora, plain = pipeline("flux", model), lora_of(model), latents("flux", model)
    key = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight"
    lora[key] = torch.randn(4, 65)
    lora[key.replace("_A", "_B")] = torch.randn(64, 4)
    with pytest.raises(ValueError, match=r"to_q.lora_A.weight: expected a factor for 64 features, got \[4, 65\]"):
        pipe.load_lora_weights(dict(lora))
    assert torch.equal(latents("flux", model), plain)
    pipe.load_lora_weights(lora_of(model))
    with_lora = latents("flux", model)
    with pytest.raises(RuntimeError, match="is quantized: LoRA stays beside its weight"):
        pipe.fuse_lora()
    pipe.unfuse_lora()
    assert relative(latents("flux", model), with_lora) < 1e-5


@pytest.mark.parametrize("first", ["peft", "mezzotint"])
def test_every_configuration_knows_quantized_layers(first):
    second = {"peft": "mezzotint", "mezzotint": "peft"}[first]
    program = (
        f"import {first}, {second}, json; config = peft.LoraConfig(r=4); "
        "json.dumps(config.to_dict(), default=list); "
        "assert [c.__name__ for c in config._custom_modules] == ['QuantLinear']; "
        "assert 'QuantLinear' not in str(config.to_dict())"
    )
    subprocess.run([sys.executable, "-W", "error:mezzotint", "-c", program], check=True)
