"""analyze(): which algorithm costs which layer how much."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mezzotint import _core
from mezzotint._tensors import NAMES

_TOOL = Path(__file__).with_name("bin") / "mezzotint"


@dataclass
class LayerAnalysis:
    """One layer: what every algorithm would make of its outputs."""

    name: str
    out_features: int
    in_features: int
    float_bytes: int
    sqnr_db: dict[str, float] = field(default_factory=dict)  # algorithm: of the outputs
    bytes: dict[str, int] = field(default_factory=dict)
    reason: str = ""  # why it stays float in any case
    chosen: str = ""  # with an aim: an algorithm, or "float"


@dataclass
class Analysis:
    """What analyze() returns."""

    layers: list[LayerAnalysis]
    recipe: str = ""  # with an aim: what `mezzotint quantize --recipe` reads

    @property
    def rules(self) -> list[tuple[str, str]]:
        """Of quantize_model(): what was chosen, layer by layer."""
        return [(_literal(layer.name), layer.chosen) for layer in self.layers if layer.chosen]

    def ranked(self, algorithm: str) -> list[LayerAnalysis]:
        """The layers that may have this algorithm, the largest error first."""
        fitting = [layer for layer in self.layers if algorithm.upper() in layer.sqnr_db]
        return sorted(fitting, key=lambda layer: layer.sqnr_db[algorithm.upper()])


def analyze(
    model: nn.Module | str | os.PathLike[str],
    stats: str | os.PathLike[str],
    *,
    algorithms: str | Iterable[str] = (),
    exclude: str | Iterable[str] = (),
    group_size: int = 0,
    svd_rank: int = 0,
    preset: str = "auto",
    attention: str = "",
    target_size: int | str | None = None,
    min_sqnr: float | None = None,
    range: str = "mse",
    smooth: bool = True,
    gptq: bool = False,
    act_order: str = "auto",
    static_tolerance: float | None = None,
) -> Analysis:
    """Quantizes every layer by every algorithm, one at a time, and says what becomes of its outputs.

        analysis = mezzotint.analyze(pipe.transformer, "stats.safetensors", target_size="7GB")
        for layer in analysis.ranked("w4a16")[:5]:
            print(layer.name, layer.sqnr_db)
        mezzotint.quantize_model(pipe.transformer, rules=analysis.rules, stats="stats.safetensors")

    model
        The float model that `stats` are of (collect()): files, or a module, which is written to a
        temporary file of its size first.
    algorithms
        To choose from. Default: W8A8_DYNAMIC, W8A8_MXFP8, W4A16 and W4A4_MXFP4.
    exclude, preset
        As of quantize_model(): what stays float in any case.
    group_size, svd_rank
        As of quantize_model(), for those of the algorithms that have groups or a low-rank branch.
    attention
        As of quantize_model(): attentions whose rotations count for the size and go into the recipe.
    range, smooth, gptq, act_order, static_tolerance
        As of quantize_model(): how the statistics are used.
    target_size, min_sqnr
        An aim: files of at most this size ("8GB") with the least summed error, or the smallest
        algorithm per layer whose outputs have this SQNR in dB. Then the layers say what was chosen.

    Runs the command line tool of the package (``mezzotint analyze``). Raises mezzotint.Error as it does:
    for statistics of another model, unknown algorithms, a size that cannot be reached.
    """
    options = [f"--stats={os.fspath(stats)}", f"--preset={preset}"]
    options += _calibration_options(range, smooth, gptq, act_order, static_tolerance)
    options += [f"--choose-from={name}" for name in _listed(algorithms)]
    options += [f"--group-size={group_size}"] if group_size else []
    options += [f"--svd-rank={svd_rank}"] if svd_rank else []
    options += [f"--fa={attention}"] if attention else []
    options += [f"--exclude={pattern}" for pattern in _listed(exclude)]
    with tempfile.TemporaryDirectory(prefix="mezzotint-") as folder:
        recipe = Path(folder) / "recipe.yaml"
        if target_size is not None:
            options.append(f"--target-size={target_size}")
        if min_sqnr is not None:
            options.append(f"--min-sqnr={min_sqnr}")
        if target_size is not None or min_sqnr is not None:
            options += ["-o", os.fspath(recipe)]
        if isinstance(model, nn.Module):
            source = Path(folder) / "model.safetensors"
            _write_plain(model, source)
        else:
            source = Path(model)
        document = _run_tool("analyze", os.fspath(source), *options)
        text = recipe.read_text() if recipe.exists() else ""
    return Analysis([_layer(row) for row in document["layers"]], text)


def _calibration_options(
    range: str, smooth: bool, gptq: bool, act_order: str, static_tolerance: float | None
) -> list[str]:
    options = [f"--range={range}", f"--smooth={'search' if smooth else 'none'}"]
    options += ["--gptq"] if gptq else []
    options.append(f"--act-order={act_order}")
    return options if static_tolerance is None else [*options, f"--static-tolerance={static_tolerance}"]


def _listed(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _literal(name: str) -> str:
    """The pattern that matches this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _layer(row: Mapping[str, Any]) -> LayerAnalysis:
    choices = row["choices"]
    return LayerAnalysis(
        row["name"], row["out_features"], row["in_features"], row["float_bytes"],
        {choice["algorithm"]: choice["sqnr_db"] for choice in choices},
        {choice["algorithm"]: choice["bytes"] for choice in choices},
        row.get("reason", ""), row.get("chosen", ""),
    )  # fmt: skip


def _run_tool(*arguments: str) -> dict[str, Any]:
    command = [os.fspath(_TOOL), *arguments, "--json", "-q", "--progress=none", "--color=never"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        error = _core.Error(done.stderr.strip() or done.stdout.strip())
        error.code = done.returncode
        raise error
    return json.loads(done.stdout)


def _write_plain(model: nn.Module, file: Path) -> None:
    """A safetensors file of state_dict, one tensor in memory at a time."""
    header, offset, tensors = {}, 0, {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or tensor.is_meta:
            raise ValueError(f"model: {name} is no tensor with bytes")
        size = tensor.numel() * tensor.element_size()
        form = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**form, "data_offsets": [offset, offset + size]}
        tensors[name] = tensor
        offset += size
    text = json.dumps(header).encode()
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            out.write(flat.view(torch.uint8).numpy().data)
