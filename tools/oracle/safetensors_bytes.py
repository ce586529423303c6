"""Writes and reads safetensors files with the same bytes on every machine.

A file is a dict of tensors: name -> Tensor(dtype, array), with the dtype names of the format. Types
that numpy lacks are held as their codes: BF16 as uint16, F8_E4M3 as uint8.
"""

import json
import typing

import numpy as np

_NUMPY = {
    "U8": np.uint8,
    "I8": np.int8,
    "F8_E4M3": np.uint8,
    "BF16": np.uint16,
    "F16": np.float16,
    "I32": np.int32,
    "F32": np.float32,
    "I64": np.int64,
    "F64": np.float64,
}


class Tensor(typing.NamedTuple):
    dtype: str
    array: np.ndarray


def dump(tensors, metadata):
    """Widest elements first, so that every tensor is aligned; then by name."""
    order = sorted(tensors, key=lambda n: (-np.dtype(_NUMPY[tensors[n].dtype]).itemsize, n))
    header, body, offset = {"__metadata__": dict(sorted(metadata.items()))}, [], 0
    for name in order:
        dtype, array = tensors[name]
        data = np.ascontiguousarray(array, dtype=_NUMPY[dtype])
        assert data.dtype == np.asarray(array).dtype, (name, dtype, np.asarray(array).dtype)
        raw = data.astype(data.dtype.newbyteorder("<")).tobytes()
        end = offset + len(raw)
        shape = list(np.shape(array))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        body.append(raw)
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(body)


def parse(content):
    """bytes -> (tensors, metadata)"""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = content[8 + length + begin : 8 + length + end]
        dtype = np.dtype(_NUMPY[entry["dtype"]]).newbyteorder("<")
        array = np.frombuffer(raw, dtype).reshape(entry["shape"]).astype(_NUMPY[entry["dtype"]])
        tensors[name] = Tensor(entry["dtype"], array)
    return tensors, metadata
