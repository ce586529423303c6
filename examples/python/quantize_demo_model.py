#!/usr/bin/env python3
"""Quantizes the demo model from collect to report, as docs/tutorial.md walks through it.

    python examples/python/quantize_demo_model.py [--model demo] [--out build/tutorial]
"""

import argparse
import copy
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import load_file

import mezzotint


class Pipeline:
    """What a diffusers pipeline is to Mezzotint: a transformer, a scheduler, and a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer")
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self.prompts = {k: v.float() for k, v in load_file(folder / "prompts.safetensors").items()}

    @torch.no_grad()
    def __call__(self, prompt: int, *, steps: int, seed: int = 7, guidance: float = 4.5):
        """The tokens of one image, [64, 64]."""
        text = torch.stack([self.prompts["states"][prompt], self.prompts["null_states"]])
        pooled = torch.stack([self.prompts["pooled"][prompt], self.prompts["null_pooled"]])
        latents = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(seed))
        rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        image_ids = torch.stack([torch.zeros(64), rows.flatten(), columns.flatten()], -1)
        self.scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
        for t in self.scheduler.timesteps:
            velocity = self.transformer(
                hidden_states=latents.expand(2, -1, -1), encoder_hidden_states=text,
                pooled_projections=pooled, timestep=t.expand(2) / 1000, img_ids=image_ids,
                txt_ids=torch.zeros(16, 3),
            ).sample  # fmt: skip
            with_prompt, without = velocity.chunk(2)
            guided = without + guidance * (with_prompt - without)
            latents = self.scheduler.step(guided, t, latents).prev_sample
        return latents[0]


def psnr(image: torch.Tensor, exact: torch.Tensor) -> float:
    """In dB, for values in [-1, 1]."""
    error = (image.clamp(-1, 1) - exact.clamp(-1, 1)).square().mean()
    return float(10 * torch.log10(4 / error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("demo"))
    parser.add_argument("--out", type=Path, default=Path("build/tutorial"))
    parser.add_argument("--prompts", type=int, default=4, help="to collect from")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    pipe = Pipeline(args.model)
    reference = copy.deepcopy(pipe.transformer)
    with mezzotint.collect(pipe, args.out / "stats.safetensors", overwrite=True) as statistics:
        exact = [pipe(prompt, steps=args.steps) for prompt in range(args.prompts)]
    print(f"{len(statistics.inputs)} inputs of {args.prompts} runs")

    mezzotint.quantize_model(
        pipe.transformer, algo="w8a8_timestep", rules={"*.ff*.net.2": "w8a8_dynamic"},
        exclude=["*embedder*", "*norm*", "proj_out"], stats=args.out / "stats.safetensors",
    )  # fmt: skip
    mezzotint.track_timesteps(pipe)  # whose step W8A8_TIMESTEP layers follow
    quantized = [pipe(prompt, steps=args.steps) for prompt in range(args.prompts)]
    for image, float_image in zip(quantized, exact, strict=True):
        print(f"PSNR {psnr(image, float_image):.1f} dB")

    mezzotint.save(pipe.transformer, args.out / "quantized", overwrite=True)
    with torch.device("meta"):
        empty = FluxTransformer2DModel.from_config(reference.config)
    pipe.transformer = mezzotint.quantize(empty.eval(), args.out / "quantized")
    mezzotint.track_timesteps(pipe)
    assert torch.equal(pipe(0, steps=args.steps), quantized[0])

    def one_image(model: torch.nn.Module) -> torch.Tensor:
        pipe.transformer = model
        with mezzotint.track_timesteps(pipe):
            return pipe(0, steps=args.steps)

    report = mezzotint.report(reference, pipe.transformer, one_image)
    print(report)
    report.save(args.out / "report.html")


if __name__ == "__main__":
    main()
