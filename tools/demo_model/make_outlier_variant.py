#!/usr/bin/env python3
"""Gives a Flux checkpoint activation outliers without changing what it computes.

    python make_outlier_variant.py demo/transformer build/demo_outlier/transformer --factor 16

Small models have mild activations, so they do not tell rounding from rotation, smoothing or low-rank
correction. This tool multiplies a few channels of the Linear inputs by a power of two and divides
the matching weight columns by it:

* adaLN: (1 + scale) and shift of a channel times a -> weight and bias rows of the shift chunk and
  weight rows of the scale chunk times a, scale bias b -> a b + (a - 1); the columns of every Linear
  that reads the modulated tensor are divided by a.
* attention output: rows of to_v (and add_v_proj) times a, columns of to_out.0, to_add_out or
  proj_out divided by a.

Weights stay exact in bf16 because a is a power of two; scale biases are stored as F32 beside them.
Needs numpy only. Deterministic: same source and flags, same bytes.
"""

import argparse
import json
import math
import pathlib
import shutil

import numpy as np

import safetensors_io

SHIFT_MSA, SCALE_MSA, SHIFT_MLP, SCALE_MLP = 0, 1, 3, 4  # chunks of the adaLN Linears


class Reparametrisation:
    def __init__(self, tensors, width, factor, fraction, seed):
        self.tensors = dict(tensors)
        self.width, self.factor, self.fraction = width, factor, fraction
        self.rng = np.random.default_rng(seed)

    def pick(self):
        count = max(1, round(self.fraction * self.width))
        return np.sort(self.rng.permutation(self.width)[:count])

    def put(self, name, value):
        """Back to the old dtype where that is exact, else F32."""
        dtype = self.tensors[name][0]
        if dtype == "BF16":
            rounded = safetensors_io.to_bfloat16(value)
            if np.array_equal(safetensors_io.to_float32(rounded), value):
                self.tensors[name] = rounded
                return
            if name.endswith("weight"):
                raise ValueError(f"{name}: times {self.factor} is not exact in bf16")
        self.tensors[name] = ("F32", value.astype(np.float32))

    def update(self, name, change):
        value = safetensors_io.to_float32(self.tensors[name]).copy()
        change(value)
        self.put(name, value)

    def scale_rows(self, linear, rows):
        def change(value):
            value[rows] *= np.float32(self.factor)

        self.update(linear + ".weight", change)
        self.update(linear + ".bias", change)

    def raise_scale(self, linear, rows):
        """1 + scale -> factor (1 + scale) for an adaLN Linear's scale rows."""

        def change_bias(value):
            exact = value[rows].astype(np.float64) * self.factor + (self.factor - 1)
            value[rows] = exact.astype(np.float32)

        def change_weight(value):
            value[rows] *= np.float32(self.factor)

        self.update(linear + ".weight", change_weight)
        self.update(linear + ".bias", change_bias)

    def divide_columns(self, linears, channels):
        def change(value):
            value[:, channels] /= np.float32(self.factor)

        for linear in linears:
            self.update(linear + ".weight", change)

    def modulation(self, norm, shift, scale, readers):
        channels = self.pick()
        self.scale_rows(norm, shift * self.width + channels)
        self.raise_scale(norm, scale * self.width + channels)
        self.divide_columns(readers, channels)

    def value_path(self, producers, readers):
        channels = self.pick()
        for producer in producers:
            self.scale_rows(producer, channels)
        self.divide_columns(readers, channels)

    def double_block(self, block):
        attn = block + ".attn"
        qkv = [f"{attn}.to_{c}" for c in "qkv"]
        added = [f"{attn}.add_{c}_proj" for c in "qkv"]
        norm, norm_context = block + ".norm1.linear", block + ".norm1_context.linear"
        self.modulation(norm, SHIFT_MSA, SCALE_MSA, qkv)
        self.modulation(norm, SHIFT_MLP, SCALE_MLP, [block + ".ff.net.0.proj"])
        self.modulation(norm_context, SHIFT_MSA, SCALE_MSA, added)
        self.modulation(norm_context, SHIFT_MLP, SCALE_MLP, [block + ".ff_context.net.0.proj"])
        outputs = [attn + ".to_out.0", attn + ".to_add_out"]
        self.value_path([attn + ".to_v", attn + ".add_v_proj"], outputs)

    def single_block(self, block):
        attn = block + ".attn"
        readers = [f"{attn}.to_{c}" for c in "qkv"] + [block + ".proj_mlp"]
        self.modulation(block + ".norm.linear", SHIFT_MSA, SCALE_MSA, readers)
        # proj_out reads [attention, mlp]: the attention channels are its first `width` columns.
        self.value_path([attn + ".to_v"], [block + ".proj_out"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("destination", type=pathlib.Path)
    parser.add_argument("--factor", type=float, default=16.0, help="a power of two")
    parser.add_argument("--fraction", type=float, default=0.03, help="share of the channels")
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    if math.frexp(args.factor)[0] != 0.5:
        raise SystemExit(f"--factor: expected a power of two, got {args.factor}")
    config = json.loads((args.source / "config.json").read_text())
    width = config["num_attention_heads"] * config["attention_head_dim"]
    tensors, _ = safetensors_io.read_transformer(args.source)
    work = Reparametrisation(tensors, width, args.factor, args.fraction, args.seed)
    for i in range(config["num_layers"]):
        work.double_block(f"transformer_blocks.{i}")
    for i in range(config["num_single_layers"]):
        work.single_block(f"single_transformer_blocks.{i}")
    args.destination.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.source / "config.json", args.destination / "config.json")
    safetensors_io.write_transformer(args.destination, work.tensors)
    widened = sum(tensors[n][0] != t[0] for n, t in work.tensors.items())
    print(f"{len(work.tensors)} tensors, {widened} biases stored as F32 -> {args.destination}")


if __name__ == "__main__":
    main()
