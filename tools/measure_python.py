"""What the Python package costs over C++: microseconds of a call, bytes of a load.

    build/venv/bin/python tools/measure_python.py overhead
    build/venv/bin/python tools/measure_python.py memory [FOLDER]   # a 1-billion-parameter model
    build/venv/bin/python tools/measure_python.py threads   # in turns with an operation of torch's
"""

import argparse
import gc
import json
import pathlib
import statistics
import sys
import tempfile
import threading
import time

import numpy as np
import torch
from torch import nn

import mezzotint


def microseconds(call, loops=2000, repeats=15):
    """Median over repeats of the mean of a loop."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(loops):
            call()
        times.append((time.perf_counter() - begin) / loops * 1e6)
    return statistics.median(times)


def overhead():
    """The module against the binding's call into Linear::run with everything prepared.

    The binding itself (a nanobind call with eight arguments, the GIL let go and taken) is part of
    the second figure; the third bounds it from above: m = 0 returns before any kernel.
    """
    print(f"{'m':>4} {'k':>5} {'n':>5} {'module':>8} {'prepared':>9} {'difference':>11} microseconds")
    for m, k, n in ((1, 64, 64), (1, 512, 512), (16, 512, 512)):
        model = nn.Sequential(nn.Linear(k, n))
        mezzotint.quantize_model(model, algo="w8a8_dynamic")
        layer = model[0]
        x = torch.randn(m, k)
        y = torch.empty(m, n)
        torch.set_num_threads(1)  # of the module
        context = mezzotint.Context(threads=1)
        bound = layer._bind(layer._parts())
        prepared = (x.data_ptr(), y.data_ptr(), 0, m, k, k, -1, context)
        with torch.inference_mode():
            pairs = [
                (microseconds(lambda: layer(x)), microseconds(lambda: bound.run(*prepared)))
                for _ in range(3)
            ]
        module, direct = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{m:4} {k:5} {n:5} {module:8.2f} {direct:9.2f} {module - direct:11.2f}")
    empty = (x.data_ptr(), y.data_ptr(), 0, 0, k, k, -1, context)
    print(f"the binding alone (m = 0): {microseconds(lambda: bound.run(*empty)):.2f} microseconds")


def after(before, call, seconds=0.5):
    """Median microseconds of call(); before() runs ahead of each and is not counted."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        before()
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e6)
    return statistics.median(times)


def threads():
    """A layer of 3072 x 3072 alone and in turns with torch's GELU of 1024 x 3072, on torch's threads
    and on oneTBB's."""
    count = torch.get_num_threads()
    contexts = {
        "torch's": mezzotint.Context(threads=count),
        "oneTBB": mezzotint.Context(threads=count, own_threads=True),
    }
    hidden = torch.randn(1024, 3072)
    model = mezzotint.quantize_model(nn.Sequential(nn.Linear(3072, 3072)), algo="w8a8_dynamic")
    bound = model[0]._bind(model[0]._parts())
    print(f"{count} threads, microseconds (medians)")
    print(f"{'threads':>8} {'m':>5} {'alone':>8} {'after torch':>12} {'GELU alone':>11} {'after ours':>11}")
    for m in (1, 16, 256, 1024):
        x, y = torch.randn(m, 3072), torch.empty(m, 3072)
        for name, context in contexts.items():
            call = lambda: bound.run(x.data_ptr(), y.data_ptr(), 0, m, 3072, 3072, -1, context)  # noqa: E731
            gelu = lambda: nn.functional.gelu(hidden)  # noqa: E731
            nothing = lambda: None  # noqa: E731
            figures = (after(nothing, call), after(gelu, call), after(nothing, gelu), after(call, gelu))
            print(f"{name:>8} {m:5} " + " ".join(f"{us:{w}.0f}" for us, w in zip(figures, (8, 12, 11, 11))))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)


class Model(nn.Module):
    """31 blocks of 2048: 1.04 billion parameters."""

    def __init__(self, width=2048, blocks=31):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))


def write_folder(folder):
    """A W8A8_DYNAMIC export of Model, from random bytes."""
    tensors, labels = {}, {}
    for name, parameter in Model().to("meta").named_parameters():
        if parameter.ndim == 2:
            tensors[name] = ("I8", list(parameter.shape))
            labels[name] = labels[f"{name}_scale"] = "W8A8_DYNAMIC"
            tensors[f"{name}_scale"] = ("F32", [parameter.shape[0], 1])
        else:
            tensors[name] = ("F32", list(parameter.shape))
            labels[name] = "FLOAT"
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape)) * (1 if dtype == "I8" else 4)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    folder.mkdir(parents=True)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(1)
    with open(folder / "quant_model_weight_w8a8_dynamic.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for dtype, shape in tensors.values():
            if dtype == "I8":
                file.write(rng.integers(-127, 128, shape, np.int8).tobytes())
            else:
                file.write(rng.uniform(0.01, 0.02, shape).astype(np.float32).tobytes())
    labels["model_quant_type"] = "W8A8_DYNAMIC"
    (folder / "quant_model_description_w8a8_dynamic.json").write_text(json.dumps(labels))


def resident():
    """Anonymous memory of this process, and file pages that are mapped, in bytes."""
    fields = {}
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile", "RssShmem"):
            fields[name] = int(value.split()[0]) * 1024
    return fields["RssAnon"] + fields["RssShmem"], fields["RssFile"]


class Peak(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.anonymous = self.total = 0
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(0.001):
            anonymous, mapped = resident()
            self.anonymous = max(self.anonymous, anonymous)
            self.total = max(self.total, anonymous + mapped)


def memory(folder):
    if not folder.exists():
        write_folder(folder)
    with torch.device("meta"):
        model = Model()
    parameters = sum(p.numel() for p in model.parameters())
    gc.collect()
    before, before_mapped = resident()
    peak = Peak()
    peak.start()
    begin = time.perf_counter()
    mezzotint.quantize(model, folder)
    seconds = time.perf_counter() - begin
    peak.stop.set()
    peak.join()
    after, _ = resident()
    layers = [m for m in model.modules() if isinstance(m, mezzotint.QuantLinear)]
    packed = sum(layer.nbytes for layer in layers)
    rest = sum(p.nbytes for p in model.parameters())
    largest = max(layer.nbytes for layer in layers)
    megabytes = {
        "packed and small buffers": packed,
        "other parameters": rest,
        "largest layer": largest,
        "anonymous, growth at the end": after - before,
        "anonymous, growth at the peak": peak.anonymous - before,
        "with mapped file pages, growth at the peak": peak.total - before - before_mapped,
        "peak over packed and other parameters": peak.anonymous - before - packed - rest,
    }
    print(f"{parameters / 1e9:.3f} billion parameters on the meta device, {seconds:.1f} s")
    for name, size in megabytes.items():
        print(f"{name:45} {size / 1e6:9.1f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["overhead", "memory", "threads"])
    parser.add_argument("folder", nargs="?", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.what != "memory":
        {"overhead": overhead, "threads": threads}[arguments.what]()
        return
    with tempfile.TemporaryDirectory() as temporary:
        memory(arguments.folder or pathlib.Path(temporary) / "model")


if __name__ == "__main__":
    sys.exit(main())
