"""torch.ops.mezzotint: what torch.compile puts into its graph in place of a layer's Python.

A graph names a layer by a number, which is a tensor: an input of the graph, so that blocks of one shape
share it. Eager calls do not come here.
"""

# Not postponed: torch 2.4 reads the annotations of operations as types, not as texts.
import itertools
import weakref
from typing import Any, List, Optional

import torch
from torch import nn

_numbered: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
_next = itertools.count(1)


def number(module: nn.Module) -> torch.Tensor:
    """A new number for this module, as long as it lives."""
    n = next(_next)
    _numbered[n] = module
    return torch.tensor(n, device="cpu")


@torch.library.custom_op("mezzotint::linear", mutates_args=())
def linear(x: torch.Tensor, layer: torch.Tensor, out_features: int) -> torch.Tensor:
    return _numbered[int(layer)]._run(x)


@linear.register_fake
def _(x: torch.Tensor, layer: torch.Tensor, out_features: int) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], out_features))


@torch.library.custom_op("mezzotint::attention", mutates_args=())
def attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Optional[torch.Tensor],
    kv_length: List[int], layer: torch.Tensor, scale: Optional[float], strict: bool,
) -> torch.Tensor:  # fmt: skip
    return _numbered[int(layer)]._run_masked(query, key, value, mask, kv_length, scale, strict)


@attention.register_fake
def _(query: torch.Tensor, *others: Any) -> torch.Tensor:
    return query.new_empty(query.shape)


@torch.library.custom_op("mezzotint::no_backward", mutates_args=())
def no_backward(grad: torch.Tensor, layer: torch.Tensor, in_features: int) -> torch.Tensor:
    """An operation of the backward graph, so that it raises when that runs, not while compiling."""
    _numbered[int(layer)]._refuse_backward()
    return grad.new_empty((*grad.shape[:-1], in_features))


@no_backward.register_fake
def _(grad: torch.Tensor, layer: torch.Tensor, in_features: int) -> torch.Tensor:
    return grad.new_empty((*grad.shape[:-1], in_features))


@torch.library.custom_op("mezzotint::no_backward_like", mutates_args=())
def no_backward_like(grad: torch.Tensor, layer: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The same for an input of another shape than the output; of the backward graph, since it takes grad."""
    _numbered[int(layer)]._refuse_backward()
    return torch.empty_like(like)


@no_backward_like.register_fake
def _(grad: torch.Tensor, layer: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(like)


def _keep(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.in_features = inputs[0].shape[-1]


def _backward(ctx: Any, grad: torch.Tensor) -> tuple:
    return no_backward(grad, *ctx.saved_tensors, ctx.in_features), None, None


linear.register_autograd(_backward, setup_context=_keep)


def _keep_qkv(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:3], inputs[5])


def _backward_of_attention(ctx: Any, grad: torch.Tensor) -> tuple:
    *qkv, layer = ctx.saved_tensors
    return *(no_backward_like(grad, layer, x) for x in qkv), None, None, None, None, None


attention.register_autograd(_backward_of_attention, setup_context=_keep_qkv)
