"""``.to("npu")`` of a model whose layers compute on the CPU."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from typing import Any

from torch import nn

_warned = False


class _StaysOnCpu:
    """Mixed into the class of one model, so that its own `to` sees no "npu"."""

    def to(self, *args: Any, **kwargs: Any) -> nn.Module:
        if args and _is_npu(args[0]):
            return super().to(_cpu(), *args[1:], **kwargs)
        if _is_npu(kwargs.get("device")):
            kwargs["device"] = _cpu()
        return super().to(*args, **kwargs)

    def npu(self, device: Any = None) -> nn.Module:
        return super().to(_cpu())

    def __reduce_ex__(self, protocol: int) -> tuple:
        make, arguments, *rest = super().__reduce_ex__(protocol)
        mixed = type(self)
        plain = tuple(mixed.__mro__[2] if item is mixed else item for item in arguments)
        return (_remade, (make, plain), *rest)


def map_npu_to_cpu(model: nn.Module) -> None:
    """Nothing where torch_npu is: its devices are real."""
    if importlib.util.find_spec("torch_npu") is None and not isinstance(model, _StaysOnCpu):
        model.__class__ = _mixed(type(model))


@functools.cache
def _mixed(cls: type) -> type:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_StaysOnCpu, cls), names)


def _remade(make: Any, arguments: tuple) -> nn.Module:
    model = make(*arguments)
    map_npu_to_cpu(model)
    return model


def _cpu() -> str:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            "mezzotint computes on the CPU: a quantized model that is sent to an npu stays on device cpu",
            stacklevel=3,
        )
    return "cpu"


def _is_npu(device: object) -> bool:
    return str(device).split(":")[0] == "npu"
