"""Blocks of diffusers' Flux transformer with what stands between their linears in C++.

The classes have the names of those they stand in for, which diffusers and accelerate ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.transformers import transformer_flux as flux
from torch import nn
from torch.nn import functional

from mezzotint import _token_ops as ops
from mezzotint.attention import is_fa_quant_hook

_DTYPES = (torch.float32, torch.bfloat16)


class FluxTransformerBlock(flux.FluxTransformerBlock):
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        image_rotary_emb: Any = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states = (hidden_states, encoder_hidden_states)
        steps = (self.norm1, self.norm1.norm, self.norm1_context, self.norm1_context.norm, self.norm2,
                 self.norm2_context, self.ff, self.ff_context, *_steps_of(self.ff), *_steps_of(self.ff_context),
                 self.attn.norm_added_q, self.attn.norm_added_k)  # fmt: skip
        if not _are_ours(self, states, image_rotary_emb, joint_attention_kwargs, steps):
            return super().forward(*states, temb, image_rotary_emb, joint_attention_kwargs)
        return self._run(*states, temb, _rotation(image_rotary_emb))

    def _run(
        self, image: torch.Tensor, text: torch.Tensor, temb: torch.Tensor, rotation: ops.Rotation
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attn, tokens = self.attn, text.shape[1]
        silu = functional.silu(temb)
        text_chunks = _chunks(self.norm1_context, silu, 6)
        image_chunks = _chunks(self.norm1, silu, 6)
        q, k, v = _joint(image, tokens), _joint(image, tokens), _joint(image, tokens)
        streams = (
            (text, text_chunks, self.norm1_context, slice(0, tokens),
             (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), (attn.norm_added_q, attn.norm_added_k)),
            (image, image_chunks, self.norm1, slice(tokens, None),
             (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k)),
        )  # fmt: skip
        for x, (shift, scale, *_), norm, place, linears, norms in streams:
            normed = ops.modulate(x, scale, shift, norm.norm.eps)
            outs = [torch.empty(x.shape, dtype=x.dtype) for _ in range(3)]
            ops.run_linears(linears, normed, outs)
            angles = (rotation[0][place], rotation[1][place])
            for out, joint, head_norm in zip(outs, (q, k), norms):
                ops.rotate_heads(out, head_norm, angles, joint[:, place])
            v[:, place] = outs[2]
        out = torch.empty(q.shape, dtype=q.dtype)
        _attend(attn, q, k, v, out)
        text = _after_attention(text, attn.to_add_out(out[:, :tokens].contiguous()), text_chunks,
                                self.norm2_context, self.ff_context)  # fmt: skip
        image = _after_attention(image, attn.to_out[0](out[:, tokens:].contiguous()), image_chunks,
                                 self.norm2, self.ff)  # fmt: skip
        return text, image


class FluxSingleTransformerBlock(flux.FluxSingleTransformerBlock):
    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        image_rotary_emb: Any = None,
        joint_attention_kwargs: dict[str, Any] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        states = (hidden_states, encoder_hidden_states)
        steps = (self.norm, self.norm.norm, self.act_mlp)
        if not _are_ours(self, states, image_rotary_emb, joint_attention_kwargs, steps):
            return super().forward(*states, temb, image_rotary_emb, joint_attention_kwargs)
        x = torch.cat([encoder_hidden_states, hidden_states], 1)
        self._run(x, temb, _rotation(image_rotary_emb))
        tokens = encoder_hidden_states.shape[1]
        return x[:, :tokens], x[:, tokens:]

    def _run(self, x: torch.Tensor, temb: torch.Tensor, rotation: ops.Rotation) -> None:
        """In place."""
        attn, (batch, tokens, width) = self.attn, x.shape
        shift, scale, gate = _chunks(self.norm, functional.silu(temb), 3)
        normed = ops.modulate(x, scale, shift, self.norm.norm.eps)
        q, k, v = (torch.empty(x.shape, dtype=x.dtype) for _ in range(3))
        # proj_out reads [attention | MLP]: both are written in place, side by side.
        wide = torch.empty((batch, tokens, width + self.mlp_hidden_dim), dtype=x.dtype)
        ops.run_linears((attn.to_q, attn.to_k, attn.to_v, self.proj_mlp), normed, (q, k, v, wide[..., width:]))
        ops.gelu_(wide[..., width:])
        ops.rotate_heads(q, attn.norm_q, rotation, q)
        ops.rotate_heads(k, attn.norm_k, rotation, k)
        _attend(attn, q, k, v, wide[..., :width])
        ops.add_gated(self.proj_out(wide), gate, x, x)


BLOCKS = {
    flux.FluxTransformerBlock: FluxTransformerBlock,
    flux.FluxSingleTransformerBlock: FluxSingleTransformerBlock,
}


def _are_ours(
    block: nn.Module, states: tuple[torch.Tensor, ...], rotation: Any, others: Any, steps: tuple[nn.Module, ...]
) -> bool:
    """Whether C++ does the same: plain attention on the CPU, and nobody else looks in between."""
    attn, x = block.attn, states[0]
    if torch.compiler.is_compiling() or block.training or others or not isinstance(rotation, tuple):
        return False
    if x.dtype not in _DTYPES or any(s.dtype != x.dtype or not s.is_cpu or s.stride(-1) != 1 for s in states):
        return False
    if torch.is_grad_enabled() and any(s.requires_grad for s in states):
        return False
    processor = attn.processor
    if type(processor) is not flux.FluxAttnProcessor or processor._attention_backend or attn.fused_projections:
        return False
    if getattr(processor, "_parallel_config", None) is not None or attn.norm_q.weight is None:
        return False
    hooks = (*attn._forward_hooks.values(), *attn._forward_pre_hooks.values())
    if "forward" in attn.__dict__ or not all(is_fa_quant_hook(hook) for hook in hooks):
        return False
    return not any(ops.is_hooked(step) for step in (*steps, attn.norm_q, attn.norm_k))


def _steps_of(ff: nn.Module) -> Iterator[nn.Module]:
    yield ff.net[0]
    yield ff.net[1]


def _chunks(norm: nn.Module, silu: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """The vectors of an adaLN linear, in float32."""
    return norm.linear(silu).float().chunk(count, 1)


def _rotation(image_rotary_emb: tuple[torch.Tensor, torch.Tensor]) -> ops.Rotation:
    """diffusers has every angle twice."""
    cos, sin = (angles[:, ::2].float().contiguous() for angles in image_rotary_emb)
    return cos, sin


def _joint(image: torch.Tensor, text_tokens: int) -> torch.Tensor:
    batch, tokens, width = image.shape
    return torch.empty((batch, text_tokens + tokens, width), dtype=image.dtype)


def _attend(attn: nn.Module, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> None:
    fa_quant = getattr(attn, "fa_quant", None)
    if fa_quant is None:
        ops.attend(q, k, v, attn.heads, out)
        return
    heads = (tensor.unflatten(-1, (attn.heads, -1)) for tensor in (q, k, v))
    out.copy_(fa_quant(*heads, "BSND").flatten(2))


def _after_attention(
    x: torch.Tensor, projected: torch.Tensor, chunks: tuple[torch.Tensor, ...], norm: nn.LayerNorm, ff: nn.Module
) -> torch.Tensor:
    """The gated sum, and the feed-forward part on it."""
    _, _, gate, mlp_shift, mlp_scale, mlp_gate = chunks
    y = torch.empty(x.shape, dtype=x.dtype)
    ops.add_gated(projected, gate, x, y)
    inner = ff.net[0].proj(ops.modulate(y, mlp_scale, mlp_shift, norm.eps))
    ops.gelu_(inner)
    ops.add_gated(ff.net[2](inner), mlp_gate, y, y)
    return y
