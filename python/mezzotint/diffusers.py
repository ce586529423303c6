"""Mezzotint as a quantization backend of diffusers.

    import mezzotint
    model = FluxTransformer2DModel.from_pretrained(
        "FLUX.1-dev", subfolder="transformer",
        quantization_config=mezzotint.MezzotintConfig(algo="w8a8_dynamic"))
    model.save_pretrained("flux-w8a8")
    model = FluxTransformer2DModel.from_pretrained("flux-w8a8")

diffusers has no entry points: importing mezzotint registers this, at once or when diffusers comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

import torch
from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import nn

from mezzotint import _core
from mezzotint._linears import find_linears
from mezzotint._plan import Plan, Rules, Wishes, attention_row, report_of
from mezzotint._tensors import to_bytes
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.modules import QuantLinear
from mezzotint.report import Report

METHOD = "mezzotint"


class QuantizationMethod(str, Enum):
    MEZZOTINT = METHOD


class MezzotintConfig(QuantizationConfigMixin):
    """The wishes of quantize_model(), for ``from_pretrained(..., quantization_config=)`` of diffusers.

        config = mezzotint.MezzotintConfig(algo="w8a8_dynamic", modules_to_not_convert=["proj_out"])
        model = FluxTransformer2DModel.from_pretrained(path, quantization_config=config)
        model.save_pretrained("flux-w8a8")    # from_pretrained("flux-w8a8") then needs no config

    Of a float model of any dtype, each linear [out_features, in_features] is quantized when its tensors have
    been read; no more than that is in memory in float. What stays float has the dtype that
    ``torch_dtype`` asks for. For whole pipelines: ``PipelineQuantizationConfig(quant_mapping=
    {"transformer": config})``.

    algo, rules, exclude, group_size, svd_rank, preset, attention, compat
        As of quantize_model().
    modules_to_not_convert
        What other backends call ``exclude``: a layer stays float when one of these names is the
        layer's, or any run of its parts between dots ("attn" keeps all of "blocks.0.attn").
    layers, attentions, timestep_policy, quant_method
        Stand in saved configs only: what the files hold.

    Raises TypeError when nothing is asked for. from_pretrained() raises mezzotint.Error for an algorithm that
    does not exist or does not fit a layer, and for a name or pattern that matches no layer; ValueError for
    a preset or an attention that is not known (with the nearest names), for a tensor that is missing or has
    another shape than its layer, and for a device_map other than the CPU.
    """

    def __init__(
        self,
        algo: str = "",
        rules: Rules = (),
        exclude: Iterable[str] = (),
        modules_to_not_convert: Iterable[str] | None = None,
        group_size: int = 0,
        preset: str = "auto",
        attention: str = "",
        compat: str | None = None,
        layers: Mapping[str, str] | None = None,
        attentions: Iterable[str] = (),
        timestep_policy: str = "",
        quant_method: str = METHOD,
        svd_rank: int = 0,
    ) -> None:
        self.quant_method = QuantizationMethod(quant_method)
        self.algo = algo
        self.rules = [list(rule) for rule in (rules.items() if isinstance(rules, Mapping) else rules)]
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self.modules_to_not_convert = list(modules_to_not_convert or [])
        self.group_size = group_size
        self.svd_rank = svd_rank
        self.preset = preset
        self.attention = attention
        self.compat = compat
        self.layers = None if layers is None else dict(layers)
        self.attentions = list(attentions)
        self.timestep_policy = timestep_policy
        if layers is None and not (algo or self.rules or attention):
            raise TypeError("MezzotintConfig: give algo=, rules= or attention=")

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "quant_method": METHOD}

    def to_diff_dict(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_dict().items() if value}

    def wishes(self, layers: list[str], kept: Iterable[str]) -> Wishes:
        """For a model with these layers. `kept`: names that stay float where the model has them."""
        exclude = list(self.exclude)
        for name in self.modules_to_not_convert:
            exclude.append(_parts_pattern(name))  # matches nothing: an error that says so
        for name in kept:
            pattern = _parts_pattern(name)
            exclude += [pattern] if _core.matches(pattern, layers) else []
        return Wishes(
            algo=self.algo, rules=self.rules, exclude=exclude, group_size=self.group_size,
            svd_rank=self.svd_rank, preset=self.preset, attention=self.attention,
            upstream=self.compat == "upstream",
        )  # fmt: skip


def _parts_pattern(name: str) -> str:
    return rf"re:(.*\.)?{re.escape(name)}(\..*)?"


class MezzotintQuantizer(DiffusersQuantizer):
    """Takes what layers need out of every file before diffusers sees it, and makes each layer when
    its tensors are complete: no more than that is in memory in float."""

    use_keep_in_fp32_modules = True
    required_packages = ["mezzotint"]

    def __init__(self, quantization_config: MezzotintConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._keys: list[str] = []
        self._came: dict[str, dict[str, torch.Tensor]] = {}  # layer: its tensors so far
        self._made: dict[str, nn.Module] = {}
        self._rotating: dict[str, FP8Attention] = {}

    # --- what from_pretrained() calls, in this order ------------------------------------------------

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        device_map = kwargs.get("device_map")
        places = device_map.values() if isinstance(device_map, Mapping) else [device_map]
        if any(place is not None and str(place) != "cpu" for place in places):
            raise ValueError(
                f"device_map: expected None or 'cpu', where this version computes, got {device_map!r}"
            )

    def update_device_map(self, device_map: Any) -> None:
        return None

    def maybe_update_loaded_keys(self, loaded_keys: list[str], checkpoint_files: Any) -> list[str]:
        self._keys = loaded_keys
        if not self.pre_quantized:
            return loaded_keys
        names = _Names(self.quantization_config)
        return [key for key in loaded_keys if names.owner(key) is None]

    def _process_model_before_weight_loading(
        self, model: nn.Module, keep_in_fp32_modules: Iterable[str] = (), **kwargs: Any
    ) -> None:
        config = self.quantization_config
        if self.pre_quantized:
            self._maker: _Reading | _Quantizing = _Reading(model, config, self._keys)
        else:
            self._maker = _Quantizing(model, config, keep_in_fp32_modules)

    def update_missing_keys(self, model: nn.Module, missing_keys: list[str], prefix: str) -> list[str]:
        return [key for key in missing_keys if self._maker.owner(key) is None]

    def maybe_update_state_dict(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        rest = {}
        for key, tensor in state_dict.items():
            owner = self._maker.owner(key)
            if owner is None:
                rest[key] = tensor
                continue
            came = self._came.setdefault(owner, {})
            came[key.removeprefix(owner + ".")] = tensor
            if came.keys() >= self._maker.needed[owner]:
                self._made[owner] = self._maker.make(owner, self._came.pop(owner))
        return rest

    @property
    def supports_parallel_loading(self) -> bool:
        return False

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        missing = sorted(self._maker.needed.keys() - self._made.keys())
        if missing:
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            raise ValueError(
                f"{len(missing)} layers are to be quantized, and the files have not all of their "
                f"tensors: {', '.join(missing[:8])}{more}"
            )
        linears = {name: made for name, made in self._made.items() if isinstance(made, QuantLinear)}
        for name, layer in linears.items():
            parent, _, child = name.rpartition(".")
            model.get_submodule(parent)._modules[child] = layer
        report = self._maker.finish(self._made)
        model.mezzotint_report = report
        print(f"mezzotint: {report.summary}")
        self.adopt(model)

    # --- saving -------------------------------------------------------------------------------------

    def adopt(self, model: nn.Module) -> None:
        """save_pretrained() then writes what from_pretrained() reads."""
        config = self.quantization_config
        layers = {n: m for n, m in model.named_modules() if isinstance(m, QuantLinear)}
        config.layers = {name: layer.algorithm for name, layer in layers.items()}
        if any(layer.is_upstream for layer in layers.values()):
            config.compat = "upstream"
        policies = [layer.timestep_policy for layer in layers.values() if layer.timestep_policy]
        config.timestep_policy = policies[0].text() if policies else ""
        self._rotating = {
            name.rpartition(".")[0]: module
            for name, module in model.named_modules()
            if isinstance(module, FP8Attention)
        }
        config.attentions = list(self._rotating)
        model.register_to_config(quantization_config=config)
        model.hf_quantizer = self

    def get_state_dict_and_metadata(
        self, state_dict: dict[str, Any], safe_serialization: bool = False
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        rotations = {
            f"{name}.{rotation}": getattr(attention, rotation)
            for name, attention in self._rotating.items()
            for rotation in _ROTATIONS
        }
        return {**state_dict, **rotations}, {}

    is_serializable = property(lambda self: True)
    is_trainable = property(lambda self: False)


_ROTATIONS = ("q_rot", "k_rot")


class _Names:
    """Whose tensor a key of a quantized file is."""

    def __init__(self, config: MezzotintConfig) -> None:
        self._layers = config.layers or {}
        self._attentions = set(config.attentions)

    def owner(self, key: str) -> str | None:
        name, _, leaf = key.rpartition(".")
        if leaf in _ROTATIONS and name in self._attentions:
            return name
        while name and name not in self._layers:
            name = name.rpartition(".")[0]
        return name or None


class _Reading(_Names):
    """Layers of a quantized file."""

    def __init__(self, model: nn.Module, config: MezzotintConfig, keys: Iterable[str]) -> None:
        super().__init__(config)
        self._model = model
        self._config = config
        self._upstream = config.compat == "upstream"
        self.needed: dict[str, set[str]] = {name: {"weight"} for name in self._layers}
        self.needed |= {name: set(_ROTATIONS) for name in self._attentions}
        for key in keys:
            owner = self.owner(key)
            if owner is not None:
                self.needed[owner].add(key.removeprefix(owner + "."))
        self._linears = {linear.name: linear for linear in find_linears(model, None)}
        strangers = sorted(self._layers.keys() - self._linears.keys())
        if strangers:
            hint = _core.did_you_mean(strangers[0], list(self._linears))
            raise ValueError(
                f"quantization_config: the model has no linear {strangers[0]}, one of "
                f"{len(strangers)} such layers; {hint}"
            )

    def make(self, name: str, tensors: dict[str, torch.Tensor]) -> nn.Module:
        if name in self._attentions:
            return FP8Attention(name, tensors["q_rot"], tensors["k_rot"])
        linear = self._linears[name]
        held = {key: to_bytes(tensor) for key, tensor in tensors.items()}
        named = [(key, (data.data_ptr(), *form)) for key, (data, *form) in held.items()]
        policy = self._config.timestep_policy
        layer = _core.Layer.from_tensors(
            name, self._layers[name], *linear.weight.shape, self._upstream, policy, named
        )
        return QuantLinear(*layer)

    def finish(self, made: Mapping[str, nn.Module]) -> Report:
        rows = []
        for name, linear in self._linears.items():
            algorithm = self._layers.get(name, "FLOAT")
            reason = "" if name in self._layers else "the files hold it in float"
            after = made[name].nbytes if name in self._layers else linear.bytes
            rows.append((name, algorithm, reason, *linear.weight.shape, linear.bytes, after))
        rows += [attention_row(name, made[name]) for name in self._config.attentions]
        report = report_of(rows)
        for name in self._config.attentions:
            module = self._model.get_submodule(name)
            add_fa_quant(module, made[name], strict=True, report=report)
        return report


class _Quantizing:
    """Layers of a float file, by the wishes of the config."""

    def __init__(
        self, model: nn.Module, config: MezzotintConfig, keep_in_fp32: Iterable[str]
    ) -> None:
        layers = [linear.name for linear in find_linears(model, None)]
        self._plan = Plan(model, config.wishes(layers, keep_in_fp32))
        self._chosen = {linear.name: linear for linear in self._plan.chosen}
        self.needed = {
            name: {"weight"} if linear.bias is None else {"weight", "bias"}
            for name, linear in self._chosen.items()
        }

    def owner(self, key: str) -> str | None:
        name = key.rpartition(".")[0]
        return name if name in self._chosen else None

    def make(self, name: str, tensors: dict[str, torch.Tensor]) -> nn.Module:
        linear = self._chosen[name]
        weight = tensors["weight"]
        if weight.shape != linear.weight.shape:
            raise ValueError(
                f"weight has the wrong shape: expected {list(linear.weight.shape)}, as the model's "
                f"layer, got {list(weight.shape)} (layer {name})"
            )
        given = replace(linear, weight=weight, bias=tensors.get("bias"))
        return self._plan.quantized(given)

    def finish(self, made: Mapping[str, nn.Module]) -> Report:
        report = self._plan.report(made)
        self._plan.add_attentions(report)
        return report


def adopt(model: nn.Module) -> None:
    """A model of diffusers that quantize() or quantize_model() changed: save_pretrained() works."""
    MezzotintQuantizer(MezzotintConfig(layers={}), pre_quantized=True).adopt(model)


auto.AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD] = MezzotintConfig
auto.AUTO_QUANTIZER_MAPPING[METHOD] = MezzotintQuantizer
