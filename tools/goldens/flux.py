"""Writes testdata/flux/*.json: what diffusers computes for random and shipped Flux models.

Run by `./x goldens`. Weights and inputs are not stored: both sides make them from names and seeds
(tools/flux_reference.py).
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from flux_reference import (  # noqa: E402
    FluxTransformer2DModel,
    grid_ids,
    named_noise,
    random_flux,
    sample,
    velocity,
)
from noise import noise  # noqa: E402

TESTDATA = ROOT / "testdata" / "flux"

# Two heads of 16, guidance embedding, a batch of two.
GUIDED = {
    "config": {
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "guidance_embeds": True,
        "axes_dims_rope": [4, 4, 8],
    },
    "seed": 11,
    "rows": 3,
    "cols": 4,
    "text_tokens": 5,
    "timestep": [1.0, 0.25],
    "guidance": [3.5, 1.0],
}
# Three heads of 24, two layers of each kind, other output channels, patch size 2.
DEEPER = {
    "config": {
        "patch_size": 2,
        "in_channels": 32,
        "out_channels": 3,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 24,
        "num_attention_heads": 3,
        "joint_attention_dim": 40,
        "pooled_projection_dim": 20,
        "guidance_embeds": False,
        "axes_dims_rope": [8, 6, 10],
    },
    "seed": 12,
    "rows": 4,
    "cols": 4,
    "text_tokens": 7,
    "timestep": [0.6123],
    "guidance": [],
}
# Single blocks only; explicit ids, with text that is rotated as well.
IDS = {
    "config": dict(DEEPER["config"], patch_size=1, num_layers=0, num_single_layers=1),
    "seed": 13,
    "rows": 1,
    "cols": 5,
    "text_tokens": 3,
    "timestep": [0.9375],
    "guidance": [],
    "ids": [
        0, 1, 2, 3, 0.5, 1, 0, 0, 7,
        1, 0, 0, 1, 0, 1, 1, 2, 0, 0, 9, 4, 2, 1.5, 60,
    ],  # fmt: skip
}


def inputs_of(case):
    config, seed, batch = case["config"], case["seed"], len(case["timestep"])
    shapes = {
        "latents": (batch, case["rows"] * case["cols"], config["in_channels"]),
        "text": (batch, case["text_tokens"], config["joint_attention_dim"]),
        "pooled": (batch, config["pooled_projection_dim"]),
        "null_text": (batch, case["text_tokens"], config["joint_attention_dim"]),
        "null_pooled": (batch, config["pooled_projection_dim"]),
    }
    return {
        name: torch.from_numpy(named_noise("input." + name, seed, shape))
        for name, shape in shapes.items()
    }


def ids_of(case):
    if "ids" not in case:
        return grid_ids(case["text_tokens"], case["rows"], case["cols"])
    ids = torch.tensor(case["ids"], dtype=torch.float32).reshape(-1, 3)
    return ids[: case["text_tokens"]], ids[case["text_tokens"] :]


def run(model, case):
    x = inputs_of(case)
    guidance = torch.tensor(case["guidance"]) if case["guidance"] else None
    timestep = torch.tensor(case["timestep"])
    return velocity(model, x["latents"], x["text"], x["pooled"], timestep, guidance, ids_of(case))


def run_sampler(model, case, steps, cfg_scale, guidance, shift):
    x = inputs_of(case)
    positive, negative = (x["text"], x["pooled"]), (x["null_text"], x["null_pooled"])
    ids = ids_of(case)
    return sample(model, x["latents"], positive, negative, ids, steps, cfg_scale, guidance, shift)


def floats(tensor):
    return [float(f"{value:.9g}") for value in tensor.flatten().tolist()]


def write(name, content):
    text = json.dumps(content)
    (TESTDATA / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


def write_random_cases():
    for name, case in (("guided", GUIDED), ("deeper", DEEPER), ("ids", IDS)):
        model = random_flux(case["config"], case["seed"])
        result = dict(case, velocity=floats(run(model, case)))
        if name == "guided":
            settings = {"steps": 3, "cfg_scale": 2.5, "guidance": 3.5, "shift": 3.0}
            result["sampler"] = settings
            result["latents"] = floats(run_sampler(model, case, **settings))
        write(f"{name}.json", result)


DEMO_TOKEN_STRIDE = 8  # every 8th image token is kept


def write_demo_case(folder):
    """One step of the shipped model in f32 on prompt 0 with Philox noise."""
    model = FluxTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    prompts = load_prompts(folder)
    tokens, channels = 64, model.config.in_channels
    latents = torch.from_numpy(noise(5, 0, tokens * channels)).reshape(1, tokens, channels)
    out = velocity(
        model.eval(), latents, prompts["states"][:1], prompts["pooled"][:1],
        torch.tensor([0.7]), None, grid_ids(16, 8, 8),
    )  # fmt: skip
    kept = out[0, ::DEMO_TOKEN_STRIDE]
    case = {"prompt": 0, "noise_seed": 5, "timestep": 0.7, "token_stride": DEMO_TOKEN_STRIDE}
    write("demo.json", dict(case, velocity=floats(kept)))


def load_prompts(folder):
    tensors = load_file(folder / "prompts.safetensors")
    return {name: tensor.float() for name, tensor in tensors.items()}


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    TESTDATA.mkdir(parents=True, exist_ok=True)
    write_random_cases()
    if (ROOT / "demo" / "transformer" / "config.json").exists():
        write_demo_case(ROOT / "demo")


if __name__ == "__main__":
    main()
