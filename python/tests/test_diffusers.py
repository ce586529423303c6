"""A model of diffusers: nothing in it knows of us."""

import pytest
import torch
from pipelines import tiny_flux

from mezzotint import QuantLinear, quantize_model
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.report import Report


@pytest.fixture
def flux():
    return tiny_flux()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(2)
    return {
        "hidden_states": torch.randn(1, 16, 4, generator=generator),
        "encoder_hidden_states": torch.randn(1, 8, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.randn(16, 3, generator=generator).round(),
        "txt_ids": torch.zeros(8, 3),
    }


def run(model, inputs, dtype=torch.float32):
    with torch.inference_mode():
        narrowed = {name: x.to(dtype) if x.ndim > 1 else x for name, x in inputs.items()}
        return model(**narrowed).sample.float()


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flux_runs_quantized(flux, inputs, dtype):
    exact = run(flux, inputs)
    quantize_model(flux, algo="w8a8_dynamic", exclude=["proj_out", "*norm*"], preset="none")
    names = [name for name, m in flux.named_modules() if isinstance(m, QuantLinear)]
    assert "transformer_blocks.0.attn.to_q" in names and "proj_out" not in names
    assert 1e-3 < relative(run(flux.to(dtype), inputs, dtype), exact) < 0.05
    assert flux.dtype == dtype


def test_attention_of_flux_becomes_fp8(flux, inputs):
    exact = run(flux, inputs)
    report = Report()
    for name, module in list(flux.named_modules()):
        if name.endswith(".attn"):
            add_fa_quant(
                module, FP8Attention(name, torch.eye(16), torch.eye(16)), strict=True, report=report
            )
    assert 1e-4 < relative(run(flux, inputs), exact) < 0.05
