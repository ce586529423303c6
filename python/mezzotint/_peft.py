"""register_peft(): peft's own LoRA on quantized layers."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import nn

from mezzotint.modules import QuantLinear


def register_peft(config: Any) -> Any:
    """Lets peft put its LoRA beside quantized layers, and returns `config`.

        config = mezzotint.register_peft(peft.LoraConfig.from_pretrained("adapter"))
        model = peft.get_peft_model(transformer, config)

    For those who manage adapters with peft: its branch is torch's, while load_lora() computes the same
    in C++. Gradients do not pass a quantized layer, and nothing merges into one.

    Configurations that are made after ``import mezzotint`` are registered already, so that diffusers'
    ``pipe.load_lora_weights(file)``, ``set_adapters`` and ``unload_lora_weights`` work; ``fuse_lora`` raises
    RuntimeError. This is for those that were there before.
    """
    config._register_custom_module({QuantLinear: _lora_class()})
    return config


@functools.cache
def _lora_class() -> type:
    from peft.tuners.lora import LoraLayer

    class LoraQuantLinear(nn.Module, LoraLayer):
        """y of the quantized layer, and scaling * B(A(x)) of every active adapter."""

        def __init__(
            self, base_layer: nn.Module, adapter_name: str, config: Any = None, r: int = 0,
            lora_alpha: int = 1, **kwargs: Any,
        ) -> None:  # fmt: skip
            super().__init__()
            with warnings.catch_warnings():  # that it does not know the class
                warnings.simplefilter("ignore", UserWarning)
                LoraLayer.__init__(self, base_layer)
            self._active_adapter = adapter_name
            self.update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config)

        def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            y = self.base_layer(x)
            if self.disable_adapters:
                return y
            for name in self.active_adapters:
                if name in self.lora_A:
                    down, up = self.lora_A[name], self.lora_B[name]
                    branch = up(down(self.lora_dropout[name](x.to(down.weight.dtype))))
                    y = y + (branch * self.scaling[name]).to(y.dtype)
            return y

        def merge(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError(
                f"layer {self.base_layer.name} is quantized: LoRA stays beside its weight\n"
                "  fix: merge into the float model and quantize that; unmerging (unfuse_lora) restores the "
                "float layers that were merged before this one"
            )

        def unmerge(self) -> None:
            """Nothing was merged."""

    return LoraQuantLinear
