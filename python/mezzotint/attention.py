"""FP8 attention: the module `fa_quant`, and what makes a model's attention use it."""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mezzotint import _core, _ops
from mezzotint._tensors import NAMES
from mezzotint._threads import torch_context
from mezzotint.report import Report

_MASKED = -10000.0  # what models add to scores that must not count; exp() of it is 0 in f32
_WIDENED = {torch.float16: torch.float32}  # exact, and back


class FP8Attention(nn.Module):
    """softmax(scale (q q_rot) (k k_rot)^T) v on e4m3 codes of q, k and v, one scale per block.

    query, key, value: [B, N, S, D] ("BNSD") or [B, S, N, D] ("BSND"), float32, bfloat16 or
    float16; key and value may have fewer heads. The result has query's dtype and layout.
    """

    def __init__(self, name: str, q_rot: torch.Tensor, k_rot: torch.Tensor) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("q_rot", q_rot, persistent=False)
        self.register_buffer("k_rot", k_rot, persistent=False)
        self._held: tuple[Any, _core.Fp8Attention | None] = (None, None)
        self._number = _ops.number(self)
        self._attention()  # refuses what is not served now, not at the first call

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layout: str = "BNSD",
        *,
        scale: float | None = None,
        kv_length: list[int] | None = None,
    ) -> torch.Tensor:
        """`kv_length`: per batch, how many keys there are. `scale`: 1 / sqrt(D) by default."""
        _used.add(self.name)
        if layout not in ("BNSD", "BSND"):
            raise ValueError(f"layout: expected 'BNSD' or 'BSND', got {layout!r} ({self.name})")
        tensors = [query, key, value]
        if torch.compiler.is_compiling():
            return self._traced(tensors, layout, scale, kv_length)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return _NoBackward.apply(self, layout, scale, kv_length, *tensors)
        return self._run(tensors, layout, scale, kv_length)

    def _traced(
        self, tensors: list[torch.Tensor], layout: str, scale: float | None, kv_length: Any,
        mask: torch.Tensor | None = None, strict: bool = True,
    ) -> torch.Tensor:  # fmt: skip
        """One operation of a graph, which looks at the mask when it runs."""
        if layout == "BSND":
            tensors = [t.transpose(1, 2) for t in tensors]
        out = _ops.attention(*tensors, mask, kv_length or [], self._number, scale, strict)
        return out.transpose(1, 2) if layout == "BSND" else out

    def _run_masked(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None,
        kv_length: list[int], scale: float | None, strict: bool,
    ) -> torch.Tensor:  # fmt: skip
        """[B, N, S, D], by C++ where the mask is padding."""
        if mask is not None:
            padding = padding_of(mask, query.shape[0], key.shape[-2])
            if padding is None:
                if strict:
                    raise _not_taken(_OTHER_MASK, self.name)
                tensors = query, key, value, mask
                return functional.scaled_dot_product_attention(*tensors, scale=scale).contiguous()
            key, value, kv_length = padding.apply(key), padding.apply(value), padding.lengths
        return self._run([query, key, value], "BNSD", scale, kv_length)

    def _run(
        self, tensors: list[torch.Tensor], layout: str, scale: float | None, kv_length: Any
    ) -> torch.Tensor:
        self._check(tensors)
        dtype = tensors[0].dtype
        widened = _WIDENED.get(dtype, dtype)
        if layout == "BSND":
            tensors = [t.transpose(1, 2) for t in tensors]
        q, k, v = (_with_dense_rows(t.detach().to(widened)) for t in tensors)
        batch, heads, rows, dim = q.shape
        if layout == "BSND":
            out = torch.empty((batch, rows, heads, dim), dtype=widened).transpose(1, 2)
        else:
            out = torch.empty((batch, heads, rows, dim), dtype=widened)
        scale = 1 / math.sqrt(dim) if scale is None else float(scale)
        views = [_view(t) for t in (q, k, v, out)]
        self._attention().run(*views, scale, kv_length or [], torch_context())
        return (out.transpose(1, 2) if layout == "BSND" else out).to(dtype)

    def _check(self, tensors: list[torch.Tensor]) -> None:
        for name, tensor in zip(("query", "key", "value"), tensors, strict=True):
            right = tensor.ndim == 4 and tensor.is_cpu and tensor.dtype == tensors[0].dtype
            if right and tensor.dtype in (torch.float32, torch.bfloat16, torch.float16):
                continue
            raise TypeError(
                f"{name}: expected 4 dimensions of float32, bfloat16 or float16 on the CPU, like "
                f"query, got {tensor.dtype} {list(tensor.shape)} on {tensor.device} "
                f"(layer {self.name})"
            )

    def _attention(self) -> _core.Fp8Attention:
        """Made again when the rotations are others."""
        rotations = (self.q_rot, self.k_rot)
        state = [(id(r), r.data_ptr(), r._version) for r in rotations]
        known, attention = self._held
        if known != state:
            stored = [r.detach().cpu().contiguous() for r in rotations]
            tuples = [(r.data_ptr(), NAMES[r.dtype], list(r.shape)) for r in stored]
            attention = _core.Fp8Attention(self.name, *tuples)
            self._held = (state, attention)
        return attention

    def _refuse_backward(self) -> None:
        raise RuntimeError(
            f"backward: attention {self.name} is quantized, gradients cannot pass it; "
            "use torch.no_grad() or torch.inference_mode()"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_held": (None, None)}
        del state["_number"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._number = _ops.number(self)

    def extra_repr(self) -> str:
        return f"FP8_DYNAMIC, head_dim={self.q_rot.shape[0]}"


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attention: FP8Attention, layout: str, scale: Any, kv_length: Any, *qkv: torch.Tensor):
        ctx.attention = attention
        return attention._run(list(qkv), layout, scale, kv_length)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> None:
        ctx.attention._refuse_backward()


def _with_dense_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.stride(3) == 1 or tensor.shape[3] == 1 else tensor.contiguous()


def _view(tensor: torch.Tensor) -> tuple[int, bool, list[int], list[int]]:
    is_bf16 = tensor.dtype == torch.bfloat16
    return tensor.data_ptr(), is_bf16, list(tensor.shape), list(tensor.stride())


# --- inside a model's attention ----------------------------------------------------------------------


class _Used(threading.local):
    """Names of the attentions that ran in this thread."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add(self, name: str) -> None:
        self.names.add(name)


_used = _Used()


class _InsideAttention(TorchFunctionMode):
    """F.scaled_dot_product_attention becomes FP8 attention, however it is called."""

    def __init__(self, attention: FP8Attention, strict: bool, report: Report) -> None:
        super().__init__()
        self.attention = attention
        self.strict = strict
        self.report = report

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.unflatten and torch.compiler.is_compiling():
            return torch.unflatten(*args, **kwargs)  # the method calls super(), which dynamo does not trace
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        call = _call(*args, **kwargs)
        reason = call.pop("reason")
        if reason is None and torch.compiler.is_compiling():
            _used.add(self.attention.name)
            qkv = [call.pop(name) for name in ("query", "key", "value")]
            return self.attention._traced(qkv, "BNSD", kv_length=None, strict=self.strict, **call)
        if reason is None:
            return self.attention(**call)
        self._leave_float(reason)
        return func(*args, **kwargs)

    def _leave_float(self, reason: str) -> None:
        name = self.attention.name
        _used.add(name)
        if self.strict:
            raise _not_taken(reason, name)
        note = f"{name}: left float where it is called with {reason}"
        if note not in self.report.notes:
            self.report.notes.append(note)
            warnings.warn(f"mezzotint: {note}", stacklevel=2)


_OTHER_MASK = "mask that is more than a set of keys per batch"


def _not_taken(reason: str, name: str) -> _core.Error:
    error = _core.Error(
        f"FP8 attention takes no {reason} (layer {name})\n  fix: leave this attention float "
        "in the export, or quantize(..., strict=False)"
    )
    error.code = 4
    return error


def _call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Any]:
    """Arguments of FP8Attention, and the reason why it cannot do this."""
    call = {"query": query, "key": key, "value": value, "scale": scale, "reason": None}
    if dropout_p:
        call["reason"] = "dropout"
    elif is_causal:
        call["reason"] = "causal mask"
    elif query.ndim != 4:
        call["reason"] = f"inputs of {query.ndim} dimensions"
    elif value.shape[-1] != query.shape[-1]:
        call["reason"] = "values of another width than queries"
    elif key.shape[1] != query.shape[1] and not enable_gqa:
        call["reason"] = "fewer heads of keys without enable_gqa"
    elif attn_mask is not None and torch.compiler.is_compiling():
        call["mask"] = attn_mask
    elif attn_mask is not None:
        padding = padding_of(attn_mask, query.shape[0], key.shape[-2])
        if padding is None:
            call["reason"] = _OTHER_MASK
        else:
            call |= {"key": padding.apply(key), "value": padding.apply(value)}
            call["kv_length"] = padding.lengths
    return call


@dataclass
class Padding:
    """A mask that leaves out keys, the same ones for all heads and queries of a batch."""

    lengths: list[int]  # per batch, how many keys count
    order: torch.Tensor | None  # [batch or 1, longest]: those keys, first; None: they are first

    def apply(self, heads: torch.Tensor) -> torch.Tensor:
        """The keys, or values, that count, in the order that attention does not care about."""
        if self.order is None:
            return heads
        return torch.take_along_dim(heads, self.order[:, None, :, None], 2)


def padding_of(mask: torch.Tensor, batch: int, keys: int) -> Padding | None:
    """None: it is another mask."""
    allowed = mask if mask.dtype == torch.bool else mask == 0
    if mask.dtype != torch.bool and not (allowed | (mask <= _MASKED)).all():
        return None
    if allowed.ndim > 4 or allowed.shape[-1] not in (1, keys):
        return None
    allowed = allowed.reshape((1,) * (4 - allowed.ndim) + allowed.shape)
    rows = allowed[:, :1, :1]
    if not (allowed == rows).all():  # not the same for all heads and queries
        return None
    rows = rows.reshape(-1, allowed.shape[-1]).expand(-1, keys)
    length = rows.sum(-1)
    if len(length) not in (1, batch) or not (length > 0).all():
        return None
    order = None
    if not (rows == (torch.arange(keys) < length[:, None])).all():
        order = rows.byte().argsort(dim=-1, descending=True, stable=True)[:, : int(length.max())]
    return Padding(length.expand(batch).tolist(), order)


class _Enter:
    def __init__(self, attention: FP8Attention, strict: bool, report: Report) -> None:
        self._made = (attention, strict, report)

    def __call__(self, module: nn.Module, args: Any) -> None:
        _used.names.discard(self._made[0].name)
        mode = _InsideAttention(*self._made)
        _open.modes.append(mode)
        mode.__enter__()


class _Leave:
    """Runs also when the module raises."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if not _open.modes or _open.modes[-1].attention.name != self._name:
            return  # a hook before ours raised
        _open.modes.pop().__exit__(None, None, None)
        if output is not None and self._name not in _used.names:
            error = _core.Error(
                f"attention {self._name} ran without torch's scaled_dot_product_attention and "
                "without calling fa_quant: it was computed in float\n"
                "  fix: call module.fa_quant(query, key, value) in its forward"
            )
            error.code = 5
            raise error


def is_fa_quant_hook(hook: Any) -> bool:
    """Whether add_fa_quant() put it there."""
    return isinstance(hook, (_Enter, _Leave))


class _Open(threading.local):
    """Modes of modules that are running in this thread."""

    def __init__(self) -> None:
        self.modes: list[_InsideAttention] = []


_open = _Open()


def add_fa_quant(
    module: nn.Module, attention: FP8Attention, *, strict: bool, report: Report
) -> None:
    """`module.fa_quant`, as upstream, for models that call it; and for those that do not, FP8 in
    place of scaled_dot_product_attention while the module runs."""
    module.fa_quant = attention
    module.register_forward_pre_hook(_Enter(attention, strict, report))
    module.register_forward_hook(_Leave(attention.name), always_call=True)
