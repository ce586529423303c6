"""save(): a quantized model as a folder that stands alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import torch
from torch import nn

from mezzotint import _core
from mezzotint._tensors import NAMES, to_tuple
from mezzotint.attention import FP8Attention
from mezzotint.modules import QuantLinear

_UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def save(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    max_shard_size: int | str = 0,
    overwrite: bool = False,
) -> None:
    """Writes a quantized model as a folder that quantize(), the command line tool and upstream read.

        mezzotint.save(pipe.transformer, "flux-w8a8")
        mezzotint inspect flux-w8a8 --check                      # in a shell

    The folder holds the descriptor, every tensor of the model (those of quantized layers byte for byte
    as an export would write them, the others as they are) and, for diffusers' models, ``config.json``.
    It appears when it is complete or not at all; one tensor at a time is in memory.

    max_shard_size
        Bytes, or as Hugging Face spells it: "5GB". 0: one file.
    overwrite
        Replaces the files of an earlier folder, all or none.

    Raises ValueError for a model without quantized layers, with tensors on the meta device or with LoRA
    (which no such folder holds: unload_lora() first), mezzotint.Error where files are in the way.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    content = _Content(model)
    writer = _core.FolderWriter(
        os.fspath(folder), content.plan, content.quant_type(), content.facts(),
        [(name, "FP8_DYNAMIC") for name in content.attentions], _config_text(model),
        _bytes(max_shard_size), overwrite,
    )  # fmt: skip
    for name, tensor in content.floats.items():
        tensor = tensor.detach().cpu().contiguous()
        writer.put(name, to_tuple(tensor))
    for name, layer in content.layers.items():
        buffers = [buffer.cpu() for buffer in layer._parts()]
        writer.put_layer(name, layer._layer, [buffer.data_ptr() for buffer in buffers])
    writer.finish()


class _Content:
    """The tensors of the folder, in the order of the model."""

    def __init__(self, model: nn.Module) -> None:
        self.plan: list[tuple[str, str, list[int]]] = []
        self.floats: dict[str, torch.Tensor] = {}
        self.layers: dict[str, QuantLinear] = {}
        self.attentions: list[str] = []
        self._report = getattr(model, "mezzotint_report", None)
        for name, module in model.named_modules(remove_duplicate=False):
            if isinstance(module, QuantLinear):
                self._add_layer(name, module)
            elif isinstance(module, FP8Attention):
                self._add_attention(name.rpartition(".")[0], module)
            else:
                self._add_floats(name, module)
        if not self.layers and not self.attentions:
            raise ValueError(
                f"model: {type(model).__name__} has no quantized layer; quantize_model() makes them"
            )

    def _add_layer(self, name: str, layer: QuantLinear) -> None:
        if layer.adapters:
            raise ValueError(
                f"layer {name} has LoRA {', '.join(layer.adapters)}, which a quantized folder does not "
                "hold: unload_lora(model) first, and load it again where the folder is used"
            )
        if any(buffer.is_meta for buffer in layer._parts()):
            raise ValueError(f"layer {name} is on the meta device: there are no bytes to write")
        self.layers[name] = layer
        self.plan.extend((f"{name}.{part}", dtype, shape) for part, dtype, shape in layer._layer.forms)

    def _add_attention(self, name: str, attention: FP8Attention) -> None:
        self.attentions.append(name)
        self._add(f"{name}.q_rot", attention.q_rot)
        self._add(f"{name}.k_rot", attention.k_rot)

    def _add_floats(self, name: str, module: nn.Module) -> None:
        kept = {
            key: buffer
            for key, buffer in module._buffers.items()
            if key not in module._non_persistent_buffers_set
        }
        for key, tensor in {**module._parameters, **kept}.items():
            if tensor is not None:
                self._add(f"{name}.{key}" if name else key, tensor)

    def _add(self, name: str, tensor: torch.Tensor) -> None:
        if tensor.is_meta:
            raise ValueError(f"tensor {name} is on the meta device: there are no bytes to write")
        if tensor.dtype not in NAMES:
            raise ValueError(f"tensor {name}: safetensors files hold no {tensor.dtype}")
        self.floats[name] = tensor
        self.plan.append((name, NAMES[tensor.dtype], list(tensor.shape)))

    def quant_type(self) -> str:
        """The label of most layers."""
        counts = Counter(layer.algorithm for layer in self.layers.values())
        return counts.most_common(1)[0][0] if counts else "FP8_DYNAMIC"

    def facts(self) -> dict[str, str]:
        facts = {}
        for layer in self._report.layers if self._report is not None else ():
            if layer.reason and f"{layer.name}.weight" in self.floats:
                facts[f"kept:{layer.name}"] = layer.reason
        policies = {layer.timestep_policy.text() for layer in self.layers.values() if layer.timestep_policy}
        if len(policies) == 1:
            facts["timestep_policy"] = policies.pop()
        return facts


def _config_text(model: nn.Module) -> str:
    """config.json of diffusers' models, and of others whose config is plain data."""
    config = getattr(model, "config", None)
    if hasattr(model, "to_json_string"):
        config = json.loads(model.to_json_string())
    if not isinstance(config, dict):
        return ""
    # How it is quantized stands in the descriptor; save_pretrained() is the form with this key.
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    try:
        return json.dumps(plain, indent=2, sort_keys=True) + "\n"
    except TypeError:
        return ""


def _bytes(size: Any) -> int:
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    unit = _UNITS.get(str(size)[-2:].upper())
    try:
        return int(float(str(size)[:-2]) * unit)
    except (TypeError, ValueError):
        raise ValueError(f"max_shard_size: expected bytes or a size such as '5GB', got {size!r}") from None
