"""Which attentions quantize_model() runs in FP8."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from mezzotint import _core
from mezzotint._presets import Attentions, Preset


def find_attentions(
    model: nn.Module, wish: str, preset: Preset | None
) -> Iterator[tuple[str, nn.Module, int]]:
    """Name, module and head_dim. `wish`: "fp8_dynamic[:PATTERN[:HEAD_DIM]]", as of the tool's --fa;
    without a pattern all that the preset knows."""
    algorithm, _, rest = wish.partition(":")
    pattern, _, head_dim = rest.rpartition(":") if rest.rpartition(":")[2].isdigit() else (rest, "", "")
    if algorithm.lower() != "fp8_dynamic":
        raise ValueError(f"attention: expected 'fp8_dynamic[:PATTERN[:HEAD_DIM]]', got {wish!r}")
    modules = {name: module for name, module in model.named_modules() if name}
    for name, row in _chosen(list(modules), pattern, preset, wish):
        yield name, modules[name], int(head_dim or 0) or _head_dim(name, modules[name], row)


def _chosen(
    names: list[str], pattern: str, preset: Preset | None, wish: str
) -> list[tuple[str, Attentions | None]]:
    known: dict[str, Attentions | None] = {}
    for row in preset.attentions if preset else []:
        known |= dict.fromkeys(_core.matches(row.pattern, names), row)
    if not pattern and not known:
        raise ValueError(
            f"attention: no preset knows this model; name its attentions: '{wish}:PATTERN'"
        )
    # Where a preset knows the attentions the pattern chooses among them, else among all modules.
    wanted = _core.matches(pattern, list(known or names)) if pattern else list(known)
    if not wanted:
        hint = _core.did_you_mean(pattern, list(known or names))
        raise ValueError(f"attention: {pattern} matches no attention of the model; {hint}")
    return [(name, known.get(name)) for name in wanted]


def _head_dim(name: str, module: nn.Module, row: Attentions | None) -> int:
    heads, width = getattr(module, "heads", None), getattr(module, "inner_dim", None)
    if isinstance(heads, int) and isinstance(width, int):  # as modules of diffusers say
        return width // heads
    if row and row.head_dim:
        return row.head_dim
    if row and row.head_dim_of:
        return len(module.get_parameter(row.head_dim_of))
    raise ValueError(
        f"attention: the head_dim of {name} is not known; say 'fp8_dynamic:PATTERN:HEAD_DIM'"
    )
