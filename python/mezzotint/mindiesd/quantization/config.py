"""TimestepPolicyConfig and the descriptions of a model's layers."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import mezzotint.timestep

from ..utils import ModelInitError, ParametersInvalid
from .mode import QuantAlgorithm, QuantMode


class TimestepPolicyConfig(mezzotint.timestep.TimestepPolicyConfig):
    """Ours, with upstream's exception for a step that is none."""

    def get_strategy(self, step: int | None, target: str = "linear") -> str:
        try:
            return super().get_strategy(step, target)
        except TypeError as error:
            raise ParametersInvalid(str(error)) from error


@dataclasses.dataclass
class QuantConfig:
    quant_algo: QuantAlgorithm | None = None
    exclude_layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require("quant_algo", self.quant_algo, QuantAlgorithm)
        _require("exclude_layers", self.exclude_layers, tuple)
        for layer in self.exclude_layers or ():
            _require("exclude_layers", layer, str)

    @classmethod
    def parse_from_dict(cls, config: dict[str, Any]) -> QuantConfig:
        return cls(**config)

    @cached_property
    def layer_quantization_mode(self) -> QuantMode:
        return QuantMode.from_quant_algo(self.quant_algo)

    def serialize_to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass
class LayerQuantConfig(QuantConfig):
    quantized_layers: dict[str, QuantConfig] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("quantized_layers", self.quantized_layers, dict)
        for name, layer in (self.quantized_layers or {}).items():
            _require("quantized_layers", name, str)
            _require("quantized_layers", layer, QuantConfig)

    @classmethod
    def parse_from_dict(cls, config: dict[str, Any]) -> LayerQuantConfig:
        layers = {
            name: QuantConfig.parse_from_dict(layer)
            for name, layer in config.get("quantized_layers", {}).items()
        }
        others = {name: value for name, value in config.items() if name != "quantized_layers"}
        return cls(quantized_layers=layers, **others)

    @cached_property
    def layer_quantization_mode(self) -> dict[str, QuantMode]:
        layers = self.quantized_layers or {}
        return {name: layer.layer_quantization_mode for name, layer in layers.items()}

    @cached_property
    def quant_algorithms_list(self) -> list[QuantAlgorithm | None]:
        return list({layer.quant_algo for layer in (self.quantized_layers or {}).values()})

    def serialize_to_dict(self) -> dict[str, Any]:
        layers = (self.quantized_layers or {}).items()
        return {
            "quant_algo": self.quant_algo,
            "quantized_layers": {name: {"quant_algo": layer.quant_algo} for name, layer in layers},
        }


def _require(name: str, value: object, cls: type) -> None:
    if value is not None and not isinstance(value, cls):
        raise ModelInitError(
            f"{name}: expected {cls.__name__} or None, got {type(value).__name__}"
        )
