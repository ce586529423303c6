"""fuse_blocks(): the same model, with what stands between its linears in C++."""

import copy
import pickle

import pytest
import torch
from torch import nn

from mezzotint import QuantLinear, fuse_blocks, load_lora, quantize_model, report, unfuse_blocks
from mezzotint._flux_blocks import FluxSingleTransformerBlock, FluxTransformerBlock

flux = pytest.importorskip("diffusers.models.transformers.transformer_flux")

CLOSE = 2e-6  # f32 sums in another order, relative to the output


@pytest.fixture(scope="module")
def float_model():
    torch.manual_seed(1)
    model = flux.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=4, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8), guidance_embeds=False,
    ).eval().requires_grad_(False)  # fmt: skip
    for name, parameter in model.named_parameters():
        if "norm_" in name:  # weights of 1 and biases of 0 hide mistakes
            parameter.copy_(torch.rand(parameter.shape) + 0.5)
    return model


def inputs(batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        "hidden_states": draw(batch, 16, 4).to(dtype),
        "encoder_hidden_states": draw(batch, 8, 32).to(dtype),
        "pooled_projections": draw(batch, 32).to(dtype),
        "timestep": torch.tensor([0.5, 0.25, 0.125])[:batch],  # times 1000 is a bf16 value
        "img_ids": draw(16, 3).round(),
        "txt_ids": torch.zeros(8, 3),
    }


def run(model, **how):
    with torch.no_grad():
        return model(**inputs(**{"dtype": model.dtype, **how})).sample.float()


def relative(a, b):
    return float((a - b).norm() / b.norm())


def quantized(model, **wishes):
    return quantize_model(copy.deepcopy(model), **{"algo": "w8a8_dynamic", **wishes})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_float_model_computes_the_same(float_model, dtype, batch):
    """In bf16 at least as near to float32 as before: it rounds less often."""
    model = copy.deepcopy(float_model).to(dtype)
    rounded = inputs(batch, dtype)
    with torch.no_grad():
        exact = copy.deepcopy(model).float()(**{k: x.float() for k, x in rounded.items()}).sample
    before = relative(run(model, batch=batch), exact)
    assert fuse_blocks(model) == 4
    after = relative(run(model, batch=batch), exact)
    assert 0 < after < (CLOSE if dtype == torch.float32 else 1.1 * before)  # 0: nothing else ran
    with torch.no_grad():
        model.single_transformer_blocks[1].norm.linear.bias.add_(0.5)
    assert relative(run(model, batch=batch), exact) > 2 * after + 1e-5


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"algo": "w4a4_mxfp4"},
        {"algo": "w8a16"},
        {"rules": {"*.to_k": "float", "*.proj_mlp": "w8a16", "*.ff.net.2": "float"}},
        {"attention": "fp8_dynamic"},
    ],
)
def test_a_quantized_model_computes_the_same(float_model, wishes):
    """A code that falls to the other side of a half moves y by a step: the error of the algorithm, not of ours."""
    model = quantized(float_model, **wishes)
    plain, exact = run(model), run(float_model)
    fuse_blocks(model)
    error = relative(run(model), plain)
    assert error < 0.3 * relative(plain, exact)
    unfuse_blocks(model)
    assert torch.equal(run(model), plain)


def test_layers_of_one_input_give_what_each_gives(float_model):
    """q, k and v share the codes of their input: bit for bit what they compute by themselves."""
    from mezzotint._token_ops import run_linears

    block = quantized(float_model, rules={"*.to_v": "w4a4_dynamic"}).single_transformer_blocks[0]
    layers = [block.attn.to_q, block.attn.to_k, block.attn.to_v, block.proj_mlp, nn.Linear(64, 8)]
    x = torch.randn(2, 5, 64)
    wide = torch.zeros(2, 5, 300)
    outs = [torch.empty(2, 5, layer.out_features) for layer in layers]
    outs[3] = wide[..., 7:263]
    with torch.no_grad():
        run_linears(layers, x, outs)
        for layer, out in zip(layers, outs):
            assert torch.equal(out, layer(x)), layer
    assert not wide[..., :7].any() and not wide[..., 263:].any()


def test_lora_offload_copies_and_state(float_model, tmp_path):
    from accelerate import cpu_offload

    model = quantized(float_model)
    keys = list(model.state_dict())
    fuse_blocks(model)
    plain = run(model)
    assert list(model.state_dict()) == keys
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(again.transformer_blocks[0], FluxTransformerBlock)
        assert torch.equal(run(again), plain)
    lora = {}
    for name in ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.proj_mlp"):
        layer = model.get_submodule(name)
        lora[f"{name}.lora_A.weight"] = torch.randn(2, layer.in_features) * 0.1
        lora[f"{name}.lora_B.weight"] = torch.randn(layer.out_features, 2) * 0.1
    load_lora(model, lora)
    with_lora = run(model)
    assert relative(with_lora, plain) > 1e-3
    unfuse_blocks(model)
    assert relative(run(model), with_lora) < 0.2 * relative(with_lora, plain)
    before = run(model)
    cpu_offload(model)
    fuse_blocks(model)
    assert torch.equal(run(model), before)  # hooks move weights: as diffusers wrote it


def test_it_steps_aside(float_model):
    """Where somebody looks at a step, computes gradients, compiles, or brought a processor of their own."""
    model = copy.deepcopy(float_model)
    fuse_blocks(model)
    exact, fused = run(float_model), run(model)
    assert not torch.equal(fused, exact)
    seen = []
    handles = [
        block.norm.register_forward_hook(lambda *a: seen.append("norm")) for block in model.single_transformer_blocks
    ] + [block.attn.register_forward_hook(lambda *a: seen.append("attn")) for block in model.transformer_blocks]
    assert torch.equal(run(model), exact) and sorted(seen) == ["attn"] * 2 + ["norm"] * 2
    for handle in handles:
        handle.remove()
    assert torch.equal(run(model), fused)

    class Processor(flux.FluxAttnProcessor):
        pass

    model.set_attn_processor(Processor())
    assert torch.equal(run(model), exact)
    model.set_attn_processor(flux.FluxAttnProcessor())
    x = inputs()
    x["hidden_states"].requires_grad_()
    model(**x).sample.sum().backward()
    assert x["hidden_states"].grad is not None
    model.fuse_qkv_projections()
    assert relative(run(model), exact) < CLOSE


def test_reports_and_statistics_see_every_layer(float_model):
    model = quantized(float_model)
    count = sum(isinstance(module, QuantLinear) for module in model.modules())
    fuse_blocks(model)
    compared = report(float_model, model, lambda m: run(m))
    assert len(compared.layers) == count


def test_models_without_such_blocks_are_refused():
    with pytest.raises(ValueError, match="FluxTransformerBlock or .* of diffusers, got Sequential without"):
        fuse_blocks(nn.Sequential(nn.Linear(4, 4)))


def test_names_that_diffusers_asks_for(float_model):
    model = copy.deepcopy(float_model)
    fuse_blocks(model)
    assert fuse_blocks(model) == 4
    names = {type(block).__name__ for block in (*model.transformer_blocks, *model.single_transformer_blocks)}
    assert names == set(model._repeated_blocks)
    assert isinstance(model.single_transformer_blocks[0], FluxSingleTransformerBlock)
