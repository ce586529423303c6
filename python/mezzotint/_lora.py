"""load_lora(): LoRA beside quantized weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from mezzotint import _core
from mezzotint._adapters import Adapter, stacked
from mezzotint._lora_keys import OF_TEXT_ENCODER, Factors, factors_of, fused_with, targets_of
from mezzotint._tensors import from_bytes
from mezzotint.modules import QuantLinear


@dataclass
class LoraReport:
    """Which keys of a LoRA file went where."""

    matched: dict[str, list[str]] = field(default_factory=dict)  # linear of the model: keys
    unmatched: dict[str, str] = field(default_factory=dict)  # key: why

    def __str__(self) -> str:
        return f"{len(self.matched)} linears got LoRA, {len(self.unmatched)} keys unmatched"


def load_lora(
    model: nn.Module,
    lora: str | os.PathLike[str] | Mapping[str, torch.Tensor],
    *,
    scale: float = 1.0,
    name: str | None = None,
    strict: bool = True,
) -> LoraReport:
    """Adds a LoRA to a model with quantized layers, without touching a quantized weight.

        mezzotint.load_lora(pipe.transformer, "style.safetensors", scale=0.8)
        mezzotint.load_lora(pipe.transformer, pipe.lora_state_dict("other.safetensors"), name="other")
        mezzotint.unload_lora(pipe.transformer, "style")

    Every layer gets y += scale * alpha / rank * (x @ down.T) @ up.T, computed in float32 and added
    before y is rounded: in C++ as another low-rank branch of a quantized layer, in torch for linears
    that stayed float. Several stack. Weights, state_dict and quantized folders stay as they are.

    lora
        A .safetensors file, a folder with one (peft's ``adapter_config.json`` is read), or a
        state_dict. Keys as diffusers, peft or kohya write them; where a file has one linear for what
        the model has as to_q, to_k and to_v (the original FLUX.1), its rows are divided among them.
    name
        For unload_lora() and set_lora_scale(). Default: the file's name, or "default". A name that is
        there already is replaced.
    strict
        False: keys that fit no linear of the model are listed in the report instead of an error. Keys
        of text encoders are only listed in either case.

    Returns which keys matched. Raises ValueError, before anything is changed, for keys that do not fit
    and when none does.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    tensors, config, default_name = _read(lora)
    plan = _Plan(model, tensors, config)
    plan.check(strict)
    name = name or default_name
    for target, adapter in plan.adapters.items():
        module = plan.linears[target]
        _replace(module, {**_adapters_of(module), name: replace(adapter, scale=scale)})
    return plan.report


def unload_lora(model: nn.Module, name: str | None = None) -> None:
    """Removes the LoRA of this name, or all; the model computes as before. Unknown: ValueError."""
    _require(model, name)
    for module in model.modules():
        adapters = _adapters_of(module)
        if adapters:
            _replace(module, {} if name is None else {n: a for n, a in adapters.items() if n != name})


def set_lora_scale(model: nn.Module, name: str, scale: float) -> None:
    """As if load_lora() had been called with this scale. Unknown name: ValueError."""
    _require(model, name)
    for module in model.modules():
        adapters = dict(_adapters_of(module))
        if name in adapters:
            adapters[name] = replace(adapters[name], scale=scale)
            _replace(module, adapters)


def _require(model: nn.Module, name: str | None) -> None:
    known = sorted({n for module in model.modules() for n in _adapters_of(module)})
    if name is not None and name not in known:
        raise ValueError(f"name: expected a LoRA of the model ({', '.join(known) or 'none'}), got {name!r}")


# --- files -------------------------------------------------------------------------------------------


def _read(lora: Any) -> tuple[Mapping[str, torch.Tensor], dict[str, Any], str]:
    """Tensors, peft's configuration where there is one, and a name."""
    if isinstance(lora, Mapping):
        return lora, {}, "default"
    if not isinstance(lora, (str, os.PathLike)):
        raise TypeError(f"lora: expected a path or a state_dict, got {type(lora).__name__}")
    path, config = Path(lora), {}
    if path.is_dir():
        if (path / "adapter_config.json").exists():
            config = json.loads((path / "adapter_config.json").read_text())
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise ValueError(f"lora: expected one .safetensors file in {path}, got {found}")
        (file,) = files
    else:
        file = path
    weights = _core.Weights.of_file(os.fspath(file))
    tensors = {key: from_bytes(*weights.read(key)).clone() for key in weights.names()}
    if not config:
        config = _config_in(weights.metadata())
    return tensors, config, path.stem


def _config_in(metadata: Mapping[str, str]) -> dict[str, Any]:
    """diffusers keeps peft's configuration in the file's metadata, per component."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return {}
    own = {key.removeprefix("transformer."): value for key, value in config.items()}
    return own if isinstance(own, dict) else {}


# --- which tensors go where --------------------------------------------------------------------------


class _Plan:
    def __init__(
        self, model: nn.Module, tensors: Mapping[str, torch.Tensor], config: dict[str, Any]
    ) -> None:
        self.linears = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, (QuantLinear, nn.Linear)) and name
        }
        self.report = LoraReport()
        self.adapters: dict[str, Adapter] = {}
        self._config = config
        self._errors: list[str] = []
        layers, others = factors_of(tensors)
        self.report.unmatched.update(others)
        for factors in layers:
            self._add(factors)

    def check(self, strict: bool) -> None:
        errors = list(self._errors)
        unmatched = {k: why for k, why in self.report.unmatched.items() if why != OF_TEXT_ENCODER}
        if not self.adapters:
            errors.append("no key belongs to a linear of the model")
        if errors or (unmatched and strict):
            shown = [f"{key}: {why}" for key, why in unmatched.items()]
            more = f"\n  and {len(shown) - 8} more" if len(shown) > 8 else ""
            raise ValueError(
                "\n  ".join(["the LoRA does not fit the model:", *errors, *shown[:8]]) + more
                + ("" if errors else "\n  fix: strict=False leaves these out")
            )

    def _add(self, factors: Factors) -> None:
        if factors.down is None or factors.up is None:
            missing = "down (lora_A)" if factors.down is None else "up (lora_B)"
            self._leave(factors, f"its factor {missing} is missing")
            return
        targets = targets_of(factors.layer, self.linears)
        if not targets:
            self._leave(factors, self._why_not(factors.layer))
            return
        modules = [self.linears[target] for target in targets]
        rank, k = factors.down.shape if factors.down.ndim == 2 else (0, 0)
        n = sum(module.out_features for module in modules)
        if factors.down.ndim != 2 or k != modules[0].in_features or tuple(factors.up.shape) != (n, rank):
            self._errors.append(
                f"{factors.layer}: expected [rank, {modules[0].in_features}] and [{n}, rank] for "
                f"{' + '.join(targets)}, got {list(factors.down.shape)} and {list(factors.up.shape)}"
            )
            return
        if not (torch.isfinite(factors.down).all() and torch.isfinite(factors.up).all()):
            self._errors.append(f"{factors.layer}: its factors hold inf or nan")
            return
        weight = self._weight(factors, targets[0], rank)
        rows = torch.split(factors.up, [module.out_features for module in modules])
        for target, up in zip(targets, rows, strict=True):
            if target in self.adapters:
                self._errors.append(f"{factors.layer}: {target} has factors already, of other keys")
                return
            self.adapters[target] = Adapter(factors.down, up, weight)
            self.report.matched[target] = factors.keys

    def _leave(self, factors: Factors, reason: str) -> None:
        self.report.unmatched.update(dict.fromkeys(factors.keys, reason))

    def _why_not(self, layer: str) -> str:
        fused = fused_with(layer, self.linears)
        if fused:
            return (
                f"the model has fused projections, {fused}: call unfuse_qkv_projections() before "
                "it is quantized"
            )
        return f"the model has no such linear; {_core.did_you_mean(layer, sorted(self.linears), 1)}"

    def _weight(self, factors: Factors, target: str, rank: int) -> float:
        """alpha / rank; without an alpha, 1."""
        config = self._config
        alpha = factors.alpha
        if alpha is None:
            patterns = config.get("alpha_pattern") or {}
            fitting = [value for key, value in patterns.items() if target.endswith(key)]
            alpha = fitting[0] if fitting else config.get("lora_alpha")
        if alpha is None:
            return 1.0
        return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


# --- layers ------------------------------------------------------------------------------------------


class _FloatBranch:
    """The hook of a linear that stayed float."""

    def __init__(self) -> None:
        self.adapters: dict[str, Adapter] = {}
        self._stacked: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)

    def set(self, adapters: dict[str, Adapter]) -> None:
        self.adapters, self._stacked = adapters, stacked(adapters.values())

    def __call__(self, module: nn.Module, args: tuple, y: torch.Tensor) -> torch.Tensor:
        down, up = (factor.to(y.device) for factor in self._stacked)
        branch = functional.linear(functional.linear(args[0].float(), down), up)
        return (y.float() + branch).to(y.dtype)


def _branch_of(module: nn.Module) -> _FloatBranch | None:
    return next((h for h in module._forward_hooks.values() if isinstance(h, _FloatBranch)), None)


def _adapters_of(module: nn.Module) -> dict[str, Adapter]:
    if isinstance(module, QuantLinear):
        return module.adapters
    branch = _branch_of(module)
    return {} if branch is None else branch.adapters


def _replace(module: nn.Module, adapters: dict[str, Adapter]) -> None:
    if isinstance(module, QuantLinear):
        module.set_adapters(adapters)
        return
    branch = _branch_of(module)
    if branch is None:
        branch = _FloatBranch()
        module.register_forward_hook(branch)
    branch.set(adapters)
    if not adapters:
        hooks = module._forward_hooks
        del hooks[next(key for key, hook in hooks.items() if hook is branch)]
