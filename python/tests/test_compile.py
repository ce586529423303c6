"""torch.compile of models with quantized layers: one graph, the same numbers."""

import copy

import pytest
import torch
from torch import nn
from upstream_models import UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import TimestepManager, TimestepPolicyConfig, quantize, quantize_model


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
