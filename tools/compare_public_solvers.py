#!/usr/bin/env python3
"""GPTQ and AWQ of public libraries and ours on the same problems: int4, groups of 128.

    pip install torch torchao==0.18.0 safetensors numpy
    pip download --no-deps auto-gptq==0.7.1 -d W && unzip W/auto_gptq*.whl 'auto_gptq/quantization/*' -d W
    python tools/compare_public_solvers.py --tool build/release/bin/mezzotint --auto-gptq W

Correlated activations, with and without channels twenty times larger, and weights with heavy tails. Both
sides get the same 4096 rows, rounded to bf16; the error is that of the outputs on 1024 other rows,
relative to the outputs. AutoGPTQ is IST-DASLab's code and needs its file alone; torchao's int4 GPTQ wants a
GPU library, its AWQ runs here. Exits with 1 where ours is above 1.02 times the error of theirs.
"""

import argparse
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import types

import numpy as np
import torch
from safetensors.torch import load_file, save_file

N, K, GROUP = 512, 1024, 128
ROWS, HELD_OUT = 4096, 1024
BAR = 1.02


def problem(outliers: bool, seed: int):
    """Weights [N,K], calibration rows and held-out rows [.,K]."""
    g = torch.Generator().manual_seed(seed)
    hidden = K // 4
    basis = torch.randn(hidden, K, generator=g) / hidden**0.5

    def rows(count):
        x = torch.randn(count, hidden, generator=g) @ basis + 0.3 * torch.randn(count, K, generator=g)
        if outliers:
            x[:, ::97] *= 20
        return x.bfloat16().float()

    normal = torch.randn(N, K, generator=g)
    chi = torch.randn(6, N, K, generator=g).pow(2).mean(0)
    return 0.05 * normal / chi.sqrt(), rows(ROWS), rows(HELD_OUT)


def output_error(x, w, q):
    return float(torch.linalg.norm(x @ (w - q).T) / torch.linalg.norm(x @ w.T))


# --- theirs ------------------------------------------------------------------------------------------


def load_auto_gptq(folder: pathlib.Path):
    """auto_gptq/quantization alone: the package around it imports models and kernels."""
    base = folder / "auto_gptq" / "quantization"
    if importlib.util.find_spec("transformers") is None:  # it asks for two classes of it
        stand_in = types.ModuleType("transformers")
        stand_in.Conv1D = type("Conv1D", (), {})
        stand_in.pytorch_utils = types.SimpleNamespace(Conv1D=stand_in.Conv1D)
        sys.modules["transformers"] = stand_in
    package = types.ModuleType("auto_gptq_quantization")
    package.__path__ = [str(base)]
    sys.modules["auto_gptq_quantization"] = package
    for name in ("quantizer", "gptq"):
        spec = importlib.util.spec_from_file_location(f"auto_gptq_quantization.{name}", base / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    torch.cuda.synchronize = lambda: None  # it waits for a GPU at the end
    return sys.modules["auto_gptq_quantization.gptq"].GPTQ


def auto_gptq(gptq_class, w, x, mse: bool):
    layer = torch.nn.Linear(K, N, bias=False)
    layer.weight.data = w.clone()
    solver = gptq_class(layer)
    solver.quantizer.configure(4, perchannel=True, sym=True, mse=mse)
    solver.add_batch(x, None)
    solver.fasterquant(blocksize=128, percdamp=0.01, group_size=GROUP, static_groups=True)
    return layer.weight.data


def torchao_awq(w, x):
    from torchao.prototype.awq.core import AWQObserver
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerGroup
    from torchao.quantization.quant_primitives import MappingType

    config = IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=PerGroup(GROUP), mapping_type=MappingType.ASYMMETRIC
    )
    observer = AWQObserver(w, None, config)
    observer(x, None)
    scales = observer.calculate_qparams()
    layer = torch.nn.Linear(K, N, bias=False)
    layer.weight.data = w * scales
    quantize_(layer, config)
    return layer.weight.dequantize().detach() / scales


# --- ours: files in, files out -----------------------------------------------------------------------


def write_statistics(file: pathlib.Path, model: str, x):
    """What `mezzotint collect` would have seen (docs/formats.md)."""
    rows = x.shape[0]
    tensors = {
        "ff.amax": x.abs().amax(0),
        "ff.mean_abs": x.abs().double().mean(0),
        "ff.count": torch.tensor([rows]),
        "ff.min": x.min().reshape(1),
        "ff.max": x.max().reshape(1),
        "ff.tokens": x[:1024].bfloat16(),
        "ff.token_keys": torch.arange(1024),
        "ff.token_steps": torch.zeros(1024, dtype=torch.int32),
        "ff.gram": (x.T @ x).contiguous(),
    }
    save_file(
        {name: t.contiguous() for name, t in tensors.items()},
        file,
        {"mezzotint_stats": "1", "model": model, "steps": "1", "tokens": "1024", "members:ff": "ff"},
    )


def run(command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def ours(tool, algorithm, w, x, folder: pathlib.Path):
    source, stats = folder / "model.safetensors", folder / "stats.safetensors"
    save_file({"ff.weight": w.contiguous()}, source)
    quantize = [tool, "quantize", source, "-o", folder / algorithm, "--algo", algorithm, "--preset", "none"]
    quantize += ["--group-size", GROUP, "--stats", stats, "--force"]
    write_statistics(stats, "unknown", x)
    # Of the model's name, a hash, the tool speaks when it is another.
    found = re.search(r"expected model ([0-9a-f]+)", run(quantize).stderr)
    write_statistics(stats, found.group(1), x)
    result = run(quantize)
    if result.returncode != 0:
        sys.exit(result.stderr)
    back = folder / f"{algorithm}.safetensors"
    result = run([tool, "dequantize", folder / algorithm, "-o", back, "--force"])
    if result.returncode != 0:
        sys.exit(result.stderr)
    return load_file(back)["ff.weight"].float()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", type=pathlib.Path, required=True)
    parser.add_argument("--auto-gptq", type=pathlib.Path, required=True, help="folder with auto_gptq/quantization")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    gptq_class = load_auto_gptq(arguments.auto_gptq)
    rows, worst = [], 0.0
    for seed in range(arguments.seeds):
        for outliers in (False, True):
            w, x, held_out = problem(outliers, seed)
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                error = lambda q: output_error(held_out, w, q)
                theirs = {
                    "w4a16_gptq": min(error(auto_gptq(gptq_class, w, x, mse)) for mse in (False, True)),
                    "w4a16_awq": error(torchao_awq(w, x)),
                }
                for algorithm, other in theirs.items():
                    mine = error(ours(arguments.tool, algorithm, w, x, folder))
                    worst = max(worst, mine / other)
                    rows.append({"seed": seed, "outliers": outliers, "algorithm": algorithm, "ours": mine,
                                 "theirs": other, "ratio": mine / other})
                    print(f"seed {seed}  outliers {outliers!s:5}  {algorithm:10}  ours {mine:.5f}  "
                          f"theirs {other:.5f}  ratio {mine / other:.3f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    print(f"worst ratio {worst:.3f}, bar {BAR}")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
