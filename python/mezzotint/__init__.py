"""Low-bit inference for diffusion transformers.

    import mezzotint
    linear = mezzotint.load_linear("flux-w8a8", "transformer_blocks.0.attn.to_q")
    y = linear.run(x)          # x: [..., in_features] float32, float16 or bfloat16
"""

from mezzotint._core import Context, Error, __version__
from mezzotint.linear import PackedLinear, load_linear

__all__ = ["Context", "Error", "PackedLinear", "__version__", "load_linear"]
