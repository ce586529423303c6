"""The models that testdata/upstream was made from (tools/upstream_files/tiny_model.py)."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

UPSTREAM = Path(__file__).parents[2] / "testdata" / "upstream"


class TinyBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.to_q = nn.Linear(64, 10)
        self.to_k = nn.Linear(64, 10, bias=False)
        self.ff_in = nn.Linear(64, 34)
        self.ff_out = nn.Linear(34, 7)

    def forward(self, x):
        h = self.norm(x)
        gate = torch.sigmoid((self.to_q(h) * self.to_k(h)).mean(-1, keepdim=True))
        return gate * self.ff_out(nn.functional.gelu(self.ff_in(h)))


class TinyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([TinyBlock()])
        self.head = nn.Linear(7, 5)

    def forward(self, x):
        return self.head(self.blocks[0](x))


class WideBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow = nn.Linear(512, 2, bias=False)
        self.wide = nn.Linear(1088, 3)

    def forward(self, x):
        return self.narrow(x[..., :512]).sum(-1, keepdim=True) + self.wide(x)


class WideModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([WideBlock()])

    def forward(self, x):
        return self.blocks[0](x)


LINEAR_FOLDERS = sorted(
    path.name
    for path in UPSTREAM.iterdir()
    if path.is_dir() and path.name not in ("foreign_w4a8_mxfp_ascend", "fp8_attention")
)


def float_model(folder: str) -> nn.Module:
    wide = folder.endswith("dualscale")
    model = WideModel() if wide else TinyModel()
    model.load_state_dict(load_file(UPSTREAM / f"{'wide' if wide else 'tiny'}.safetensors"))
    return model.eval()


def input_of(k: int) -> torch.Tensor:
    return load_file(UPSTREAM / "inputs.safetensors")[f"x.{k}"].float()


class RotatedAttention(nn.Module):
    """One head, one projection for q, k and v."""

    def __init__(self):
        super().__init__()
        self.to_qkv = nn.Linear(32, 64)

    def forward(self, x, **options):
        h = self.to_qkv(x).unflatten(-1, (1, 64)).transpose(1, 2)
        return functional.scaled_dot_product_attention(h, h, h, **options)


class AttentionModel(nn.Module):
    def __init__(self):
        super().__init__()
        block = nn.Module()
        block.attn = RotatedAttention()
        self.blocks = nn.ModuleList([block])

    def forward(self, x, **options):
        return self.blocks[0].attn(x, **options)


ATTENTION_FOLDER = UPSTREAM / "fp8_attention"


def attention_model() -> nn.Module:
    model = AttentionModel()
    model.load_state_dict(load_file(UPSTREAM / "attention.safetensors"))
    return model


def attention_input() -> torch.Tensor:
    return torch.randn(2, 50, 32, generator=torch.Generator().manual_seed(9))


def run_script(
    folder: Path | None, *parts: str, **environment: str
) -> subprocess.CompletedProcess:
    """Of a user of upstream, in a process where install_as() was called."""
    prepare = f"""\
    import sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import mezzotint
    mezzotint.install_as("mindiesd")
    """
    script = "".join(textwrap.dedent(part) for part in (prepare, *parts))
    command = [sys.executable, "-W", "default", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done
