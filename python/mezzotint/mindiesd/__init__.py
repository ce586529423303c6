"""The quantization part of MindIE SD's Python package, by its names, on the CPU.

    import mezzotint
    mezzotint.install_as("mindiesd")        # from here on, `from mindiesd import quantize` works

docs/compatibility.md lists what differs.
"""

from .quantization import quantize
from .quantization.config import TimestepPolicyConfig
from .quantization.utils import TimestepManager

__all__ = ["TimestepManager", "TimestepPolicyConfig", "quantize"]
