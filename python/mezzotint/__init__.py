"""Low-bit inference for diffusion transformers.

    from mezzotint import quantize
    model = quantize(model, "quant_model_description_w8a8_dynamic.json")   # any nn.Module

    linear = mezzotint.load_linear("flux-w8a8", "transformer_blocks.0.attn.to_q")   # numpy only
    y = linear.run(x)          # x: [..., in_features] float32, float16 or bfloat16
"""

import importlib

from mezzotint import _register
from mezzotint._core import Context, Error, __version__
from mezzotint.linear import PackedLinear, load_linear
from mezzotint.report import LayerReport, Report
from mezzotint.timestep import TimestepManager, TimestepPolicyConfig

del report  # the submodule: report() is a function, below

# What needs torch, which is imported with it.
_WITH_TORCH = {
    "FP8Attention": "mezzotint.attention",
    "MezzotintConfig": "mezzotint.diffusers",
    "analyze": "mezzotint._analyze",
    "collect": "mezzotint._collect",
    "fuse_blocks": "mezzotint._fuse",
    "load_lora": "mezzotint._lora",
    "merge_statistics": "mezzotint._collect",
    "register_peft": "mezzotint._peft",
    "report": "mezzotint._compare",
    "save": "mezzotint._save",
    "set_lora_scale": "mezzotint._lora",
    "track_timesteps": "mezzotint._timesteps",
    "unfuse_blocks": "mezzotint._fuse",
    "unload_lora": "mezzotint._lora",
    "QuantLinear": "mezzotint.modules",
    "install_as": "mezzotint._alias",
    "quantize": "mezzotint.quantization",
    "quantize_model": "mezzotint.quantization",
}

__all__ = [
    "Context",
    "Error",
    "FP8Attention",
    "LayerReport",
    "MezzotintConfig",
    "PackedLinear",
    "QuantLinear",
    "Report",
    "TimestepManager",
    "TimestepPolicyConfig",
    "__version__",
    "analyze",
    "collect",
    "fuse_blocks",
    "install_as",
    "load_linear",
    "load_lora",
    "merge_statistics",
    "quantize",
    "quantize_model",
    "register_peft",
    "report",
    "save",
    "set_lora_scale",
    "track_timesteps",
    "unfuse_blocks",
    "unload_lora",
]


def __getattr__(name: str):
    if name not in _WITH_TORCH:
        raise AttributeError(f"module 'mezzotint' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_WITH_TORCH[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "diffusers"):
            raise
        needs = "torch >= 2.4" if error.name == "torch" else error.name
        raise ImportError(f"mezzotint.{name} needs {needs}: pip install {error.name}") from error
    globals()[name] = value
    return value


_register.register()
