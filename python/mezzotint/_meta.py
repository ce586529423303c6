"""Parameters of a model on the meta device, from the folder that its layers come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Container

import torch
from torch import nn

from mezzotint import _core
from mezzotint._tensors import from_bytes


class MetaTensors:
    """read() finds and copies what is missing, or raises; put() cannot fail."""

    def __init__(
        self, path: str | os.PathLike[str], rank: int | None, dtype: torch.dtype | None
    ) -> None:
        self._path = os.fspath(path)
        self._rank = rank
        self._dtype = dtype
        self._tensors: list[tuple[Callable[[torch.Tensor], None], torch.Tensor]] = []

    def read(self, model: nn.Module, replaced: Container[int]) -> None:
        wanted = list(_meta_tensors(model, replaced))
        if not wanted:
            return
        weights = _core.Weights.of_quantized(self._path, self._rank)
        names = set(weights.names())
        read: dict[int, torch.Tensor] = {}  # tied parameters stay tied
        missing = []
        for name, tensor, put in wanted:
            if id(tensor) not in read and name in names:
                read[id(tensor)] = self._copied(weights, name, tensor)
        for name, tensor, put in wanted:
            if id(tensor) in read:
                self._tensors.append((put, read[id(tensor)]))
            else:
                missing.append(name)
        if missing:
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            raise RuntimeError(
                f"{len(missing)} tensors of the model are on the meta device and not in the files: "
                f"{', '.join(missing[:8])}{more} (folder {self._path})\n"
                "  fix: fill them before quantize(), or export with every tensor of the model"
            )

    def put(self) -> None:
        for put, tensor in self._tensors:
            put(tensor)

    def _copied(self, weights: _core.Weights, name: str, meta: torch.Tensor) -> torch.Tensor:
        stored = from_bytes(*weights.read(name))
        if stored.shape != meta.shape:
            raise RuntimeError(
                f"{name} has the wrong shape: expected {list(meta.shape)}, "
                f"got {list(stored.shape)} (folder {self._path})"
            )
        wanted = self._dtype if self._dtype and stored.is_floating_point() else stored.dtype
        copy = stored.to(wanted, copy=True)
        if isinstance(meta, nn.Parameter):
            return nn.Parameter(copy, meta.requires_grad and copy.is_floating_point())
        return copy


def _meta_tensors(model: nn.Module, replaced: Container[int]):
    """Name, tensor and a function that puts another in its place."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        if id(module) in replaced:
            continue
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    full = f"{prefix}.{name}" if prefix else name
                    yield full, tensor, lambda value, t=tensors, n=name: t.__setitem__(n, value)
