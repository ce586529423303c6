#!/usr/bin/env python3
"""Records the inputs of every block Linear over a sampling run: ranges, outliers, drift over time.

    python analyse.py --demo demo
    python analyse.py --demo demo --variant build/demo_outlier/transformer

With --variant both are sampled from the same noise, and the two conditions of an outlier variant
are checked: the velocity of one step is unchanged, and the median channel ratio is large.

channel ratio = max over channels of absmax / median over channels of absmax, largest over the steps
time ratio    = largest absmax over the steps / smallest
"""

import argparse
import json
import pathlib
import statistics

import torch
from torch import nn

import sampling
from tinyflux import rope_tables

MAX_RELATIVE_ERROR = 1e-5
MIN_CHANNEL_RATIO = 20.0


class InputRecorder:
    """Per layer and step: absmax, channel ratio and kurtosis of the Linear's input."""

    def __init__(self, model):
        self.step, self.layers, self.hooks = 0, {}, []
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and "transformer_blocks" in name:
                self.layers[name] = []
                self.hooks.append(module.register_forward_pre_hook(self.hook(name)))

    def hook(self, name):
        def record(_, inputs):
            x = inputs[0].flatten(0, -2)
            channels = x.abs().amax(0)
            ratio = channels.max() / channels.median().clamp_min(1e-9)
            centred = x - x.mean()
            kurtosis = centred.pow(4).mean() / centred.pow(2).mean().square().clamp_min(1e-30)
            self.layers[name].append((channels.max().item(), ratio.item(), kurtosis.item()))

        return record

    def remove(self):
        for hook in self.hooks:
            hook.remove()

    def rows(self):
        """(name, largest absmax, time ratio, channel ratio, kurtosis)."""
        rows = []
        for name, steps in self.layers.items():
            absmax, ratio, kurtosis = zip(*steps)
            drift = max(absmax) / max(min(absmax), 1e-30)
            rows.append((name, max(absmax), drift, max(ratio), max(kurtosis)))
        return rows


def record(model, prompts, noise, args):
    recorder = InputRecorder(model)
    x = sampling.sample(model, prompts, noise, args.steps, args.guidance)
    recorder.remove()
    return x, recorder.rows()


def is_modulation(name):
    return ".norm" in name


def print_rows(title, rows):
    print(f"{title}\n{'layer':<50} {'absmax':>8} {'time':>6} {'channel':>8} {'kurtosis':>9}")
    for name, absmax, drift, ratio, kurtosis in rows:
        print(f"{name:<50} {absmax:8.2f} {drift:6.2f} {ratio:8.1f} {kurtosis:9.1f}")


def summary(rows):
    """adaLN Linears read silu(temb), which no variant touches: they are left out."""
    rows = [row for row in rows if not is_modulation(row[0])]
    return {
        "channel_ratio_median": statistics.median(row[3] for row in rows),
        "channel_ratio_max": max(row[3] for row in rows),
        "time_ratio_median": statistics.median(row[2] for row in rows),
        "time_ratio_max": max(row[2] for row in rows),
        "kurtosis_median": statistics.median(row[4] for row in rows),
        "kurtosis_max": max(row[4] for row in rows),
    }


@torch.no_grad()
def velocity_error(model, variant, prompts, noise):
    """Largest relative L2 difference of the velocities at five times."""
    rope = rope_tables(model.config, prompts.states.shape[1], 8, 8)
    worst = 0.0
    for t in (1.0, 0.8, 0.5, 0.2, 0.05):
        inputs = (noise, prompts.states, prompts.pooled, torch.full((len(noise),), t), rope)
        a, b = model(*inputs), variant(*inputs)
        worst = max(worst, ((a - b).norm() / a.norm()).item())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    parser.add_argument("--variant", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    prompts = sampling.load_prompts(args.demo / "prompts.safetensors")
    prompts = prompts.rows(torch.arange(args.count) % len(prompts.states))
    noise = torch.randn(args.count, 64, 64, generator=torch.Generator().manual_seed(args.seed))
    model = sampling.load_transformer(args.demo / "transformer")
    x, rows = record(model, prompts, noise, args)
    print_rows("plain", rows)
    result = {"plain": summary(rows)}
    if args.variant:
        variant = sampling.load_transformer(args.variant)
        x_variant, rows = record(variant, prompts, noise, args)
        print_rows("variant", rows)
        result["variant"] = summary(rows)
        result["velocity_relative_l2"] = velocity_error(model, variant, prompts, noise)
        result["samples_max_difference"] = (x - x_variant).abs().max().item()
    print(json.dumps(result, indent=2))
    if args.variant:
        if result["velocity_relative_l2"] > MAX_RELATIVE_ERROR:
            raise SystemExit(f"variant: the velocity differs by more than {MAX_RELATIVE_ERROR}")
        if result["variant"]["channel_ratio_median"] < MIN_CHANNEL_RATIO:
            raise SystemExit(f"variant: the median channel ratio is below {MIN_CHANNEL_RATIO}")


if __name__ == "__main__":
    main()
