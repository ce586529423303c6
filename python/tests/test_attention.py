"""FP8 attention: against the oracle's files, its arguments, and the masks it understands."""

import numpy as np
import pytest
import torch
from attention_inputs import exact, hadamard, heads, lengths_mask, relative
from safetensors import safe_open
from upstream_models import UPSTREAM

import mezzotint
from mezzotint.attention import FP8Attention, padding_of

ORACLE = UPSTREAM.parent / "oracle" / "attention"

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
        (torch.full((7, 5), 0.5), None),
        (lengths_mask([0, 5], 5), None),
        (lengths_mask([3, 5, 4], 5), None),
        (torch.ones(2, 4, 7, 5, dtype=torch.bool).index_fill_(1, torch.tensor([2]), False), None),
    ],
)
def test_masks_that_are_lengths(mask, expected):
    padding = padding_of(mask, batch=2, keys=5)
    assert (padding and padding.lengths) == expected
    assert padding is None or padding.order is None


@pytest.mark.parametrize(
    ("allowed", "lengths", "order"),
    [
        ([[1, 0, 1, 1, 0]], [3, 3], [[0, 2, 3]]),
        ([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1]], [3, 5], [[1, 2, 4, 0, 3], [0, 1, 2, 3, 4]]),
        ([[1, 1, 0, 0, 1], [0, 0, 0, 0, 1]], [3, 1], [[0, 1, 4], [4, 0, 1]]),
    ],
)
def test_masks_that_are_sets_of_keys(attention, allowed, lengths, order):
    """As of text before an image, whose padding lies between the two."""
    mask = torch.tensor(allowed).bool()
    padding = padding_of(mask[:, None, None], batch=2, keys=5)
    assert padding.lengths == lengths
    assert padding.order.tolist() == order
    q, k, v = heads(2, 3, 4, 64), heads(2, 3, 5, 64, seed=2), heads(2, 3, 5, 64, seed=3)
    y = attention(q, padding.apply(k), padding.apply(v), kv_length=padding.lengths)
    wanted = exact(q, k, v, attn_mask=mask[:, None, None])
    assert relative(y, wanted) < 0.08 < relative(y, exact(q, k, v))
