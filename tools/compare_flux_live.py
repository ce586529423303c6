#!/usr/bin/env python3
"""Runs diffusers and the C++ Flux on the same models; fails above relative L2 1e-5.

    python tools/compare_flux_live.py [--test build/dev/bin/models_test] [--demo demo] [--keep]

Needs torch and diffusers (build/venv of ./x test python has them). Writes build/flux_live/MODEL/
{transformer/, io.safetensors}, which the test SlowFluxLive reads: the demo model and two random tiny
ones, in f32, with ids and inputs drawn at random.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from flux_reference import FluxTransformer2DModel, grid_ids, random_flux, velocity  # noqa: E402

OUT = ROOT / "build" / "flux_live"

TINY = {
    "patch_size": 1, "in_channels": 4, "num_layers": 1, "num_single_layers": 1,
    "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32,
    "pooled_projection_dim": 32, "guidance_embeds": True, "axes_dims_rope": [4, 4, 8],
}  # fmt: skip
WIDER = dict(
    TINY, in_channels=32, out_channels=16, num_layers=2, num_single_layers=2, guidance_embeds=False,
    attention_head_dim=24, num_attention_heads=3, axes_dims_rope=[8, 8, 8],
)  # fmt: skip


def random_inputs(config, batch, text_tokens, rows, cols):
    inputs = {
        "latents": torch.randn(batch, rows * cols, config.in_channels),
        "text": torch.randn(batch, text_tokens, config.joint_attention_dim),
        "pooled": torch.randn(batch, config.pooled_projection_dim),
        "timestep": torch.rand(batch),
        "ids": torch.cat(grid_ids(text_tokens, rows, cols)),
    }
    if config.guidance_embeds:
        inputs["guidance"] = torch.rand(batch) * 5
    return inputs


def write_case(name, model, transformer_folder, shape):
    folder = OUT / name
    folder.mkdir(parents=True)
    if transformer_folder is None:
        model.save_pretrained(folder / "transformer")
    else:
        shutil.copytree(transformer_folder, folder / "transformer")
    x = random_inputs(model.config, *shape)
    ids = x["ids"].split([shape[1], shape[2] * shape[3]])
    x["velocity"] = velocity(
        model, x["latents"], x["text"], x["pooled"], x["timestep"], x.get("guidance"), ids
    )
    save_file({key: value.contiguous() for key, value in x.items()}, folder / "io.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--test", type=pathlib.Path, default=ROOT / "build/dev/bin/models_test")
    parser.add_argument("--demo", type=pathlib.Path, default=ROOT / "demo")
    parser.add_argument("--keep", action="store_true", help="leave build/flux_live behind")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    shutil.rmtree(OUT, ignore_errors=True)
    write_case("tiny", random_flux(TINY, 1), None, (2, 5, 3, 4))
    write_case("wider", random_flux(WIDER, 2), None, (1, 7, 4, 6))
    transformer = args.demo / "transformer"
    model = FluxTransformer2DModel.from_pretrained(transformer, torch_dtype=torch.float32)
    write_case("demo", model.eval(), transformer, (2, 16, 8, 8))
    result = subprocess.run([args.test, "--gtest_filter=SlowFluxLive.*"], check=False)
    if not args.keep:
        shutil.rmtree(OUT)
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
