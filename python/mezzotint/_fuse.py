"""fuse_blocks(): a model's blocks with what stands between their linears in C++."""

from __future__ import annotations

from torch import nn


def fuse_blocks(model: nn.Module) -> int:
    """Lets the blocks of a Flux transformer of diffusers run what stands between their linears in C++.

        mezzotint.quantize_model(pipe.transformer, algo="w8a8_dynamic")
        mezzotint.fuse_blocks(pipe.transformer)

    AdaLN, the norms and rotation of queries and keys, attention, GELU and the gated sums each become one
    pass over memory, computed in float32 and rounded once; q, k and v quantize their input once. On a CPU
    torch spends more time there than quantized layers spend on products. float32 and bfloat16 of any
    shape; FP8 attention stays FP8; layers may be float, quantized, or carry LoRA.

    A block runs as diffusers wrote it while it is compiled, trained or differentiated, on another device or
    dtype, with another attention processor, and while a step has a hook (offload, capture). Parameters,
    names and state_dict stay as they are.

    Returns the number of blocks. Raises ValueError when the model has none that is known, and ImportError
    without diffusers >= 0.35.
    """
    blocks = _classes()
    count = 0
    for module in model.modules():
        if type(module) in blocks:
            module.__class__ = blocks[type(module)]
        count += type(module) in blocks.values()
    if not count:
        raise ValueError(
            f"fuse_blocks: expected a model with {' or '.join(cls.__name__ for cls in blocks)} of "
            f"diffusers, got {type(model).__name__} without"
        )
    return count


def unfuse_blocks(model: nn.Module) -> None:
    """The blocks run as diffusers wrote them again."""
    ours = {fused: plain for plain, fused in _classes().items()}
    for module in model.modules():
        module.__class__ = ours.get(type(module), type(module))


def _classes() -> dict[type, type]:
    try:
        from mezzotint._flux_blocks import BLOCKS
    except (ImportError, AttributeError) as error:
        raise ImportError(f"fuse_blocks needs diffusers >= 0.35: pip install -U diffusers ({error})") from error
    return BLOCKS
