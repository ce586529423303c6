"""FP8 attention inside modules that call torch's, and from files."""

import copy
import pickle
import shutil
import threading
import warnings

import pytest
import torch
from attention_inputs import exact, hadamard, heads, lengths_mask, relative
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from upstream_models import ATTENTION_FOLDER as FOLDER
from upstream_models import RotatedAttention, attention_input, attention_model

import mezzotint
from mezzotint import mindiesd
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.mindiesd.quantization.layer import FP8RotateQuantFA
from mezzotint.mindiesd.utils import ParametersInvalid
from mezzotint.report import Report


@pytest.fixture
def x():
    return attention_input()


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
    "mask that is more than a set of keys": {"attn_mask": torch.ones(33, 33).tril().bool()},
}


@pytest.mark.parametrize("reason", OTHERS)
def test_other_masks_are_errors(qkv, reason):
    module, _ = quantized_module()
    with pytest.raises(mezzotint.Error, match=f"takes no {reason}.*layer blocks.0.attn") as caught:
        module(*qkv, **OTHERS[reason])
    assert caught.value.code == 4
    assert torch.equal(module(*qkv), module.fa_quant(*qkv))  # and the next call works
    assert torch.equal(UserAttention()(*qkv), functional.scaled_dot_product_attention(*qkv))


@pytest.mark.parametrize("reason", ["causal mask", "mask that is more than a set of keys"])
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
