"""diffusers' LoRA loader of Flux compares the shapes of weights, which quantized layers do not hold."""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from torch import nn

from mezzotint.modules import QuantLinear

_NAME = "_maybe_expand_lora_state_dict"  # of diffusers >= 0.33
_expand = getattr(getattr(FluxLoraLoaderMixin, _NAME, None), "__func__", None)


def _expand_others(cls: type, transformer: nn.Module, lora_state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Factors of quantized layers fit or are refused; the others go diffusers' way."""
    ours, others = {}, {}
    for key, tensor in lora_state_dict.items():
        layer, _, factor = key.removeprefix(f"{cls.transformer_name}.").partition(".lora_")
        module = _quantized(transformer, layer)
        (others if module is None else ours)[key] = tensor
        if module is None or factor not in ("A.weight", "B.weight"):
            continue
        expected, found = (
            (module.in_features, tensor.shape[1]) if factor == "A.weight" else (module.out_features, tensor.shape[0])
        )
        if expected != found:
            raise ValueError(f"{key}: expected a factor for {expected} features, got {list(tensor.shape)}")
    return {**_expand(cls, transformer=transformer, lora_state_dict=others), **ours}


def _quantized(model: nn.Module, name: str) -> QuantLinear | None:
    for candidate in (f"{name}.base_layer", name):
        try:
            module = model.get_submodule(candidate)
        except AttributeError:
            continue
        return module if isinstance(module, QuantLinear) else None
    return None


if _expand is not None:
    setattr(FluxLoraLoaderMixin, _NAME, classmethod(functools.wraps(_expand)(_expand_others)))
