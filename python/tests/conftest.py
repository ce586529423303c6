"""A tiny model with numbers of every awkward kind, as a float folder and as quantized folders."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

LAYER = "blocks.0.proj"
N, K = 40, 72  # neither is a multiple of a vector


@dataclass
class Layer:
    """What a folder holds, as numbers: y = x @ (codes * scale).T + bias."""

    folder: Path
    codes: np.ndarray  # [N, K] int8
    scale: np.ndarray  # [N] float32
    bias: np.ndarray  # [N] float32
    mul_scale: np.ndarray | None = None  # [K] float32


def bf16_round(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def write_quantized(
    folder: Path, algorithm: str, seed: int = 0, smooth: bool = False, offset: float = 0.0
) -> Layer:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, (N, K), dtype=np.int8)
    codes[3] = 0
    scale = bf16_round(rng.uniform(0.5, 2.0, N) / 127)
    bias = rng.normal(size=N).astype(np.float32)
    mul_scale = rng.uniform(0.25, 4.0, K).astype(np.float32) if smooth else None
    prefix = f"{LAYER}.linear" if smooth else LAYER
    tensors = {
        f"{prefix}.weight": codes,
        f"{prefix}.weight_scale": scale.reshape(N, 1),
        f"{prefix}.weight_offset": np.full((N, 1), offset, np.float32),
    }
    labels = dict.fromkeys(tensors, algorithm)
    floats = {f"{prefix}.bias": bias, "norm.weight": np.ones(K, np.float32)}
    if smooth:
        floats[f"{LAYER}.div.mul_scale"] = mul_scale
    labels |= dict.fromkeys(floats, "FLOAT")
    folder.mkdir(parents=True)
    stem = algorithm.lower()
    save_file(tensors | floats, folder / f"quant_model_weight_{stem}.safetensors")
    descriptor = {"model_quant_type": algorithm} | labels
    (folder / f"quant_model_description_{stem}.json").write_text(json.dumps(descriptor, indent=4))
    return Layer(folder, codes, scale, bias, mul_scale)


@pytest.fixture(scope="session", params=["W8A16", "W8A8_DYNAMIC"])
def algorithm(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def quantized(algorithm, tmp_path_factory) -> Layer:
    return write_quantized(tmp_path_factory.mktemp("quantized") / algorithm, algorithm)


@pytest.fixture
def x() -> np.ndarray:
    """Normal values, one row of zeros, one with an outlier x1000, one denormal."""
    rows = np.random.default_rng(1).normal(size=(9, K)).astype(np.float32)
    rows[1] = 0
    rows[2, 5] *= 1000
    rows[3] *= 1e-40
    return rows
