"""One linear layer on numpy buffers. Python owns every byte of it; C++ borrows."""

from __future__ import annotations

import functools
import os

import numpy as np

from mezzotint import _core

_ALIGNMENT = 64  # bytes, of a packed weight: what the kernels load at once
_DTYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint16))  # last: bfloat16 bits


@functools.cache
def default_context() -> _core.Context:
    return _core.Context()


def _aligned_empty(size: int) -> np.ndarray:
    raw = np.empty(size + _ALIGNMENT - 1, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size]


def _as_packed(packed: np.ndarray | bytes | bytearray | memoryview) -> np.ndarray:
    """packed itself where C++ can borrow it, else an aligned copy."""
    if not isinstance(packed, np.ndarray):
        packed = np.frombuffer(packed, np.uint8)
    if packed.ndim != 1 or packed.dtype != np.uint8:
        found = f"{packed.dtype} {list(packed.shape)}"
        raise TypeError(f"packed: expected a one-dimensional uint8 array, got {found}")
    if packed.flags.c_contiguous and packed.ctypes.data % _ALIGNMENT == 0:
        return packed
    copy = _aligned_empty(packed.size)
    copy[:] = packed
    return copy


def _as_vector(values: np.ndarray | None) -> np.ndarray | None:
    """Scales come as [n] or, as in files, [n,1]."""
    return None if values is None else np.ascontiguousarray(values, np.float32).reshape(-1)


def _as_rows(x: np.ndarray) -> np.ndarray:
    """x as [m, k] with rows that C++ can step over; copies only what it cannot."""
    rows = x.reshape(-1, x.shape[-1]) if x.shape[-1] else x.reshape(x.size, 0)
    row_stride, element_stride = rows.strides
    in_order = element_stride == rows.itemsize and row_stride >= rows.shape[1] * rows.itemsize
    if rows.flags.aligned and (in_order or rows.flags.c_contiguous):
        return rows
    return np.require(rows, requirements=["C", "A"])


class PackedLinear:
    """y = x @ W.T + b with a packed weight.

    ``packed`` (uint8) is the only copy of the weight and describes itself: shape, layout, dtype. It
    is used in place when it starts at a multiple of 64 bytes and copied once when not. Nobody may
    write to it, ``weight_scale``, ``weight_offset``, ``bias`` or ``mul_scale`` while the layer
    lives. Layers that hold more than these (groups, int4, MX, static scales, low rank) come from
    ``load_linear`` only.

    ``run`` releases the GIL and may be called from several threads.
    """

    def __init__(
        self,
        packed: np.ndarray | bytes | bytearray | memoryview,
        weight_scale: np.ndarray | None = None,
        bias: np.ndarray | None = None,
        *,
        algorithm: str,
        mul_scale: np.ndarray | None = None,
        weight_offset: np.ndarray | None = None,
        name: str = "linear",
    ) -> None:
        self.packed = _as_packed(packed)
        vectors = map(_as_vector, (weight_scale, bias, mul_scale, weight_offset))
        self._linear = _core.Linear(self.packed, *vectors, algorithm, name)

    @classmethod
    def _load(cls, folder: str | os.PathLike[str], name: str) -> PackedLinear:
        self = cls.__new__(cls)
        self._linear = _core.Linear.load(os.fspath(folder), name)
        self.packed = _aligned_empty(self._linear.packed_bytes)
        self._linear.move_packed(self.packed)
        self.packed.setflags(write=False)
        return self

    def run(self, x: np.ndarray, context: _core.Context | None = None) -> np.ndarray:
        """x: [..., in_features]; the result has x's dtype and leading dimensions.

        float32, float16, and bfloat16 either as a dtype of that name or as its bits in uint16.
        """
        x = np.asarray(x)
        if x.dtype.name == "bfloat16":
            return self.run(x.view(np.uint16), context).view(x.dtype)
        if x.dtype not in _DTYPES:
            raise TypeError(
                f"x: expected float32, float16 or bfloat16 (its bits in uint16), got {x.dtype} "
                f"(layer {self.name})"
            )
        if x.ndim == 0:
            raise ValueError(f"x: expected [..., {self.in_features}], got a scalar")
        rows = _as_rows(x)
        y = np.empty((rows.shape[0], self.out_features), x.dtype)
        self._linear.run(rows, y, context or default_context())
        return y.reshape(*x.shape[:-1], self.out_features)

    def kernel(self, m: int) -> str:
        """Name of the kernel row that serves m rows of x."""
        return self._linear.kernel(m)

    name: str = property(lambda self: self._linear.name)
    algorithm: str = property(lambda self: self._linear.algorithm)
    in_features: int = property(lambda self: self._linear.in_features)
    out_features: int = property(lambda self: self._linear.out_features)
    weight_scale: np.ndarray | None = property(lambda self: self._linear.weight_scale)
    weight_offset: np.ndarray | None = property(lambda self: self._linear.weight_offset)
    bias: np.ndarray | None = property(lambda self: self._linear.bias)
    mul_scale: np.ndarray | None = property(lambda self: self._linear.mul_scale)

    def __repr__(self) -> str:
        return (
            f"PackedLinear({self.name!r}, {self.algorithm}, in_features={self.in_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}, "
            f"{self.packed.nbytes} bytes)"
        )


def load_linear(folder: str | os.PathLike[str], name: str) -> PackedLinear:
    """The layer ``name`` of a quantized folder (or descriptor), or of a float model."""
    return PackedLinear._load(folder, name)
