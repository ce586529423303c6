"""What is known of architectures: presets/*.yaml, as the tool wrote them into the wheel."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mezzotint import _core


@dataclass(frozen=True)
class Attentions:
    """Modules, and where their head_dim stands: here, or as the length of a tensor below them."""

    pattern: str
    head_dim: int
    head_dim_of: str


@dataclass(frozen=True)
class Preset:
    name: str
    detect: frozenset[str]
    absent: frozenset[str]
    kept: _core.Preset
    attentions: tuple[Attentions, ...]


@functools.cache
def presets() -> dict[str, Preset]:
    text = Path(__file__).with_name("presets.json").read_text()
    return {entry["name"]: _preset(entry) for entry in json.loads(text)["presets"]}


def choose_preset(name: str, tensors: Collection[str]) -> Preset | None:
    """ "auto": the one whose tensors are there, "none": none."""
    if name == "none":
        return None
    if name == "auto":
        there = set(tensors)
        fitting = (p for p in presets().values() if p.detect <= there and not p.absent & there)
        return next(fitting, None)
    if name not in presets():
        hint = _core.did_you_mean(name, [*presets(), "auto", "none"])
        raise ValueError(f"preset: expected auto, none or a preset of the library, got {name!r}; {hint}")
    return presets()[name]


def _preset(entry: dict) -> Preset:
    kept = [(row["layers"], row["why"], row["when"] != "always") for row in entry["float"]]
    return Preset(
        entry["name"], frozenset(entry["detect"]), frozenset(entry["absent"]),
        _core.Preset(entry["name"], kept),
        tuple(Attentions(*(row[key] for key in ("layers", "head_dim", "head_dim_of")))
              for row in entry["attention"]),
    )  # fmt: skip
