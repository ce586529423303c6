# The function, not the module of its name: as upstream.
from .quantize import quantize  # isort: skip
from .config import LayerQuantConfig, QuantConfig, TimestepPolicyConfig
from .utils import TimestepManager

__all__ = [
    "LayerQuantConfig",
    "QuantConfig",
    "TimestepManager",
    "TimestepPolicyConfig",
    "quantize",
]
