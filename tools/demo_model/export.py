#!/usr/bin/env python3
"""Writes a checkpoint's EMA weights, rounded to bf16, as a diffusers folder.

    python export.py --checkpoint build/demo_model/checkpoints/last.pt --demo demo

writes DEMO/transformer/{config.json, two shards, index} and DEMO/scheduler/scheduler_config.json.
"""

import argparse
import dataclasses
import json
import pathlib

import torch

import safetensors_io
from tinyflux import FluxConfig

DIFFUSERS_VERSION = "0.35.0"
SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": DIFFUSERS_VERSION,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    args = parser.parse_args()
    checkpoint = torch.load(args.checkpoint)
    folder = args.demo / "transformer"
    config = {"_class_name": "FluxTransformer2DModel", "_diffusers_version": DIFFUSERS_VERSION}
    write_json(folder / "config.json", config | dataclasses.asdict(FluxConfig()))
    write_json(args.demo / "scheduler" / "scheduler_config.json", SCHEDULER)
    ema = {n: safetensors_io.to_bfloat16(t.numpy()) for n, t in checkpoint["ema"].items()}
    safetensors_io.write_transformer(folder, ema)
    count = sum(array.size for _, array in ema.values())
    print(f"{len(ema)} tensors, {count} parameters of step {checkpoint['step']} -> {folder}")


if __name__ == "__main__":
    main()
