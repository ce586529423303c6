"""quantize(), with upstream's argument names and exceptions."""

from __future__ import annotations

import os
from typing import Any

import torch
from mezzotint import _core
from mezzotint._arguments import one_of, reject_unknown
from mezzotint.quantization import Classes, LoadOptions, check_arguments, load_into
from torch import nn

from ..npu import map_npu_to_cpu
from ..utils import ConfigError, ParametersInvalid
from .layer import FP8RotateQuantFA, class_of
from .utils import TimestepManager

_OTHER_NAMES = ("quant_json_path", "timestep_policy")
_PARAMETERS = (
    "quant_des_path", "timestep_config", "dtype", "map", "strict", "compat", "use_nz",
    *_OTHER_NAMES,
)  # fmt: skip


def quantize(
    model: nn.Module,
    quant_des_path: str | None = None,
    *,
    timestep_config: Any = None,
    dtype: torch.dtype | None = None,
    map: Any = None,
    strict: bool = True,
    compat: str | None = None,
    use_nz: bool = False,
    **other_names: Any,
) -> nn.Module:
    """mezzotint.quantize(); `use_nz` names a memory layout of NPUs and changes nothing here."""
    try:
        reject_unknown("quantize", other_names, _PARAMETERS, _OTHER_NAMES)
        path = one_of("quant_des_path", quant_des_path, "quant_json_path", other_names)
        policy = one_of("timestep_config", timestep_config, "timestep_policy", other_names)
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        if not isinstance(path, (str, os.PathLike)) or not str(path).strip():
            raise ConfigError(f"quant_des_path: expected the path of a descriptor, got {path!r}")
        check_arguments(model, path, policy, dtype, compat, strict)
        options = LoadOptions(policy, dtype, map, strict, compat == "upstream")
        load_into(model, path, options, Classes(_make, FP8RotateQuantFA.held))
    except (TypeError, ValueError, RuntimeError) as error:  # mezzotint.Error is a RuntimeError
        raise ParametersInvalid(str(error)) from error
    TimestepManager.set_timestep_idx_max(_calibrated_steps(model))
    map_npu_to_cpu(model)
    return model


def get_key_patterns(layer_name: str) -> list[str]:
    """The keys of a descriptor by which upstream finds a layer, first one first."""
    suffixes = (".linear.weight", ".weight", "", ".fa_q.scale", ".quant_type")
    return [layer_name + suffix for suffix in suffixes]


def _make(layer: _core.Layer, parts: dict[str, torch.Tensor], **options: Any) -> nn.Module:
    return class_of(layer).held(layer, parts, **options)


def _calibrated_steps(model: nn.Module) -> int | None:
    """Of this model; None lifts what the one before set."""
    steps = [getattr(module, "_steps", 0) for module in model.modules()]
    return max(steps, default=0) or None
