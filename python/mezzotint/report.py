"""What was done to every layer of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class LayerReport:
    name: str
    algorithm: str  # "W8A8_DYNAMIC"; "FLOAT" when kept
    reason: str  # why it was kept float; "" when quantized
    out_features: int
    in_features: int
    bytes_before: int
    bytes_after: int
    weight_sqnr_db: float = 0.0  # 10 log10(sum w^2 / sum (w - w')^2); 0: not known, as of files


@dataclass
class Report:
    """Nothing is left out: a layer is quantized, kept float with a reason, or unmatched."""

    layers: list[LayerReport] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)  # entries no layer answers to
    notes: list[str] = field(default_factory=list)  # other things done differently than asked
    summary: str = ""  # one line

    @classmethod
    def _of(cls, parts: dict[str, Any]) -> Report:
        layers = [LayerReport(*row) for row in parts["layers"]]
        return cls(layers, parts["unmatched"], parts["notes"], parts["summary"])

    @property
    def quantized(self) -> list[LayerReport]:
        return [layer for layer in self.layers if not layer.reason]

    @property
    def kept(self) -> list[LayerReport]:
        return [layer for layer in self.layers if layer.reason]

    @property
    def bytes_before(self) -> int:
        return sum(layer.bytes_before for layer in self.layers)

    @property
    def bytes_after(self) -> int:
        return sum(layer.bytes_after for layer in self.layers)

    def __str__(self) -> str:
        return self.summary
