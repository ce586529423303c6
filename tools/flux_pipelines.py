"""Whole Flux pipelines of diffusers that run on a CPU in seconds, for the tools that time them.

    case = CASES["demo"]
    image = case.draw(case.model(torch.bfloat16))

demo: the shipped model (width 256, trained). wide: random weights, width 1024, the tokens of a picture
of 512 x 512; its pictures are noise, but errors, memory and times are those of its arithmetic.
"""

import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
_ABSENT = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    steps: int
    calls_per_step: int  # of the transformer: 2 with true CFG
    model: Callable[[torch.dtype], FluxTransformer2DModel]
    inputs: Callable[[torch.dtype], dict]

    def draw(self, model, dtype=None, steps=None):
        """The latents at fixed seeds, in float32."""
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(ROOT / "demo" / "scheduler")
        pipe = FluxPipeline(scheduler=scheduler, transformer=model, **_ABSENT)
        pipe.set_progress_bar_config(disable=True)
        inputs = self.inputs(dtype or model.dtype)
        generator = [torch.Generator().manual_seed(seed) for seed in range(len(inputs["prompt_embeds"]))]
        steps = steps or self.steps
        with torch.inference_mode():
            out = pipe(num_inference_steps=steps, output_type="latent", generator=generator, **inputs)
        return out.images.float()


def psnr(image, exact):
    """In dB, of the range of the exact image."""
    peak = float(exact.max() - exact.min())
    return 10 * math.log10(peak**2 / float((image - exact).square().mean()))


def _demo_model(dtype):
    return FluxTransformer2DModel.from_pretrained(ROOT / "demo" / "transformer", torch_dtype=dtype).eval()


def _demo_inputs(dtype, images=16):
    prompts = {name: t.to(dtype) for name, t in load_file(ROOT / "demo" / "prompts.safetensors").items()}
    return {
        "prompt_embeds": prompts["states"][:images],
        "pooled_prompt_embeds": prompts["pooled"][:images],
        "negative_prompt_embeds": prompts["null_states"].expand(images, -1, -1),
        "negative_pooled_prompt_embeds": prompts["null_pooled"].expand(images, -1),
        "true_cfg_scale": 4.5, "height": 128, "width": 128,
    }  # fmt: skip


def _wide_model(dtype):
    torch.manual_seed(1)
    config = {"num_layers": 2, "num_single_layers": 4, "attention_head_dim": 128, "num_attention_heads": 8,
              "joint_attention_dim": 512, "pooled_projection_dim": 768, "guidance_embeds": False}  # fmt: skip
    model = FluxTransformer2DModel(**config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():  # gates near 1: blocks matter, as in trained models
        if name.endswith(("norm1.linear.bias", "norm1_context.linear.bias")):
            parameter.view(6, -1)[[2, 5]] += 1
        elif name.endswith(".norm.linear.bias"):
            parameter.view(3, -1)[2] += 1
    return model.to(dtype)


def _wide_inputs(dtype, text_tokens=128):
    generator = torch.Generator().manual_seed(2)
    return {
        "prompt_embeds": torch.randn(1, text_tokens, 512, generator=generator).to(dtype),
        "pooled_prompt_embeds": torch.randn(1, 768, generator=generator).to(dtype),
        "height": 512, "width": 512,
    }  # fmt: skip


CASES = {
    "demo": Case("demo", "16 images of 64 + 16 tokens, width 256, 2 + 4 blocks, true CFG 4.5", 20, 2,
                 _demo_model, _demo_inputs),
    "wide": Case("wide", "1 image of 1024 + 128 tokens, width 1024, 2 + 4 blocks, random weights", 4, 1,
                 _wide_model, _wide_inputs),
}  # fmt: skip
