"""The models that testdata/upstream was made from (tools/upstream_files/tiny_model.py)."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

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
