"""torch.compile of models with quantized layers: one graph, the same numbers."""

import copy

import pytest
import torch
from torch import nn
from upstream_models import UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import TimestepManager, TimestepPolicyConfig, load_lora, quantize, quantize_model
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.report import Report


@pytest.fixture
def graphs():
    """Graphs that were compiled, as lists of the names of their calls."""
    torch._dynamo.reset()
    compiled = []

    def backend(graph, inputs):
        compiled.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    backend.compiled = compiled
    yield backend
    torch._dynamo.reset()
    TimestepManager.set_timestep_idx(None)


def compiled_by(backend, model, **options):
    return torch.compile(model, backend=backend, fullgraph=True, **options)


def test_one_graph_with_an_operation_per_layer(graphs):
    model = quantize(float_model("tiny"), UPSTREAM / "w8a8_dynamic")
    x = input_of(64)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(compiled_by(graphs, model)(x), expected)
    (calls,) = graphs.compiled
    assert calls.count("mezzotint.linear.default") == 4


def test_inductor(graphs):
    """Its own code around ours, which is C++ that g++ compiles."""
    model = quantize_model(nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 32)), algo="w8a16")
    x = torch.randn(3, 5, 64)
    with torch.no_grad():
        expected = model(x)
        y = torch.compile(model, fullgraph=True)(x)
    assert y.shape == expected.shape
    assert torch.allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_steps_do_not_compile_again(graphs):
    policy = TimestepPolicyConfig(static=range(1, 3))
    model = quantize(float_model("tiny"), UPSTREAM / "old_w8a8_timestep", timestep_policy=policy)
    fast = compiled_by(graphs, copy.deepcopy(model))
    x, sums = input_of(64), set()
    with torch.no_grad():
        for step in range(4):
            with TimestepManager.step(step):
                expected = model(x)
                assert torch.equal(fast(x), expected)
                sums.add(expected.sum().item())
    assert len(sums) == 3, "steps differ"
    assert len(graphs.compiled) == 1


@pytest.mark.skipif(torch.__version__ < "2.5", reason="torch 2.4 compiles each module by itself")
def test_blocks_of_one_shape_share_a_graph(graphs):
    blocks = [quantize_model(nn.Sequential(nn.Linear(64, 64), nn.GELU()), algo="w8a16") for _ in range(3)]
    x = torch.randn(4, 64)
    with torch.no_grad():
        for block in blocks:
            expected = block(x)
            block.compile(backend=graphs, fullgraph=True)
            assert torch.equal(block(x), expected)
    assert len(graphs.compiled) == 1


def test_more_rows_do_not_fail(graphs):
    layer = quantize_model(nn.Sequential(nn.Linear(64, 32)), algo="w8a8_dynamic")
    fast = compiled_by(graphs, layer, dynamic=True)
    with torch.no_grad():
        for rows in (3, 7, 100):
            x = torch.randn(rows, 64).bfloat16()
            assert torch.equal(fast(x), layer(x))
    assert len(graphs.compiled) == 1


def test_what_changes_in_the_layer_is_seen(graphs):
    """The graph names the layer; it holds none of its bytes."""
    model = quantize_model(nn.Sequential(nn.Linear(64, 32)), algo="w8a8_dynamic")
    fast, x = compiled_by(graphs, model), torch.randn(3, 64)
    with torch.no_grad():
        before = fast(x)
        model[0].weight_scale *= 2
        model._apply(torch.clone)
        assert torch.equal(fast(x), model(x))
        assert not torch.equal(fast(x), before)
    assert len(graphs.compiled) == 1


def test_copies_are_layers_of_their_own(graphs):
    model = quantize_model(nn.Sequential(nn.Linear(64, 32)), algo="w8a8_dynamic")
    other = copy.deepcopy(model)
    other[0].weight_scale *= 2
    x = torch.randn(3, 64)
    with torch.no_grad():
        assert torch.equal(compiled_by(graphs, other)(x), other(x))
        assert torch.equal(compiled_by(graphs, model)(x), model(x))
        assert not torch.equal(model(x), other(x))


def test_backward_of_a_graph_names_the_layer(graphs):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32))
    quantize_model(model, rules={"1": "w8a16"})
    y = torch.compile(model, backend="aot_eager", fullgraph=True)(torch.randn(3, 64))
    with pytest.raises(RuntimeError, match="backward: layer 1 is quantized"):
        y.sum().backward()


def test_errors_of_a_graph_name_the_layer(graphs):
    model = quantize_model(nn.Sequential(nn.Linear(64, 32)), algo="w8a8_dynamic")
    fast = compiled_by(graphs, model)
    with pytest.raises(mezzotint.Error, match="expected 64, got 63.*layer 0"), torch.no_grad():
        fast(torch.randn(3, 63))


# --- LoRA --------------------------------------------------------------------------------------------


def lora_of(layer, name, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.lora_A.weight": torch.randn(2, layer.in_features, generator=generator) * 0.1,
        f"{name}.lora_B.weight": torch.randn(layer.out_features, 2, generator=generator) * 0.1,
    }


def test_lora_comes_and_goes_without_another_graph(graphs):
    model = quantize_model(nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32)), algo="w8a8_dynamic")
    fast, x = compiled_by(graphs, model), torch.randn(3, 64)
    with torch.no_grad():
        plain = fast(x)
        load_lora(model, {**lora_of(model[0], "0", 1), **lora_of(model[2], "2", 2)}, name="a", scale=0.5)
        expected = model(x)
        assert torch.equal(fast(x), expected) and not torch.equal(expected, plain)
        mezzotint.set_lora_scale(model, "a", 2.0)
        assert torch.equal(fast(x), model(x)) and not torch.equal(model(x), expected)
        mezzotint.unload_lora(model)
        assert torch.equal(fast(x), plain)
    assert len(graphs.compiled) == 1


def test_lora_of_a_linear_that_stayed_float(graphs):
    """A hook of torch's: it is in the graph, and another one comes when it goes."""
    model = quantize_model(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32)), rules={"0": "w8a16"})
    x = torch.randn(3, 64)
    load_lora(model, {**lora_of(model[0], "0", 1), **lora_of(model[1], "1", 2)})
    fast = compiled_by(graphs, model)
    with torch.no_grad():
        with_lora = model(x)
        assert torch.equal(fast(x), with_lora)
        (calls,) = graphs.compiled
        assert calls.count("mezzotint.linear.default") == 1
        mezzotint.unload_lora(model)
        assert torch.equal(fast(x), model(x)) and not torch.equal(model(x), with_lora)


# --- FP8 attention -----------------------------------------------------------------------------------


traced = pytest.mark.skipif(torch.__version__ < "2.6", reason="its compiler does not trace function modes")


class Attention(nn.Module):
    def forward(self, q, k, v, mask=None):
        return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask) * 2


def fp8(strict=True):
    model = nn.ModuleDict({"attn": Attention()})
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    add_fa_quant(model["attn"], FP8Attention("attn", rotation, rotation.clone()), strict=strict, report=Report())
    return model["attn"]


def qkv(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 20, 16, generator=generator) for _ in range(3)]


@traced
def test_attention_is_one_operation_of_one_graph(graphs):
    model = fp8()
    fast = compiled_by(graphs, model)
    with torch.no_grad():
        assert torch.equal(fast(*qkv()), model(*qkv()))
        assert torch.equal(fast(*qkv(2)), model(*qkv(2)))
    (calls,) = graphs.compiled
    assert calls.count("mezzotint.attention.default") == 1
    assert not any("scaled_dot_product" in call for call in calls)


@traced
def test_masks_are_looked_at_when_the_graph_runs(graphs):
    model, eager = fp8(), fp8()
    fast = compiled_by(graphs, model)
    padded = (torch.arange(20) < torch.tensor([20, 7])[:, None])[:, None, None]
    between = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    between[1, ..., 3:9] = False
    with torch.no_grad():
        for mask in (padded, between):
            assert torch.equal(fast(*qkv(), mask), eager(*qkv(), mask))
        causal = torch.ones(2, 1, 20, 20, dtype=torch.bool).tril()
        with pytest.raises(mezzotint.Error, match="takes no mask that is more than .*layer attn"):
            fast(*qkv(), causal)
        lenient = compiled_by(graphs, fp8(strict=False))
        assert torch.allclose(lenient(*qkv(), causal), Attention()(*qkv(), causal), atol=1e-6)
    assert len(graphs.compiled) == 3  # one for each shape of mask, and the lenient model's


@traced
def test_backward_of_compiled_attention_names_it():
    q, k, v = qkv()
    y = torch.compile(fp8(), backend="aot_eager", fullgraph=True)(q, k.requires_grad_(), v)
    with pytest.raises(RuntimeError, match="backward: attention attn is quantized"):
        y.sum().backward()


@traced
@pytest.mark.parametrize("is_fused", [False, True])
def test_flux_with_fp8_attention_is_one_graph(graphs, is_fused):
    """Fused blocks are compiled as diffusers wrote them."""
    pytest.importorskip("diffusers")
    from pipelines import tiny_flux

    model = quantize_model(tiny_flux(), algo="w8a8_dynamic", attention="fp8_dynamic")
    generator = torch.Generator().manual_seed(2)
    inputs = {
        "hidden_states": torch.randn(1, 16, 4, generator=generator),
        "encoder_hidden_states": torch.randn(1, 8, 32, generator=generator),
        "pooled_projections": torch.randn(1, 32, generator=generator),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(8, 3),
    }
    with torch.no_grad():
        expected = model(**inputs, timestep=torch.tensor([0.5])).sample
        if is_fused:
            mezzotint.fuse_blocks(model)
        fast = compiled_by(graphs, model)
        assert torch.equal(fast(**inputs, timestep=torch.tensor([0.5])).sample, expected)
        fast(**inputs, timestep=torch.tensor([0.25]))
    (calls,) = graphs.compiled
    assert calls.count("mezzotint.attention.default") == 2
    assert calls.count("mezzotint.linear.default") == 20
