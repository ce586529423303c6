"""report(): a quantized model held against the float model, layer by layer."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mezzotint.modules import QuantLinear

EXACT_DB = 999.0  # of equal outputs: JSON has no infinity


@dataclass
class LayerComparison:
    """One quantized linear on the inputs that the float model gave it."""

    name: str
    algorithm: str
    out_features: int
    in_features: int
    bytes_before: int
    bytes_after: int
    weight_sqnr_db: float  # 0: not known
    output_sqnr_db: float  # 10 log10(sum y^2 / sum (y - y')^2)
    cosine: float
    calls: int


@dataclass
class Comparison:
    """What report() returns. ``str()`` is the verdict and the worst layers; ``save()`` writes it all."""

    layers: list[LayerComparison] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)  # float layer: why
    not_run: list[str] = field(default_factory=list)  # quantized, but the batch did not reach them
    output_sqnr_db: float = 0.0  # of the model's output
    output_cosine: float = 0.0
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def worst(self) -> list[LayerComparison]:
        """All layers, the largest output error first."""
        return sorted(self.layers, key=lambda layer: layer.output_sqnr_db)

    @property
    def verdict(self) -> str:
        worst = self.worst[:1]
        return (
            f"{len(self.layers)} layers compared, {len(self.kept)} kept float; "
            f"{self.bytes_before / 1e6:.1f} MB -> {self.bytes_after / 1e6:.1f} MB; "
            f"output SQNR {self.output_sqnr_db:.1f} dB"
            + (f"; worst layer {worst[0].name} {worst[0].output_sqnr_db:.1f} dB" if worst else "")
        )

    def save(self, file: str | os.PathLike[str]) -> None:
        """By the ending of the name: .html (one file, no network), .json or .md."""
        path = Path(file)
        makers = {".html": _html, ".json": _json, ".md": _markdown}
        if path.suffix not in makers:
            raise ValueError(f"file: expected a name that ends in .html, .json or .md, got {path}")
        path.write_text(makers[path.suffix](self), encoding="utf-8")

    def __str__(self) -> str:
        rows = [f"  {x.output_sqnr_db:6.1f} dB  {x.algorithm}  {x.name}" for x in self.worst[:5]]
        return "\n".join([self.verdict, *rows])


def report(
    reference: nn.Module,
    model: nn.Module,
    batch: Mapping[str, Any] | tuple | Callable[[nn.Module], Any],
) -> Comparison:
    """Holds a quantized model against the float model it was made from, on one batch.

        reference = copy.deepcopy(model)
        mezzotint.quantize_model(model, algo="w8a8_dynamic")
        report = mezzotint.report(reference, model, {"hidden_states": x, "timestep": t, ...})
        print(report)                      # the verdict and the worst layers
        report.save("report.html")

    Every quantized linear gets the inputs of its float twin, so that the errors of layers do not add
    up; the error of the output is that of the whole model.

    batch
        Keyword arguments, positional arguments, or a function that runs the model it is given.

    Raises ValueError when the models have no quantized layer in common.
    """
    pairs = _pairs(reference, model)
    sums = {name: _Sums() for name in pairs}
    handles = [
        float_layer.register_forward_hook(_Observer(sums[name], quantized))
        for name, (float_layer, quantized) in pairs.items()
    ]
    try:
        with torch.no_grad():
            exact = _first_tensor(_run(reference, batch))
    finally:
        for handle in handles:
            handle.remove()
    with torch.no_grad():
        output = _Sums.of(exact, _first_tensor(_run(model, batch)))
    result = Comparison(output_sqnr_db=output.sqnr_db, output_cosine=output.cosine)
    _fill(result, model, pairs, sums)
    return result


def _pairs(reference: nn.Module, model: nn.Module) -> dict[str, tuple[nn.Module, QuantLinear]]:
    twins = dict(reference.named_modules())
    pairs = {}
    for name, module in model.named_modules():
        if not isinstance(module, QuantLinear):
            continue
        twin = twins.get(name)
        if twin is None or isinstance(twin, QuantLinear):
            found = "quantized itself" if twin is not None else "not there"
            raise ValueError(f"reference: layer {name} should be float, it is {found}")
        pairs[name] = (twin, module)
    if not pairs:
        raise ValueError("model: it has no quantized layer; quantize_model() or quantize() makes them")
    return pairs


def _run(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple) else batch(model)


def _first_tensor(output: Any) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        values = list(output.values()) if isinstance(output, Mapping) else output
        if not isinstance(values, (list, tuple)) or not values:
            raise TypeError(f"batch: the model gave {type(output).__name__}, which holds no tensor")
        output = values[0]
    return output


@dataclass
class _Sums:
    """Over all outputs y of a layer and y' of its twin, in float64."""

    exact: float = 0.0  # y y
    made: float = 0.0  # y' y'
    both: float = 0.0  # y y'
    error: float = 0.0  # (y - y')^2
    calls: int = 0

    @classmethod
    def of(cls, y: torch.Tensor, made: torch.Tensor) -> _Sums:
        sums = cls()
        sums.add(y, made)
        return sums

    def add(self, y: torch.Tensor, made: torch.Tensor) -> None:
        y, made = y.detach().double().flatten().cpu(), made.detach().double().flatten().cpu()
        self.exact += float(y @ y)
        self.made += float(made @ made)
        self.both += float(y @ made)
        self.error += float((y - made) @ (y - made))
        self.calls += 1

    @property
    def sqnr_db(self) -> float:
        if self.error == 0:
            return EXACT_DB
        return 10 * math.log10(self.exact / self.error) if self.exact else -EXACT_DB

    @property
    def cosine(self) -> float:
        length = math.sqrt(self.exact * self.made)
        return self.both / length if length else float(self.error == 0)


class _Observer:
    def __init__(self, sums: _Sums, quantized: QuantLinear) -> None:
        self._sums = sums
        self._quantized = quantized

    def __call__(self, module: nn.Module, args: tuple, y: torch.Tensor) -> None:
        self._sums.add(y, self._quantized(args[0]))


def _fill(result: Comparison, model: nn.Module, pairs: dict, sums: dict[str, _Sums]) -> None:
    done = getattr(model, "mezzotint_report", None)
    known = {layer.name: layer.weight_sqnr_db for layer in done.layers} if done else {}
    for name, (twin, quantized) in pairs.items():
        before = sum(p.numel() * p.element_size() for p in twin.parameters())
        result.bytes_before += before
        result.bytes_after += quantized.nbytes
        if sums[name].calls == 0:
            result.not_run.append(name)
            continue
        result.layers.append(LayerComparison(
            name, quantized.algorithm, quantized.out_features, quantized.in_features, before,
            quantized.nbytes, known.get(name, 0.0), sums[name].sqnr_db, sums[name].cosine,
            sums[name].calls,
        ))  # fmt: skip
    result.kept = {layer.name: layer.reason for layer in done.kept} if done else {}


# --- files -------------------------------------------------------------------------------------------

_COLUMNS = ("layer", "algorithm", "shape", "MB", "weight dB", "output dB", "cosine")


def _cells(x: LayerComparison) -> tuple[str, ...]:
    size = f"{x.bytes_before / 1e6:.2f} -> {x.bytes_after / 1e6:.2f}"
    weight = f"{x.weight_sqnr_db:.1f}" if x.weight_sqnr_db else "-"
    shape = f"{x.out_features} x {x.in_features}"
    return (x.name, x.algorithm, shape, size, weight, f"{x.output_sqnr_db:.1f}", f"{x.cosine:.6f}")


def _json(result: Comparison) -> str:
    return json.dumps({**asdict(result), "verdict": result.verdict}, indent=2) + "\n"


def _markdown(result: Comparison) -> str:
    lines = [result.verdict, "", "| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(_cells(layer)) + " |" for layer in result.worst]
    if result.kept:
        lines += ["", "| kept float | why |", "|---|---|"]
        lines += [f"| {name} | {why} |" for name, why in result.kept.items()]
    return "\n".join(lines) + "\n"


_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%;margin:1.5em 0}
th,td{text-align:left;padding:.25em .7em;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
th{cursor:pointer;background:#f4f4f4}"""
_SORT = """document.querySelectorAll('th').forEach((th,i)=>th.onclick=()=>{
const body=th.closest('table').tBodies[0],up=th.up=!th.up,rows=[...body.rows];
const value=r=>{const t=r.cells[th.cellIndex].textContent,n=parseFloat(t);return isNaN(n)?t:n};
rows.sort((a,b)=>(value(a)>value(b)?1:-1)*(up?1:-1)).forEach(r=>body.append(r))})"""


def _html(result: Comparison) -> str:
    def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
        head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
        body = "\n".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"

    kept = table(("kept float", "why"), list(result.kept.items())) if result.kept else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Mezzotint report</title>"
        f"<style>{_STYLE}</style><h1>Mezzotint</h1><p>{html.escape(result.verdict)}</p>\n"
        f"{table(_COLUMNS, [_cells(layer) for layer in result.worst])}\n{kept}\n"
        f"<script>{_SORT}</script></html>\n"
    )
