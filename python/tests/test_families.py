"""The presets of the five families, on the names and shapes of diffusers' real configurations."""

import json
import struct
import subprocess
import sys

import diffusers
import pytest
import torch

from mezzotint._tensors import NAMES

FLUX = {"in_channels": 64, "num_layers": 19, "num_single_layers": 38, "guidance_embeds": True}
WAN_14B = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}

# Class, configuration; preset; linears, of them kept float by --algo w8a8_dynamic; 10^9 weights in all
# linears (the published sizes) and per cent of them that are quantized. docs/choosing-an-algorithm.md
# has the same table.
MODELS = {
    "FLUX.1-dev": ("FluxTransformer2DModel", FLUX, "flux", 504, 10, 11.90, 99.5),
    "FLUX.1-schnell": (
        "FluxTransformer2DModel", {**FLUX, "guidance_embeds": False}, "flux", 502, 8, 11.89, 99.5,
    ),
    "Qwen-Image": ("QwenImageTransformer2DModel", {"out_channels": 16}, "qwen_image", 846, 6, 20.42, 99.8),
    "SD3.5-Large": (
        "SD3Transformer2DModel",
        {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm",
         "pos_embed_max_size": 192},
        "sd3", 536, 7, 8.05, 99.5,
    ),
    "SD3.5-Medium": (
        "SD3Transformer2DModel",
        {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "qk_norm": "rms_norm",
         "dual_attention_layers": tuple(range(13)), "pos_embed_max_size": 384},
        "sd3", 392, 7, 2.24, 99.1,
    ),
    "SD3-Medium": (
        "SD3Transformer2DModel",
        {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536,
         "pos_embed_max_size": 192},
        "sd3", 340, 7, 2.03, 99.0,
    ),
    "Wan2.2-T2V-A14B": ("WanTransformer3DModel", WAN_14B, "wan", 406, 46, 14.28, 78.6),
    "Wan2.1-I2V-14B": (
        "WanTransformer3DModel",
        {**WAN_14B, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}, "wan", 488, 48, 16.39, 81.3,
    ),
    "Wan2.2-TI2V-5B": (
        "WanTransformer3DModel",
        {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30, "in_channels": 48,
         "out_channels": 48},
        "wan", 306, 36, 5.0, 71.8,
    ),
    "HunyuanVideo": ("HunyuanVideoTransformer3DModel", {}, "hunyuan_video", 547, 107, 12.82, 70.7),
}  # fmt: skip


def headers_only(model: torch.nn.Module, file) -> None:
    """A safetensors file of the right size whose data is a hole: no memory, no disk."""
    header, offset = {}, 0
    for name, tensor in model.state_dict().items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + offset)


def planned(folder, out, *options):
    """What the command line tool would do."""
    command = [sys.executable, "-m", "mezzotint", "quantize", folder, "-o", out, "--dry-run", "--json"]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=MODELS)
def family(request, tmp_path_factory):
    """As `mezzotint quantize ./FLUX.1-dev` finds it."""
    kind, config, *expected = MODELS[request.param]
    with torch.device("meta"):
        model = getattr(diffusers, kind)(**config).to(torch.bfloat16)
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "transformer").mkdir()
    headers_only(model, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return model, folder, expected


def test_the_preset_chooses_sane_layers(family, tmp_path):
    model, folder, (preset, linears, kept, weights, share) = family
    plan = planned(folder, tmp_path / "out", "--algo", "w8a8_dynamic")
    layers = plan["report"]["layers"]
    names = {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {layer["name"] for layer in layers} == names
    sizes = {layer["name"]: layer["out_features"] * layer["in_features"] for layer in layers}
    floats = {layer["name"]: layer["reason"] for layer in layers if layer.get("reason")}
    assert all(reason.startswith(f"preset {preset}: ") for reason in floats.values())
    quantized = sum(size for name, size in sizes.items() if name not in floats)
    total = sum(sizes.values())
    found = (len(names), len(floats), round(total / 1e9, 2), round(100 * quantized / total, 1))
    assert found == (linears, kept, weights, share)
    blocks = [name for name in names if name not in floats]
    assert all("blocks." in name for name in blocks)  # nothing before or behind the blocks
