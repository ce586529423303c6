"""Reads and writes safetensors files with numpy alone, bf16 included.

A file is: u64 header size, JSON header, data. Tensors are (dtype name, array) where BF16 is kept as
its uint16 bit pattern; `to_float32` and `to_bfloat16` convert.
"""

import json
import pathlib

import numpy as np

NUMPY_TYPE = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}
SHARD_BYTES = 10 * 2**20


def read(path):
    """-> ({name: (dtype name, array)}, metadata)."""
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], NUMPY_TYPE[entry["dtype"]])
        tensors[name] = (entry["dtype"], array.reshape(entry["shape"]))
    return tensors, metadata


def write(path, tensors, metadata=None):
    """Tensors in the order given, data 8-byte aligned, written to a side file and renamed."""
    header = {"__metadata__": metadata} if metadata else {}
    blobs, offset = [], 0
    for name, (dtype, array) in tensors.items():
        blob = np.ascontiguousarray(array, NUMPY_TYPE[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    side = path.with_name(path.name + ".part")
    side.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blobs))
    side.replace(path)


def to_float32(tensor):
    dtype, array = tensor
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def to_bfloat16(array):
    """f32 -> ("BF16", bits), round to nearest even. Finite input only."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return "BF16", ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_transformer(folder):
    """All tensors of a sharded diffusers folder -> ({name: tensor}, index)."""
    folder = pathlib.Path(folder)
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    tensors = {}
    for shard in sorted(set(index["weight_map"].values())):
        tensors.update(read(folder / shard)[0])
    missing = sorted(set(index["weight_map"]) - set(tensors))
    if missing:
        raise ValueError(f"{folder}: the index names tensors that no shard holds: {missing}")
    return tensors, index


def write_transformer(folder, tensors):
    """Shards of at most SHARD_BYTES in name order, and their index."""
    folder = pathlib.Path(folder)
    groups, room = [], 0
    for name in sorted(tensors):
        size = tensors[name][1].nbytes
        if size > room or not groups:
            groups.append({})
            room = SHARD_BYTES
        groups[-1][name] = tensors[name]
        room -= size
    weight_map = {}
    for number, group in enumerate(groups, 1):
        shard = f"diffusion_pytorch_model-{number:05d}-of-{len(groups):05d}.safetensors"
        write(folder / shard, group, {"format": "pt"})
        weight_map.update(dict.fromkeys(group, shard))
    total = sum(array.nbytes for _, array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    path = folder / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2) + "\n")
