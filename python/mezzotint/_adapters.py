"""LoRA of one layer: y += strength * (x @ down.T) @ up.T."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Adapter:
    down: torch.Tensor  # [rank, in_features]
    up: torch.Tensor  # [out_features, rank]
    weight: float = 1.0  # of the file: alpha / rank
    scale: float = 1.0  # of the user

    @property
    def strength(self) -> float:
        return self.weight * self.scale


def stacked(adapters: Iterable[Adapter]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """All of them as one, in float32, the strengths in `up`: a sum of products is one product."""
    downs, ups = [], []
    for adapter in adapters:
        downs.append(adapter.down.detach().cpu().float())
        ups.append(adapter.up.detach().cpu().float() * adapter.strength)
    if not downs:
        return None, None
    return torch.cat(downs).contiguous(), torch.cat(ups, 1).contiguous()
