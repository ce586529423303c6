"""What transformer blocks do between their linears, and linears of one input, on torch's memory.

All tensors are on the CPU, [batch, tokens, width] with dense rows, float32 or bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from mezzotint import _core
from mezzotint._threads import torch_context
from mezzotint.modules import DTYPE_CODES, QuantLinear

Rotation = tuple[torch.Tensor, torch.Tensor]  # cos and sin, float32 [tokens, head_dim / 2]


def _tokens(x: torch.Tensor) -> tuple[int, ...]:
    return (x.data_ptr(), DTYPE_CODES[x.dtype], *x.shape, x.stride(0), x.stride(1))


def _vectors(v: torch.Tensor) -> tuple[int, int]:
    """Of float32 [batch, width]."""
    return v.data_ptr(), v.stride(0)


def modulate(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float) -> torch.Tensor:
    """LN(x) * (1 + scale) + shift"""
    y = torch.empty(x.shape, dtype=x.dtype)
    _core.modulate_tokens(_tokens(x), _vectors(scale), _vectors(shift), eps, _tokens(y), torch_context())
    return y


def add_gated(x: torch.Tensor, gate: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
    """out = y + gate * x; out may be y."""
    _core.add_gated_tokens(_tokens(x), _vectors(gate), _tokens(y), _tokens(out), torch_context())


def gelu_(x: torch.Tensor) -> None:
    """In place, the tanh form."""
    _core.gelu_tokens(_tokens(x), torch_context())


def rotate_heads(x: torch.Tensor, norm: nn.RMSNorm, rotation: Rotation, out: torch.Tensor) -> None:
    """RMSNorm of each head, then rotation of adjacent pairs; out may be x."""
    weight, (cos, sin) = norm.weight.detach().float(), rotation
    _core.rotate_head_tokens(
        _tokens(x), weight.data_ptr(), len(weight), norm.eps, cos.data_ptr(), sin.data_ptr(),
        _tokens(out), torch_context(),
    )  # fmt: skip


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, out: torch.Tensor) -> None:
    """Float attention of [batch, tokens, heads * head_dim]."""
    views = []
    for tensor in (q, k, v, out):
        batch, tokens, width = tensor.shape
        strides = [tensor.stride(0), width // heads, tensor.stride(1), 1]
        is_bf16 = tensor.dtype == torch.bfloat16
        views.append((tensor.data_ptr(), is_bf16, [batch, heads, tokens, width // heads], strides))
    _core.attention(*views, 1 / math.sqrt(q.shape[-1] // heads), torch_context())


def run_linears(layers: Sequence[nn.Module], x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
    """outs[i] = layers[i](x). Quantized layers that agree on how quantize x once."""
    batch, tokens, width = x.shape
    members, y, kept, step = [], [], [], -1
    for layer, out in zip(layers, outs, strict=True):
        if not _joins(layer, x):
            out.copy_(layer(x))
            continue
        bound, layer_step, buffers = layer._ready()
        members.append(bound)
        y.append((out.data_ptr(), out.stride(1)))
        kept.append(buffers)
        step = max(step, layer_step)
    if members:
        _core.run_group(
            members, x.data_ptr(), DTYPE_CODES[x.dtype], batch * tokens, width, width, y, step,
            torch_context(),
        )  # fmt: skip


def _joins(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether calling the layer would do nothing but its arithmetic."""
    return (
        isinstance(layer, QuantLinear)
        and layer.dtype in (None, x.dtype)
        and layer.in_features == x.shape[-1]
        and not is_hooked(layer)
    )


def is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)
