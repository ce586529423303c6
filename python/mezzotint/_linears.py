"""The float linears of a model, of whatever classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mezzotint import _core
from mezzotint._tensors import to_tuple
from mezzotint._threads import torch_context
from mezzotint.modules import QuantLinear

Weights = tuple[torch.Tensor, torch.Tensor | None]
LinearMap = Mapping[type[nn.Module], Callable[[nn.Module], Weights]]

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass
class FoundLinear:
    """A float linear of a model, of whatever class."""

    name: str
    module: nn.Module
    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def bytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def slot(self) -> tuple[str, int, int, bool, int]:
        return (self.name, *self.weight.shape, self.bias is not None, self.bytes)

    def quantized(
        self, algorithm: str, group_size: int, svd_rank: int, upstream: bool
    ) -> QuantLinear:
        if self.weight.is_meta:
            raise ValueError(
                f"layer {self.name} is on the meta device: there is no weight to quantize"
            )
        if self.weight.dtype not in _FLOATS:
            raise TypeError(
                f"layer {self.name}: expected a weight of float32, bfloat16, float16 or float64, got "
                f"{self.weight.dtype}\n  fix: keep the layer as it is with exclude=, or quantize the "
                "float model"
            )
        weight = self.weight.detach().cpu().contiguous()
        bias = None if self.bias is None else self.bias.detach().cpu().contiguous()
        return QuantLinear(*_core.Layer.from_float(
            self.name, algorithm, to_tuple(weight), None if bias is None else to_tuple(bias),
            group_size, svd_rank, upstream, torch_context(),
        ))  # fmt: skip


def find_linears(model: nn.Module, map: LinearMap | None) -> list[FoundLinear]:
    _check_map(map)
    found: list[FoundLinear] = []
    inside: tuple[str, ...] = ()  # of modules that map= takes as a whole
    for name, module in model.named_modules():
        if not name or name.startswith(inside or "\0"):
            continue
        weights = _mapped_weights(module, map, name)
        if weights is not None:
            inside = (*inside, name + ".")
        elif isinstance(module, nn.Linear):
            weights = (module.weight, module.bias)
        else:
            continue
        found.append(FoundLinear(name, module, *weights))
    return found


def _mapped_weights(module: nn.Module, map: LinearMap | None, name: str) -> Weights | None:
    for cls, weights_of in (map or {}).items():
        if not isinstance(module, cls):
            continue
        weights = weights_of(module)
        right = isinstance(weights, tuple) and len(weights) == 2
        if not right or not isinstance(weights[0], torch.Tensor) or weights[0].ndim != 2:
            raise TypeError(
                f"map[{cls.__name__}]: expected (weight [out, in], bias or None) of layer {name}, "
                f"got {_described(weights)}"
            )
        return weights
    return None


def _check_map(map: LinearMap | None) -> None:
    if map is not None and not isinstance(map, Mapping):
        raise TypeError(f"map: expected {{class: fn(module) -> (weight, bias)}}, got {map!r}")
    for cls, weights_of in (map or {}).items():
        if not isinstance(cls, type) or not issubclass(cls, nn.Module):
            raise TypeError(f"map: expected classes of modules as keys, got {cls!r}")
        if not callable(weights_of):
            raise TypeError(
                f"map[{cls.__name__}]: expected fn(module) -> (weight, bias), got {weights_of!r}"
            )


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(_described(item) for item in value)})"
    return type(value).__name__
