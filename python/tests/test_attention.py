"""FP8 attention: against the oracle's files, and inside modules that call torch's attention."""

import copy
import math
import pickle
import shutil
import threading
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from upstream_models import UPSTREAM

import mezzotint
from mezzotint import mindiesd
from mezzotint.attention import FP8Attention, add_fa_quant, kv_length_of
from mezzotint.mindiesd.quantization.layer import FP8RotateQuantFA
from mezzotint.mindiesd.utils import ParametersInvalid
from mezzotint.report import Report

ORACLE = UPSTREAM.parent / "oracle" / "attention"


def hadamard(dim, dtype=torch.bfloat16):
    signs = [[(-1.0) ** bin(i & j).count("1") for j in range(dim)] for i in range(dim)]
    return (torch.tensor(signs) / math.sqrt(dim)).to(dtype)


def heads(*shape, seed=1, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def exact(q, k, v, **options):
    wide = [t.double() for t in (q, k, v)]
    return functional.scaled_dot_product_attention(*wide, **options)


def relative(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


# --- the oracle --------------------------------------------------------------------------------------


def hashed(count, seed):
    """As testdata/oracle/README.md makes inputs: multiples of 1/64 in [-2, 2)."""
    x = np.arange(count, dtype=np.uint64) + np.uint64(seed * 0x9E3779B1 & 0xFFFFFFFF)
    x &= 0xFFFFFFFF
    x = (x ^ x >> np.uint64(16)) * np.uint64(0x85EBCA6B) & np.uint64(0xFFFFFFFF)
    x = (x ^ x >> np.uint64(13)) * np.uint64(0xC2B2AE35) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    return torch.from_numpy(((x >> np.uint64(24)).astype(np.float32) - 128) / 64)


@pytest.mark.parametrize("case", ["rotated_d64", "tails_d96"])
def test_the_oracles_numbers(case):
    with safe_open(ORACLE / f"{case}.safetensors", "pt") as file:
        golden = {name: file.get_tensor(name) for name in file.keys()}
        facts = file.metadata()
    batch, dim, sq, skv = (int(facts[n]) for n in ("batch", "head_dim", "sq", "skv"))

    def operand(seq, count, seed):
        return hashed(batch * seq * count * dim, seed).view(batch, seq, count, dim)

    q = operand(sq, int(facts["heads"]), 1)
    k = operand(skv, int(facts["kv_heads"]), 2)
    v = operand(skv, int(facts["kv_heads"]), 3)
    k[..., 3] *= 4
    rotation = hadamard(dim) if facts["rotation"] == "hadamard" else torch.eye(dim).bfloat16()
    attention = FP8Attention("a", rotation, rotation)
    y = attention(
        q, k, v, "BSND", scale=float(golden["scale"]), kv_length=golden["kv_length"].tolist()
    )
    assert y.shape == q.shape
    rows = y[:, golden["rows"]].transpose(1, 2)
    error = (rows.double() - golden["y"]).norm(dim=-1) / golden["y"].norm(dim=-1)
    to_float = (rows - golden["y_float"]).norm(dim=-1) / golden["y_float"].norm(dim=-1)
    assert error.max() < 1e-3
    assert to_float.max() > 5e-3, "FP8 is not float"
    wrong = (rows.double() * 1.002 - golden["y"]).norm(dim=-1) / golden["y"].norm(dim=-1)
    assert wrong.max() > 1e-3, "the bound sees two thousandths"


# --- the module --------------------------------------------------------------------------------------


@pytest.fixture
def attention():
    return FP8Attention("blocks.0.attn", hadamard(64), hadamard(64))


def test_near_float_attention(attention):
    q, k, v = (heads(2, 3, 200, 64, seed=s) for s in (1, 2, 3))
    error = relative(attention(q, k, v), exact(q, k, v))
    assert 0.005 < error < 0.06


def test_layouts_and_strides(attention):
    q, k, v = (heads(2, 3, 40, 64, seed=s) for s in (1, 2, 3))
    y = attention(q, k, v)
    other = attention(*(t.transpose(1, 2).contiguous() for t in (q, k, v)), layout="BSND")
    assert torch.equal(other.transpose(1, 2), y)
    fused = torch.cat([q, k, v], 3)
    assert torch.equal(attention(fused[..., :64], fused[..., 64:128], fused[..., 128:]), y)
    by_columns = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in (q, k, v)]
    assert torch.equal(attention(*by_columns), y)
    with pytest.raises(ValueError, match="layout: expected 'BNSD' or 'BSND', got 'BSH'"):
        attention(q, k, v, layout="BSH")


def test_dtypes(attention):
    q, k, v = (heads(1, 2, 30, 64, seed=s) for s in (1, 2, 3))
    for dtype in (torch.bfloat16, torch.float16):
        narrow = [t.to(dtype) for t in (q, k, v)]
        y = attention(*narrow)
        assert y.dtype == dtype
        assert torch.equal(y, attention(*(t.float() for t in narrow)).to(dtype))
    with pytest.raises(TypeError, match="key: expected 4 dimensions .* got torch.float64.*attn"):
        attention(q, k.double(), v)
    with pytest.raises(TypeError, match=r"query: .*got torch.float32 \[2, 30, 64\]"):
        attention(q[0], k, v)


def test_fewer_heads_of_keys(attention):
    q, k, v = heads(1, 4, 20, 64), heads(1, 2, 20, 64, seed=2), heads(1, 2, 20, 64, seed=3)
    repeated = attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
    assert torch.equal(attention(q, k, v), repeated)


def test_empty_batches(attention):
    q = heads(0, 2, 5, 64)
    assert attention(q, q, q).shape == q.shape


def test_wrong_shapes_name_the_layer(attention):
    q, k = heads(1, 2, 5, 64), heads(1, 2, 5, 32)
    with pytest.raises(mezzotint.Error, match="head_dim of k: expected 64, got 32.*blocks.0.attn"):
        attention(q, k, k)


@pytest.mark.parametrize(
    ("q_rot", "k_rot", "words"),
    [
        (torch.eye(64), torch.eye(32), r"k_rot is not a rotation: expected .*\[64,64\]"),
        (torch.eye(256), torch.eye(256), "does not serve this head_dim.*256"),
        (torch.eye(64).int(), torch.eye(64), "q_rot is not a rotation"),
    ],
)
def test_wrong_rotations_are_refused(q_rot, k_rot, words):
    with pytest.raises(mezzotint.Error, match=words):
        FP8Attention("a", q_rot, k_rot)


def test_rotations_may_change(attention):
    q, k, v = (heads(1, 2, 30, 64, seed=s) for s in (1, 2, 3))
    before = attention(q, k, v)
    attention.q_rot.copy_(torch.eye(64))
    assert not torch.equal(attention(q, k, v), before)
    attention.q_rot = hadamard(64)
    assert torch.equal(attention(q, k, v), before)
    assert torch.equal(attention.float()(q, k, v), before)


def test_backward_names_the_layer(attention):
    q = heads(1, 2, 5, 64).requires_grad_()
    with pytest.raises(RuntimeError, match="backward: attention blocks.0.attn is quantized"):
        attention(q, q, q).sum().backward()


# --- masks -------------------------------------------------------------------------------------------


def lengths_mask(lengths, keys, dtype=torch.bool):
    allowed = torch.arange(keys) < torch.tensor(lengths)[:, None]
    allowed = allowed[:, None, None, :]
    if dtype == torch.bool:
        return allowed
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, -math.inf)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (lengths_mask([3, 5], 5), [3, 5]),
        (lengths_mask([3, 5], 5, torch.float32), [3, 5]),
        (lengths_mask([3, 5], 5, torch.bfloat16), [3, 5]),
        (lengths_mask([3], 5), [3, 3]),
        (lengths_mask([3, 5], 5).expand(2, 4, 7, 5), [3, 5]),
        (lengths_mask([4], 5)[0, 0].expand(7, 5), [4, 4]),
        (torch.zeros(1, 1, 7, 5).masked_fill_(torch.arange(5) > 2, -10000.0), [3, 3]),
        (torch.ones(7, 5, dtype=torch.bool), [5, 5]),
        (torch.ones(7, 5, dtype=torch.bool).tril(), None),
        (torch.tensor([[True, False, True, True, True]]).expand(7, 5), None),
        (torch.full((7, 5), 0.5), None),
        (lengths_mask([0, 5], 5), None),
        (lengths_mask([3, 5, 4], 5), None),
        (torch.ones(2, 4, 7, 5, dtype=torch.bool).index_fill_(1, torch.tensor([2]), False), None),
    ],
)
def test_masks_that_are_lengths(mask, expected):
    assert kv_length_of(mask, batch=2, keys=5) == expected


# --- inside a model ----------------------------------------------------------------------------------


class UserAttention(nn.Module):
    def __init__(self, call=None):
        super().__init__()
        self.call = call or functional.scaled_dot_product_attention

    def forward(self, q, k, v, **options):
        return self.call(q, k, v, **options) + 0


def quantized_module(strict=True, call=None):
    module, report = UserAttention(call), Report()
    attention = FP8Attention("blocks.0.attn", hadamard(64), hadamard(64))
    add_fa_quant(module, attention, strict=strict, report=report)
    return module, report


@pytest.fixture
def qkv():
    return [heads(2, 4, 33, 64, seed=s) for s in (1, 2, 3)]


def test_torchs_attention_becomes_ours(qkv):
    module, _ = quantized_module()
    assert torch.equal(module(*qkv), module.fa_quant(*qkv))
    outside = functional.scaled_dot_product_attention(*qkv)
    assert torch.equal(UserAttention()(*qkv), outside)  # other modules are as they were
    assert 0.002 < relative(module(*qkv), outside) < 0.06


def test_a_scale_and_a_padding_mask_are_passed_on(qkv):
    module, _ = quantized_module()
    mask = lengths_mask([20, 33], 33)
    y = module(*qkv, attn_mask=mask, scale=0.3)
    assert torch.equal(y, module.fa_quant(*qkv, scale=0.3, kv_length=[20, 33]))
    error = relative(y, exact(*qkv, attn_mask=mask, scale=0.3))
    assert error < 0.1 < relative(y, exact(*qkv, scale=0.3))


@pytest.mark.skipif(torch.__version__ < "2.5", reason="enable_gqa came with torch 2.5")
def test_grouped_heads(qkv):
    module, _ = quantized_module()
    q, k, v = qkv[0], qkv[1][:, :2], qkv[2][:, :2]
    y = module(q, k, v, enable_gqa=True)
    assert torch.equal(y, module.fa_quant(q, k, v))


OTHERS = {
    "causal mask": {"is_causal": True},
    "dropout": {"dropout_p": 0.1},
    "mask that is more than a number of keys": {"attn_mask": torch.ones(33, 33).tril().bool()},
}


@pytest.mark.parametrize("reason", OTHERS)
def test_other_masks_are_errors(qkv, reason):
    module, _ = quantized_module()
    with pytest.raises(mezzotint.Error, match=f"takes no {reason}.*layer blocks.0.attn") as caught:
        module(*qkv, **OTHERS[reason])
    assert caught.value.code == 4
    assert torch.equal(module(*qkv), module.fa_quant(*qkv))  # and the next call works
    assert torch.equal(UserAttention()(*qkv), functional.scaled_dot_product_attention(*qkv))


@pytest.mark.parametrize("reason", ["causal mask", "mask that is more than a number of keys"])
def test_or_listed_and_left_float(qkv, reason):
    module, report = quantized_module(strict=False)
    with pytest.warns(UserWarning, match=f"blocks.0.attn: left float where .* {reason}"):
        y = module(*qkv, **OTHERS[reason])
    assert torch.equal(y, functional.scaled_dot_product_attention(*qkv, **OTHERS[reason]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module(*qkv, **OTHERS[reason])  # said once
    assert [note for note in report.notes if reason in note] == report.notes
    assert torch.equal(module(*qkv), module.fa_quant(*qkv))


def test_a_model_that_calls_fa_quant_itself(qkv):
    """Upstream's way."""
    module, _ = quantized_module()
    module.call = lambda q, k, v: module.fa_quant(q, k, v, layout="BNSD")
    assert torch.equal(module(*qkv), module.fa_quant(*qkv))


def test_attention_that_is_neither_is_loud(qkv):
    def by_hand(q, k, v):
        return torch.softmax(q @ k.transpose(2, 3) / 8, -1) @ v

    module, _ = quantized_module(call=by_hand)
    with pytest.raises(mezzotint.Error, match="blocks.0.attn ran without .*computed in float"):
        module(*qkv)


def test_an_error_inside_leaves_torch_as_it_was(qkv):
    def broken(q, k, v):
        raise KeyError("mine")

    module, _ = quantized_module(call=broken)
    with pytest.raises(KeyError, match="mine"):
        module(*qkv)
    assert torch.equal(UserAttention()(*qkv), functional.scaled_dot_product_attention(*qkv))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(qkv, copied):
    module, _ = quantized_module()
    again = copied(module)
    assert again.fa_quant is not module.fa_quant
    assert torch.equal(again(*qkv), module(*qkv))


def test_nested_modules_use_their_own(qkv):
    inner, _ = quantized_module()
    outer, report = UserAttention(), Report()
    add_fa_quant(
        outer, FP8Attention("outer", torch.eye(64), torch.eye(64)), strict=True, report=report
    )
    outer.call = lambda q, k, v: inner(q, k, v) + functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(outer(*qkv), inner.fa_quant(*qkv) + outer.fa_quant(*qkv))


def test_threads(qkv):
    module, _ = quantized_module()
    expected = module(*qkv)
    plain = functional.scaled_dot_product_attention(*qkv)
    wrong = []

    def work():
        for _ in range(20):
            if not torch.equal(module(*qkv), expected):
                wrong.append("quantized")
            if not torch.equal(functional.scaled_dot_product_attention(*qkv), plain):
                wrong.append("float")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- files -------------------------------------------------------------------------------------------


class RotatedAttention(nn.Module):
    """As tools/upstream_files/tiny_model.py: one head, one projection for q, k and v."""

    def __init__(self):
        super().__init__()
        self.to_qkv = nn.Linear(32, 64)

    def forward(self, x, **options):
        h = self.to_qkv(x).unflatten(-1, (1, 64)).transpose(1, 2)
        return functional.scaled_dot_product_attention(h, h, h, **options)


class AttentionModel(nn.Module):
    def __init__(self):
        super().__init__()
        block = nn.Module()
        block.attn = RotatedAttention()
        self.blocks = nn.ModuleList([block])

    def forward(self, x, **options):
        return self.blocks[0].attn(x, **options)


def attention_model():
    model = AttentionModel()
    model.load_state_dict(load_file(UPSTREAM / "attention.safetensors"))
    return model


FOLDER = UPSTREAM / "fp8_attention"


@pytest.fixture
def x():
    return heads(2, 50, 32, seed=9)


def test_a_folder_with_attention(x):
    model = mezzotint.quantize(attention_model(), FOLDER)
    attn = model.blocks[0].attn
    stored = load_file(FOLDER / "quant_model_weight_w8a8_mxfp8.safetensors")
    assert torch.equal(attn.fa_quant.q_rot, stored["blocks.0.attn.q_rot"])
    assert attn.fa_quant.k_rot.dtype == torch.bfloat16
    h = attn.to_qkv(x).unflatten(-1, (1, 64)).transpose(1, 2)
    assert torch.equal(model(x), attn.fa_quant(h, h, h))
    assert 0.002 < relative(model(x), exact(h, h, h)) < 0.1
    assert 0.01 < relative(model(x), attention_model()(x)) < 0.2
    algorithms = {row.name: row.algorithm for row in model.mezzotint_report.layers}
    assert algorithms == {
        "blocks.0.attn.to_qkv": "W8A8_MXFP8", "blocks.0.attn": "FP8_DYNAMIC",
    }  # fmt: skip
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(x), model(x))


def test_masks_of_a_folder(x):
    model = mezzotint.quantize(attention_model(), FOLDER)
    with pytest.raises(mezzotint.Error, match="takes no causal mask .layer blocks.0.attn"):
        model(x, is_causal=True)
    model = mezzotint.quantize(attention_model(), FOLDER, strict=False)
    with pytest.warns(UserWarning, match="left float"):
        model(x, is_causal=True)
    (note,) = model.mezzotint_report.notes
    assert note == "blocks.0.attn: left float where it is called with causal mask"


def test_upstreams_class():
    model = mindiesd.quantize(attention_model(), str(FOLDER))
    fa_quant = model.blocks[0].attn.fa_quant
    assert type(fa_quant) is FP8RotateQuantFA
    with safe_open(FOLDER / "quant_model_weight_w8a8_mxfp8.safetensors", "pt") as weights:
        again = FP8RotateQuantFA("blocks.0.attn", weights)
        with pytest.raises(ParametersInvalid, match="Critical parameter missing: blocks.1.q_rot."):
            FP8RotateQuantFA("blocks.1", weights)
    q = heads(1, 2, 40, 64)
    assert torch.equal(again(q, q, q), fa_quant(q, q, q, layout="BNSD"))
    with pytest.raises(ValueError, match="BSH"):
        again(q, q, q, layout="BSH")


def damaged(folder, change):
    shutil.copytree(FOLDER, folder)
    path = folder / "quant_model_weight_w8a8_mxfp8.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("blocks.0.attn.k_rot"), "k_rot"),
        (lambda t: t.pop("blocks.0.attn.q_rot"), "q_rot"),
        (lambda t: t.update({"blocks.0.attn.k_rot": torch.eye(32)}), "k_rot"),
    ],
)
def test_missing_and_misshapen_rotations(tmp_path, change, words):
    model = attention_model()
    with pytest.raises(mezzotint.Error, match=rf"(?s){words}.*blocks.0.attn"):
        mezzotint.quantize(model, damaged(tmp_path / "damaged", change))
    assert isinstance(model.blocks[0].attn.to_qkv, nn.Linear)
    assert not hasattr(model.blocks[0].attn, "fa_quant")


def test_an_attention_that_the_model_has_not(tmp_path):
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Module()])
    model.blocks[0].attention = RotatedAttention()
    with pytest.raises(mezzotint.Error, match="blocks.0.attn"):
        mezzotint.quantize(model, FOLDER)
