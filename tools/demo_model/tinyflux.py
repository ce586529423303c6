"""Flux transformer in plain PyTorch, with the tensor names of diffusers' FluxTransformer2DModel.

One file, no dependency but torch. It exists to be read beside the C++ code and to train the demo
model, so it follows diffusers' arithmetic step by step. `test_train.py` checks that both give the
same output.

    model = TinyFlux(FluxConfig())
    v = model(x, states, pooled, t, rope_tables(model.config, text_tokens=16, rows=8, cols=8))

Shapes: x [b, s_img, in_channels], states [b, s_txt, joint], pooled [b, pooled], t [b] in [0, 1];
the output v [b, s_img, in_channels] is the rectified-flow velocity, noise - image.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

NORM_EPS = 1e-6
ROPE_THETA = 10000.0
TIME_CHANNELS = 256
TIME_SCALE = 1000.0


@dataclasses.dataclass(frozen=True)
class FluxConfig:
    """The keys of diffusers' config.json, with the demo model's values."""

    patch_size: int = 1
    in_channels: int = 64
    out_channels: int | None = None
    num_layers: int = 2
    num_single_layers: int = 4
    attention_head_dim: int = 128
    num_attention_heads: int = 2
    joint_attention_dim: int = 384
    pooled_projection_dim: int = 768
    guidance_embeds: bool = False
    axes_dims_rope: tuple[int, ...] = (16, 56, 56)

    @property
    def width(self) -> int:
        return self.attention_head_dim * self.num_attention_heads


def rope_tables(config: FluxConfig, text_tokens: int, rows: int, cols: int):
    """(cos, sin), each [text_tokens + rows * cols, head_dim / 2], f32 from float64 angles.

    Text ids are zero, so text is not rotated; image ids are (0, row, col), row-major.
    """
    ids = torch.zeros(text_tokens + rows * cols, 3, dtype=torch.float64)
    ids[text_tokens:, 1] = torch.arange(rows).repeat_interleave(cols)
    ids[text_tokens:, 2] = torch.arange(cols).repeat(rows)
    angles = []
    for axis, dim in enumerate(config.axes_dims_rope):
        exponent = torch.arange(0, dim, 2, dtype=torch.float64) / dim
        angles.append(torch.outer(ids[:, axis], ROPE_THETA**-exponent))
    angle = torch.cat(angles, dim=1)
    return angle.cos().float(), angle.sin().float()


def apply_rope(x, rope):
    """Rotates adjacent pairs of x [b, heads, s, head_dim]: (x0, x1) -> (x0 c - x1 s, x1 c + x0 s)."""
    cos, sin = rope
    x0, x1 = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack([x0 * cos - x1 * sin, x1 * cos + x0 * sin], dim=-1)
    return rotated.flatten(-2).to(x.dtype)


def time_embedding(t):
    """[b] in [0, 1] -> [b, 256] = [cos(128) | sin(128)] of 1000 t f_i, f_i = 10000^(-i/128)."""
    half = TIME_CHANNELS // 2
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    frequency = torch.exp(-math.log(10000.0) * index / half)
    angle = (t.float() * TIME_SCALE)[:, None] * frequency[None, :]
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def layer_norm(x):
    """LayerNorm without affine parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def modulate(x, shift, scale):
    return layer_norm(x) * (1 + scale) + shift


class RmsNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        x32 = x.float()
        inverse_rms = torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + NORM_EPS)
        return (x32 * inverse_rms * self.weight).to(x.dtype)


class AdaLayerNorm(nn.Module):
    """Only the Linear has tensors; `forward` returns its output rows in `chunks` parts [b, 1, width]."""

    def __init__(self, width, chunks):
        super().__init__()
        self.linear = nn.Linear(width, chunks * width)
        self.chunks = chunks

    def forward(self, silu_temb):
        return self.linear(silu_temb).unsqueeze(1).chunk(self.chunks, dim=-1)


class GeluProjection(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x):
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """net.1 is diffusers' dropout: it holds no tensors, but it fixes the name net.2."""

    def __init__(self, width):
        super().__init__()
        gelu = GeluProjection(width, 4 * width)
        self.net = nn.ModuleList([gelu, nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class Attention(nn.Module):
    def __init__(self, config, joint):
        super().__init__()
        width, head_dim = config.width, config.attention_head_dim
        self.heads = config.num_attention_heads
        self.norm_q, self.norm_k = RmsNorm(head_dim), RmsNorm(head_dim)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        if joint:
            self.norm_added_q, self.norm_added_k = RmsNorm(head_dim), RmsNorm(head_dim)
            self.add_q_proj, self.add_k_proj, self.add_v_proj = (
                nn.Linear(width, width) for _ in range(3)
            )
            self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Identity()])
            self.to_add_out = nn.Linear(width, width)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, q, k, v, rope):
        out = F.scaled_dot_product_attention(apply_rope(q, rope), apply_rope(k, rope), v)
        return out.transpose(1, 2).flatten(2)

    def qkv(self, x):
        q, k, v = self.split(self.to_q(x)), self.split(self.to_k(x)), self.split(self.to_v(x))
        return self.norm_q(q), self.norm_k(k), v

    def added_qkv(self, text):
        q, k = self.split(self.add_q_proj(text)), self.split(self.add_k_proj(text))
        return self.norm_added_q(q), self.norm_added_k(k), self.split(self.add_v_proj(text))

    def forward(self, z, rope):
        """Self attention of the single blocks; no output projection."""
        return self.attend(*self.qkv(z), rope)

    def forward_joint(self, x, text, rope):
        """Joint attention of the double blocks, tokens in the order text, image."""
        pairs = zip(self.added_qkv(text), self.qkv(x))
        q, k, v = (torch.cat(pair, dim=2) for pair in pairs)
        out = self.attend(q, k, v, rope)
        text_tokens = text.shape[1]
        return self.to_out[0](out[:, text_tokens:]), self.to_add_out(out[:, :text_tokens])


class DoubleBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm1 = AdaLayerNorm(config.width, 6)
        self.norm1_context = AdaLayerNorm(config.width, 6)
        self.attn = Attention(config, joint=True)
        self.ff = FeedForward(config.width)
        self.ff_context = FeedForward(config.width)

    def forward(self, x, text, silu_temb, rope):
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.norm1(silu_temb)
        c_shift, c_scale, c_gate, c_shift_mlp, c_scale_mlp, c_gate_mlp = self.norm1_context(
            silu_temb
        )
        x_attn, text_attn = self.attn.forward_joint(
            modulate(x, shift, scale), modulate(text, c_shift, c_scale), rope
        )
        x = x + gate * x_attn
        x = x + gate_mlp * self.ff(modulate(x, shift_mlp, scale_mlp))
        text = text + c_gate * text_attn
        text = text + c_gate_mlp * self.ff_context(modulate(text, c_shift_mlp, c_scale_mlp))
        return x, text


class SingleBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config.width
        self.norm = AdaLayerNorm(width, 3)
        self.attn = Attention(config, joint=False)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)

    def forward(self, z, silu_temb, rope):
        shift, scale, gate = self.norm(silu_temb)
        n = modulate(z, shift, scale)
        mlp = F.gelu(self.proj_mlp(n), approximate="tanh")
        return z + gate * self.proj_out(torch.cat([self.attn(n, rope), mlp], dim=-1))


class TwoLayerMlp(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class TimeTextEmbedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.timestep_embedder = TwoLayerMlp(TIME_CHANNELS, config.width)
        self.text_embedder = TwoLayerMlp(config.pooled_projection_dim, config.width)

    def forward(self, t, pooled):
        return self.timestep_embedder(time_embedding(t).to(pooled.dtype)) + self.text_embedder(
            pooled
        )


class TinyFlux(nn.Module):
    def __init__(self, config: FluxConfig = FluxConfig()):
        super().__init__()
        if config.guidance_embeds or config.patch_size != 1 or config.out_channels is not None:
            raise ValueError(f"config: only the demo model's kind of Flux is supported, got {config}")
        self.config = config
        width = config.width
        self.x_embedder = nn.Linear(config.in_channels, width)
        self.context_embedder = nn.Linear(config.joint_attention_dim, width)
        self.time_text_embed = TimeTextEmbedding(config)
        self.transformer_blocks = nn.ModuleList(
            DoubleBlock(config) for _ in range(config.num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(config) for _ in range(config.num_single_layers)
        )
        self.norm_out = AdaLayerNorm(width, 2)
        self.proj_out = nn.Linear(width, config.in_channels)

    def forward(self, x, states, pooled, t, rope):
        silu_temb = F.silu(self.time_text_embed(t, pooled))
        x, text = self.x_embedder(x), self.context_embedder(states)
        for block in self.transformer_blocks:
            x, text = block(x, text, silu_temb, rope)
        z = torch.cat([text, x], dim=1)
        for block in self.single_transformer_blocks:
            z = block(z, silu_temb, rope)
        scale, shift = self.norm_out(silu_temb)  # the one norm with scale first
        return self.proj_out(modulate(z[:, text.shape[1] :], shift, scale))


def initialise(model: TinyFlux, generator: torch.Generator):
    """adaLN-zero: Xavier weights, zero biases, and zero adaLN and output Linears."""
    for name, parameter in sorted(model.named_parameters()):
        if name.startswith("proj_out.") or "norm1" in name or ".norm.linear" in name:
            nn.init.zeros_(parameter)
        elif name.startswith("norm_out.") or name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter, generator=generator)
