"""FP8 codes of attention inputs, one scale per tile."""

from __future__ import annotations

import torch
from mezzotint import _core

from ...utils import ParametersInvalid

_COLUMNS = 128  # of a tile


def fa_block_quant_preprocess(
    input_tensor: torch.Tensor,
    block_size: int = 128,
    dst_type: torch.dtype = torch.float8_e4m3fn,
    layout: str = "BNSD",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [B, N, S, D] and scales [B, N, ceil(S / block_size), ceil(D / 128)], F32."""
    if input_tensor.ndim != 4:
        raise ParametersInvalid(
            f"input_tensor: expected 4 dimensions, got {list(input_tensor.shape)}"
        )
    if layout not in ("BNSD", "BSND"):
        raise ValueError(f"layout: expected 'BNSD' or 'BSND', got {layout!r}")
    if dst_type != torch.float8_e4m3fn:
        raise ParametersInvalid(f"dst_type: expected torch.float8_e4m3fn, got {dst_type}")
    if not isinstance(block_size, int) or block_size < 1:
        raise ParametersInvalid(f"block_size: expected a positive int, got {block_size!r}")
    if layout == "BSND":
        input_tensor = input_tensor.transpose(1, 2)
    x = input_tensor.float().contiguous()  # exact: half precision is widened
    batch, heads, rows, columns = x.shape
    tiles = (-(-rows // block_size), -(-columns // _COLUMNS))
    codes = torch.empty(x.shape, dtype=torch.uint8)
    scales = torch.empty((batch, heads, *tiles), dtype=torch.float32)
    _core.fp8_blocks(
        x.data_ptr(), codes.data_ptr(), scales.data_ptr(), batch * heads, rows, columns,
        block_size, _COLUMNS,
    )  # fmt: skip
    return codes.view(torch.float8_e4m3fn), scales
