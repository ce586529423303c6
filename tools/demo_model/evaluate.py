#!/usr/bin/env python3
"""Samples the shipped model and scores class and colours.

    python evaluate.py --demo demo                               the 80 demo prompts, over and over
    python evaluate.py --demo demo --cache build/demo_model      classes in turn, random colours
    python evaluate.py --demo demo --count 16 --sheet demo.png   a picture to look at

Weights are the shipped bf16 ones, arithmetic is f32, noise is torch's generator with --seed.
class   = argmax of the CNN in DEMO/classifier on the alpha channel
colours = dataset.measure_colors, which states its rule
"""

import argparse
import json
import pathlib
import sys
import time

import numpy as np
import torch

import clf
import dataset
import sampling

BATCH = 50


def pick_prompts(args):
    """-> (Prompts with `count` rows, labels, object colours, background colours)."""
    if args.cache is None:
        prompts = sampling.load_prompts(args.demo / "prompts.safetensors")
        records = json.loads((args.demo / "prompts.json").read_text())
        records = [records[i % len(records)] for i in range(args.count)]
        columns = (
            [record["class"] for record in records],
            [dataset.COLOR_NAMES.index(record["object_color"]) for record in records],
            [dataset.COLOR_NAMES.index(record["background_color"]) for record in records],
        )
        rows = torch.tensor([record["id"] for record in records])
        return prompts.rows(rows), *(torch.tensor(column) for column in columns)
    prompts = sampling.load_prompts(args.cache / "prompts_all.safetensors")
    g = torch.Generator().manual_seed(args.seed + 1)
    label = torch.arange(args.count) % 10
    color = torch.randint(0, 8, (args.count,), generator=g)
    background = (color + 1 + torch.randint(0, 7, (args.count,), generator=g)) % 8
    rows = dataset.prompt_index(label, color, background)
    return prompts.rows(rows), label, color, background


def generate(model, prompts, args):
    """-> RGBA [count, 4, 32, 32]; the noise of an image does not depend on --count."""
    g = torch.Generator().manual_seed(args.seed)
    images = []
    for rows in torch.arange(args.count).split(BATCH):
        noise = torch.stack([torch.randn(64, 64, generator=g) for _ in rows])
        tokens = sampling.sample(model, prompts.rows(rows), noise, args.steps, args.guidance)
        images.append(dataset.from_tokens(tokens))
        print(f"{rows[-1] + 1} of {args.count}", file=sys.stderr, flush=True)
    return torch.cat(images)


def score(images, label, color, background, weights):
    predicted = clf.forward(weights, images[:, 3:].clamp(-1, 1)).argmax(1)
    seen_color, seen_background = dataset.measure_colors(images)
    right_class = predicted == label
    right_color, right_background = seen_color == color, seen_background == background
    right_both = right_color & right_background

    def share(hits):
        return hits.float().mean().item()

    per_class = {
        name: round(share(right_class[label == c]), 3)
        for c, name in enumerate(dataset.CLASS_NAMES)
        if (label == c).any()
    }
    return {
        "class_accuracy": share(right_class),
        "object_color_right": share(right_color),
        "background_color_right": share(right_background),
        "both_colors_right": share(right_both),
        "all_right": share(right_class & right_both),
        "class_accuracy_by_class": per_class,
    }


def save_sheet(path, images, columns=10, zoom=3):
    """RGB above alpha for each row of images, nearest-neighbour enlarged."""
    from PIL import Image

    byte = (((images + 1) / 2).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    rows = []
    for start in range(0, len(byte), columns):
        part = byte[start : start + columns]
        part = np.pad(part, ((0, columns - len(part)), (0, 0), (0, 0), (0, 0)))
        rows.append(np.concatenate(list(part[:, :3].transpose(0, 2, 3, 1)), axis=1))
        alpha = np.concatenate(list(part[:, 3]), axis=1)
        rows.append(np.repeat(alpha[:, :, None], 3, axis=2))
    sheet = np.concatenate(rows).repeat(zoom, axis=0).repeat(zoom, axis=1)
    Image.fromarray(sheet).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    parser.add_argument("--transformer", type=pathlib.Path, help="other weights, same prompts")
    parser.add_argument("--cache", type=pathlib.Path, help="folder with prompts_all.safetensors")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=pathlib.Path)
    parser.add_argument("--sheet-count", type=int, default=40)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    defaults = json.loads((args.demo / "pixels.json").read_text())
    args.steps = args.steps or defaults["default_steps"]
    args.guidance = defaults["guidance_scale"] if args.guidance is None else args.guidance
    model = sampling.load_transformer(args.transformer or args.demo / "transformer")
    prompts, label, color, background = pick_prompts(args)
    start = time.monotonic()
    images = generate(model, prompts, args)
    figures = {"count": args.count, "steps": args.steps, "guidance": args.guidance}
    figures |= {"seed": args.seed, "seconds": round(time.monotonic() - start, 1)}
    if (args.demo / "classifier").exists():
        figures |= score(images, label, color, background, clf.load(args.demo / "classifier"))
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.sheet:
        save_sheet(args.sheet, images[: args.sheet_count])


if __name__ == "__main__":
    main()
