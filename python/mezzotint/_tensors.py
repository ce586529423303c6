"""Between torch's tensors and the dtypes of safetensors files."""

from __future__ import annotations

import torch

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    # Older torch has no such dtype: the bytes say the same.
    "F8_E8M0": getattr(torch, "float8_e8m0fnu", torch.uint8),
}
NAMES = {dtype: name for name, dtype in reversed(DTYPES.items())}


def from_bytes(data: torch.Tensor | None, dtype: str, shape: list[int]) -> torch.Tensor:
    """A view of `data` (uint8); a meta tensor without."""
    if data is None:
        return torch.empty(shape, dtype=DTYPES[dtype], device="meta")
    return data.view(DTYPES[dtype]).view(tuple(shape))


def to_bytes(tensor: torch.Tensor) -> tuple[torch.Tensor, str, list[int]]:
    """The inverse of from_bytes()."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.reshape(-1).view(torch.uint8), NAMES[tensor.dtype], list(tensor.shape)


def to_tuple(tensor: torch.Tensor) -> tuple[int, str, list[int]]:
    """What C++ borrows: address, dtype, shape. The caller keeps the contiguous tensor alive."""
    return tensor.data_ptr(), NAMES[tensor.dtype], list(tensor.shape)
