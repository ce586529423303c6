"""Tiny random pipelines of five families, without text encoders and without VAEs, and one Flux alone."""

from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel


def randn(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padding(valid, length=8):
    return (torch.arange(length) < valid).long()[None]


def tiny_flux():
    torch.manual_seed(1)
    return FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=4, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8), guidance_embeds=False,
    ).eval()  # fmt: skip


@dataclass(frozen=True)
class Family:
    pipeline: str
    transformer: str
    config: dict[str, Any]
    inputs: dict[str, Any]
    linears: int  # all of the model
    kept: int  # by the preset, with W8A8_DYNAMIC
    attentions: int  # that the preset knows
    error: float  # of two steps, relative to float: twice what was seen
    sensitive: str  # a layer whose error shows
    components: tuple[str, ...] = ()  # that the pipeline takes beside the scheduler


SIZE = {"height": 64, "width": 64}
FAMILIES = {
    "flux": Family(
        "FluxPipeline", "FluxTransformer2DModel",
        {"patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1,
         "attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": 32,
         "pooled_projection_dim": 32, "axes_dims_rope": (8, 12, 12)},
        {"prompt_embeds": randn(1, 8, 32), "pooled_prompt_embeds": randn(1, 32), **SIZE},
        linears=28, kept=8, attentions=2, error=0.0008, sensitive="transformer_blocks.0.ff.net.0.proj",
        components=("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
    ),
    "sd3": Family(
        "StableDiffusion3Pipeline", "SD3Transformer2DModel",
        {"sample_size": 32, "patch_size": 1, "in_channels": 4, "out_channels": 4, "num_layers": 2,
         "attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": 32,
         "caption_projection_dim": 64, "pooled_projection_dim": 64, "dual_attention_layers": (0,),
         "qk_norm": "rms_norm"},
        {"prompt_embeds": randn(1, 8, 32), "pooled_prompt_embeds": randn(1, 64),
         "negative_prompt_embeds": randn(1, 8, 32, seed=4),
         "negative_pooled_prompt_embeds": randn(1, 64, seed=4), **SIZE},
        linears=36, kept=7, attentions=3, error=0.007, sensitive="transformer_blocks.0.attn.to_out.0",
        components=("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2",
                    "text_encoder_3", "tokenizer_3"),
    ),
    "wan": Family(
        "WanPipeline", "WanTransformer3DModel",
        {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 32,
         "in_channels": 16, "out_channels": 16, "text_dim": 32, "freq_dim": 32, "ffn_dim": 64,
         "num_layers": 2, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads",
         "rope_max_seq_len": 32},
        {"prompt_embeds": randn(1, 8, 32), "negative_prompt_embeds": randn(1, 8, 32, seed=4),
         "num_frames": 5, **SIZE},
        linears=26, kept=8, attentions=4, error=0.022, sensitive="blocks.1.attn2.to_v",
        components=("vae", "text_encoder", "tokenizer"),
    ),
    "qwen_image": Family(
        "QwenImagePipeline", "QwenImageTransformer2DModel",
        {"patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 2,
         "attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": 32,
         "guidance_embeds": False, "axes_dims_rope": (8, 12, 12)},
        {"prompt_embeds": randn(1, 8, 32), "prompt_embeds_mask": padding(5), "true_cfg_scale": 1.0,
         **SIZE},
        linears=34, kept=6, attentions=2, error=0.0009, sensitive="transformer_blocks.0.img_mlp.net.0.proj",
        components=("vae", "text_encoder", "tokenizer"),
    ),
    "hunyuan_video": Family(
        "HunyuanVideoPipeline", "HunyuanVideoTransformer3DModel",
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 32,
         "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "patch_size": 1,
         "patch_size_t": 1, "guidance_embeds": True, "text_embed_dim": 32,
         "pooled_projection_dim": 32, "rope_axes_dim": (8, 12, 12)},
        {"prompt_embeds": randn(1, 8, 32), "pooled_prompt_embeds": randn(1, 32),
         "prompt_attention_mask": padding(5), "num_frames": 5, "height": 32, "width": 32},
        linears=40, kept=23, attentions=2, error=0.0011, sensitive="transformer_blocks.0.ff.net.0.proj",
        components=("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
    ),
}  # fmt: skip


def transformer(name, seed=1):
    family = FAMILIES[name]
    torch.manual_seed(seed)
    return getattr(diffusers, family.transformer)(**family.config).eval()


def latents(name, model, steps=2):
    """What the pipeline makes of this model."""
    family = FAMILIES[name]
    absent = dict.fromkeys(family.components)
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipe = getattr(diffusers, family.pipeline)(scheduler=scheduler, transformer=model, **absent)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(
        num_inference_steps=steps, output_type="latent",
        generator=torch.Generator().manual_seed(1), **family.inputs,
    )  # fmt: skip
    return getattr(out, "images", None) if hasattr(out, "images") else out.frames
