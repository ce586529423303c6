#!/usr/bin/env python3
"""Trains the small CNN that reads the class of a picture from its alpha channel.

    python clf.py --out demo/classifier

The net is the list LAYERS and nothing else. config.json holds the same list, so a program that
knows conv2d (3 x 3, padding 1), relu, avg_pool, flatten and linear can build it.
"""

import argparse
import json
import pathlib
import time

import torch
import torch.nn.functional as F

import dataset
import safetensors_io

LAYERS = (
    {"type": "conv2d", "name": "conv1", "in": 1, "out": 24, "kernel": 3, "stride": 1, "padding": 1},
    {"type": "relu"},
    {"type": "avg_pool", "kernel": 2, "stride": 2},
    {"type": "conv2d", "name": "conv2", "in": 24, "out": 48, "kernel": 3, "stride": 2, "padding": 1},
    {"type": "relu"},
    {"type": "conv2d", "name": "conv3", "in": 48, "out": 72, "kernel": 3, "stride": 2, "padding": 1},
    {"type": "relu"},
    {"type": "flatten"},
    {"type": "linear", "name": "fc1", "in": 1152, "out": 64},
    {"type": "relu"},
    {"type": "linear", "name": "fc2", "in": 64, "out": 10},
)  # fmt: skip


def initial_weights(seed):
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in LAYERS:
        if layer["type"] not in ("conv2d", "linear"):
            continue
        kernel = (layer["kernel"],) * 2 if layer["type"] == "conv2d" else ()
        weight = torch.empty(layer["out"], layer["in"], *kernel)
        torch.nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=g)
        weights[layer["name"] + ".weight"] = weight
        weights[layer["name"] + ".bias"] = torch.zeros(layer["out"])
    return weights


def forward(weights, alpha):
    """alpha [b, 1, 32, 32] in [-1, 1] -> logits [b, 10]."""
    x = alpha
    for layer in LAYERS:
        kind = layer["type"]
        if kind == "relu":
            x = F.relu(x)
        elif kind == "flatten":
            x = x.flatten(1)
        elif kind == "avg_pool":
            x = F.avg_pool2d(x, layer["kernel"], layer["stride"])
        else:
            weight, bias = (weights[layer["name"] + end] for end in (".weight", ".bias"))
            if kind == "conv2d":
                x = F.conv2d(x, weight, bias, layer["stride"], layer["padding"])
            else:
                x = F.linear(x, weight, bias)
    return x


def load(folder):
    tensors, _ = safetensors_io.read(pathlib.Path(folder) / "model.safetensors")
    return {name: torch.from_numpy(safetensors_io.to_float32(t)) for name, t in tensors.items()}


def to_alpha(images):
    return images[:, None].float() / 127.5 - 1


@torch.no_grad()
def accuracy(weights, images, labels):
    hits = [
        (forward(weights, to_alpha(i)).argmax(1) == y).sum().item()
        for i, y in zip(images.split(500), labels.split(500))
    ]
    return sum(hits) / len(labels)


def augment(alpha, g):
    """Half the pictures get light noise, half a shift of up to one pixel: generated ones differ."""
    b = len(alpha)
    noisy = (torch.rand(b, 1, 1, 1, generator=g) < 0.5) * 0.06
    alpha = alpha + noisy * torch.randn(alpha.shape, generator=g)
    down, right = torch.randint(-1, 2, (2,), generator=g).tolist()
    shifted = alpha.roll((down, right), (2, 3))
    pick = torch.rand(b, 1, 1, 1, generator=g) < 0.5
    return torch.where(pick, shifted, alpha).clamp(-1, 1)


def train(steps, batch, seed):
    g = torch.Generator().manual_seed(seed)
    images, labels = dataset.load_split("train")
    weights = {n: w.requires_grad_() for n, w in initial_weights(seed).items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.0, weight_decay=0.02)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(images), generator=g)
        rows, order = order[:batch], order[batch:]
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100) * (1 - step / steps)
        logits = forward(weights, augment(to_alpha(images[rows]), g))
        loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 500 == 0:
            print(time.strftime("%H:%M:%S"), f"step {step + 1} loss {loss.item():.4f}", flush=True)
    return {name: weight.detach() for name, weight in weights.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    weights = train(args.steps, args.batch, args.seed)
    test_accuracy = accuracy(weights, *dataset.load_split("t10k"))
    count = sum(w.numel() for w in weights.values())
    print(f"{count} parameters, test accuracy {test_accuracy:.4f}")
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {n: ("F32", w.numpy()) for n, w in weights.items()}
    safetensors_io.write(args.out / "model.safetensors", tensors)
    config = {
        "input": {"channel": "alpha", "shape": [1, 32, 32], "value_range": [-1.0, 1.0]},
        "layers": LAYERS,
        "class_names": dataset.CLASS_NAMES,
        "test_accuracy": test_accuracy,
    }
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
