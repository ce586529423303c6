"""Conformance case 48: what `mezzotint quantize` writes loads in upstream's own loader.

The loader is mindiesd of PyPI (Mulan PSL v2), its package `quantization`, as it is. Only what needs
an NPU is replaced: torch_npu, and the package's attention operators, which loading does not call.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

ROOT = pathlib.Path(__file__).parents[2]
MEZZOTINT = ROOT / "build/release/bin/mezzotint"
N, K, HEAD_DIM = 48, 128, 64


def add_package(patch, name, path=None, **attributes):
    module = types.ModuleType(name)
    module.__path__ = [str(path)] if path else []
    module.__dict__.update(attributes)
    patch.setitem(sys.modules, name, module)


@pytest.fixture(scope="module")
def upstream():
    patch = pytest.MonkeyPatch()
    yield load_upstream(patch)
    patch.undo()


def load_upstream(patch):
    found = importlib.util.find_spec("mindiesd")
    if found is None or not MEZZOTINT.exists():
        missing = "mindiesd" if found is None else str(MEZZOTINT)
        if os.environ.get("CI") == "true":
            pytest.fail(f"{missing} is missing: ./x test python installs and builds both")
        pytest.skip(f"{missing} is missing")
    patch.setenv("MINDIE_LOG_TO_FILE", "false")
    # Without the __init__, which loads operators.
    add_package(patch, "mindiesd", found.submodule_search_locations[0])
    layers = "mindiesd.layers"
    add_package(patch, layers)
    add_package(patch, f"{layers}.flash_attn")
    add_package(
        patch,
        f"{layers}.flash_attn.common",
        AttentionParam=object,
        lru_cache_by_attn_param=lambda **_: lambda function: function,
    )
    add_package(
        patch,
        f"{layers}.flash_attn.fused_infer_attention_score",
        fused_infer_attention_score_v2=None,
    )
    add_package(
        patch,
        "torch_npu",
        float4_e2m1fn_x2="float4_e2m1fn_x2",
        npu_convert_weight_to_int4pack=lambda codes: codes,
    )
    patch.setattr(torch.Tensor, "npu", lambda tensor: tensor, raising=False)
    empty_cache = types.SimpleNamespace(empty_cache=lambda: None)
    patch.setattr(torch, "npu", empty_cache, raising=False)
    from mindiesd.quantization import layer, quantize  # noqa: E402

    return types.SimpleNamespace(quantize=quantize, layer=layer)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Module()
        self.attn.to_q = nn.Linear(K, N)
        self.attn.to_k = nn.Linear(K, N, bias=False)
        self.norm = nn.LayerNorm(N)


def quantized(tmp_path, *arguments):
    """The model, its weights through the command line: descriptor, tensors of the file."""
    torch.manual_seed(48)
    model = Model()
    state = {name: tensor.to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    out = tmp_path / "out"
    subprocess.run(
        [MEZZOTINT, "quantize", tmp_path / "model.safetensors", "-o", out, "-q", *arguments],
        check=True,
    )
    (weights,) = out.glob("*.safetensors")
    with safe_open(weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    (descriptor,) = out.glob("*.json")
    return model, str(descriptor), tensors


def transposed(tensor):
    return tensor.T


def squeezed(tensor):
    return tensor.squeeze().to(torch.bfloat16)


def pairs(tensor):
    return tensor.reshape(tensor.shape[0], -1, 2)


def columns(tensor):
    return tensor.squeeze(-1).transpose(0, 1)


# Command line; upstream's class; its attribute -> our tensor, and what it makes of it.
MX = {"weight": ("weight", None), "weight_scale": ("weight_scale", pairs)}
CASES = {
    "W8A16": (
        ["--algo", "w8a16"],
        "WeightQuantLinear",
        {
            "weight": ("weight", transposed),
            "weight_scale": ("weight_scale", lambda t: t.T.to(torch.bfloat16)),
        },
    ),
    "W4A16": (  # upstream wants int4 unpacked, per channel
        ["--algo", "w4a16", "--group-size", str(K), "--compat", "upstream"],
        "WeightQuantLinear",
        {"weight": ("weight", lambda t: t.T.to(torch.int32))},
    ),
    "W4A4_DYNAMIC": (
        ["--algo", "w4a4_dynamic", "--compat", "upstream"],
        "W4A4QuantLinear",
        {"weight_scale": ("weight_scale", squeezed)},
    ),
    "W8A8_DYNAMIC": (
        ["--algo", "w8a8_dynamic"],
        "W8A8QuantLinear",
        {"weight": ("weight", transposed), "weight_scale": ("weight_scale", squeezed)},
    ),
    "W8A8_MXFP8": (["--algo", "w8a8_mxfp8"], "W8A8MXFP8QuantLinear", MX),
    "W4A4_MXFP4": (["--algo", "w4a4_mxfp4"], "W4A4MXFP4QuantLinear", MX),
    "W4A4_MXFP4_DYNAMIC": (["--algo", "w4a4_mxfp4_dynamic"], "W4A4MXFP4QuantLinear", MX),
    "W4A4_MXFP4_DUALSCALE": (
        ["--algo", "w4a4_mxfp4_dualscale"],
        "W4A4MXFP4DualQuantLinear",
        MX | {"weight_dual_scale": ("weight_dual_scale", columns)},
    ),
}


@pytest.mark.parametrize("algorithm", CASES)
def test_case_48_linears_load_in_upstreams_loader(upstream, tmp_path, algorithm):
    arguments, class_name, attributes = CASES[algorithm]
    model, descriptor, tensors = quantized(tmp_path, *arguments)
    upstream.quantize(model, descriptor)
    for name in ("to_q", "to_k"):
        linear = getattr(model.attn, name)
        assert type(linear) is getattr(upstream.layer, class_name)
        assert (linear.bias is not None) == (name == "to_q")
        for attribute, (suffix, change) in attributes.items():
            stored = tensors[f"attn.{name}.{suffix}"]
            expected = stored if change is None else change(stored)
            held = getattr(linear, attribute)
            assert held.dtype == expected.dtype, (name, attribute)
            assert torch.equal(held.float(), expected.float()), (name, attribute)
    assert type(model.norm) is nn.LayerNorm


def test_case_48_attentions_load_in_upstreams_loader(upstream, tmp_path):
    model, descriptor, tensors = quantized(
        tmp_path, "--algo", "w8a8_dynamic", "--fa", f"fp8_dynamic:attn:{HEAD_DIM}"
    )
    upstream.quantize(model, descriptor)
    assert type(model.attn.fa_quant) is upstream.layer.FP8RotateQuantFA
    for name in ("q_rot", "k_rot"):
        assert torch.equal(getattr(model.attn.fa_quant, name), tensors[f"attn.{name}"])
    assert type(model.attn.to_q) is upstream.layer.W8A8QuantLinear


def test_case_48_upstream_refuses_low_rank_and_reads_per_names_as_static(upstream, tmp_path):
    """Its own limits, docs/compatibility.md."""
    model, descriptor, _ = quantized(tmp_path, "--algo", "w4a4_mxfp4_svd")
    with pytest.raises(Exception, match="SVD Quant algorithm not supported"):
        upstream.quantize(model, descriptor)
    (tmp_path / "per").mkdir()
    model, descriptor, _ = quantized(tmp_path / "per", "--algo", "w8a8_per_channel_per_token")
    with pytest.raises(Exception, match="quant_bias"):
        upstream.quantize(model, descriptor)
