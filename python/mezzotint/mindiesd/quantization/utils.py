"""Timesteps, names of files, tensors of a weight file."""

from __future__ import annotations

import inspect
import os
from typing import Any

import mezzotint.timestep
import torch

from ..utils import ConfigError, ParametersInvalid

MAX_WEIGHT_SIZE = 100 * 1024**3


class TimestepManager(mezzotint.timestep.TimestepManager):
    """Ours, with upstream's exceptions; both see one step."""

    @staticmethod
    def _check(index: int | None, name: str) -> None:
        try:
            mezzotint.timestep.TimestepManager._check(index, name)
        except (TypeError, ValueError) as error:
            raise ParametersInvalid(str(error)) from error

    @classmethod
    def set_timestep_idx(cls, cur_timestep: int | None) -> None:
        try:
            super().set_timestep_idx(cur_timestep)
        except ValueError as error:
            raise ParametersInvalid(str(error)) from error


def get_quant_weight(weights: Any, key: str) -> torch.Tensor:
    """`weights` has keys() and get_tensor(key), as an open safetensors file."""
    if key not in weights.keys():
        raise ParametersInvalid(f"Critical parameter missing: {key}.")
    return weights.get_tensor(key)


def replace_rank_suffix(file_path: str) -> tuple[str, str, int]:
    """Path, name and rank of the file of this process; -1: the name ends in no rank."""
    folder, name = os.path.split(file_path)
    stem, extension = os.path.splitext(name)
    head, _, digits = stem.rpartition("_")
    if not head or not digits.isdigit():
        return file_path, name, -1
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        raise ConfigError(f"{name} ends in a rank, and torch.distributed is not initialized")
    rank = distributed.get_rank()
    name = f"{head}_{rank}{extension}"
    return os.path.join(folder, name), name, rank


def extract_constructor_args(instance: Any, base_class: type | None = None) -> dict[str, Any]:
    """Attributes of `instance` that its constructor (and base_class's) takes by name."""
    parameters = inspect.signature(type(instance).__init__).parameters.values()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [p.name for p in parameters if p.kind == kind and p.name != "self"]
    if base_class is not None:
        known = inspect.signature(base_class.__init__).parameters
        names = [name for name in names if name in known]
    return {name: getattr(instance, name) for name in names if hasattr(instance, name)}
