"""Quantized layers among torch's: one linear, one Flux block, one pipeline. Ratios within one run.

    build/venv/bin/python tools/measure_diffusers.py linear     # torch bf16 and f32; torchao if it is there
    build/venv/bin/python tools/measure_diffusers.py block      # against the sum of its parts
    build/venv/bin/python tools/measure_diffusers.py pipeline   # the demo model, quantized and bf16
    build/venv/bin/python tools/measure_diffusers.py pipeline --case wide   # width 1024, random weights

Every contender runs in turn, round after round; a figure is the least of its rounds' times.
"""

import argparse
import copy
import math
import statistics
import time

import torch
from flux_pipelines import CASES, psnr
from torch import nn
from torch.overrides import TorchFunctionMode

import mezzotint


def least_ms(calls, rounds):
    """Milliseconds of each call."""
    best = dict.fromkeys(calls, math.inf)
    for name, call in calls.items():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            best[name] = min(best[name], (time.perf_counter() - begin) * 1e3)
    return best


def quantized(model, **wishes):
    return mezzotint.quantize_model(copy.deepcopy(model), **{"algo": "w8a8_dynamic", **wishes})


def torchao_int8(model):
    """int8 weights and per-row int8 activations, compiled; None without torchao."""
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        return None
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return torch.compile(model, mode="max-autotune")


def linear(rounds, m=4608, k=3072, n=3072):
    torch.manual_seed(1)
    f32 = nn.Sequential(nn.Linear(k, n)).requires_grad_(False)
    bf16 = copy.deepcopy(f32).bfloat16()
    ours = quantized(f32)
    x = torch.randn(m, k)
    narrow = x.bfloat16()
    calls = {
        "torch bf16": lambda: bf16(narrow),
        "torch f32": lambda: f32(x),
        "W8A8_DYNAMIC, bf16 in": lambda: ours(narrow),
    }
    theirs = torchao_int8(copy.deepcopy(bf16))
    if theirs is not None:
        calls["torchao int8 dynamic, compiled"] = lambda: theirs(narrow)
    best = least_ms(calls, rounds)
    for name, ms in best.items():
        print(f"{name:32} {ms:8.1f} ms   {ms / best['W8A8_DYNAMIC, bf16 in']:5.2f} x ours")


class Recorder(TorchFunctionMode):
    """Every call of torch's outside the leaf modules, and every leaf module, to be run again."""

    def __init__(self, model):
        super().__init__()
        self.calls = []
        self.depth = 0
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_pre_hook(self._enter, with_kwargs=True)
                module.register_forward_hook(self._leave)

    def _enter(self, module, args, kwargs):
        if self.depth == 0:
            self.calls.append((type(module).__name__, module.forward, args, kwargs))
        self.depth += 1

    def _leave(self, module, args, output):
        self.depth -= 1

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.depth == 0:
            self.calls.append((getattr(func, "__name__", str(func)), func, args, kwargs))
        return func(*args, **kwargs)


def block(rounds, image=1024, text=512):
    """One double-stream block of FLUX.1: its norms, attention and GELU are torch's, in bf16."""
    from diffusers.models.transformers.transformer_flux import FluxTransformerBlock

    torch.manual_seed(1)
    plain = FluxTransformerBlock(3072, 24, 128).eval().requires_grad_(False).bfloat16()
    ours = quantized(plain)
    inputs = {
        "hidden_states": torch.randn(1, image, 3072).bfloat16(),
        "encoder_hidden_states": torch.randn(1, text, 3072).bfloat16(),
        "temb": torch.randn(1, 3072).bfloat16(),
        "image_rotary_emb": (torch.rand(image + text, 128), torch.rand(image + text, 128)),
    }
    recorded = copy.deepcopy(ours)
    with Recorder(recorded) as recorder:
        recorded(**inputs)
    calls = {i: (lambda f=f, a=a, k=k: f(*a, **k)) for i, (_, f, a, k) in enumerate(recorder.calls)}
    # A part by itself: after itself, not after another one. All of a round in one breath.
    ratios, parts, wholes = [], [], []
    for _ in range(rounds):
        parts.append([second_ms(call) for call in calls.values()])
        wholes.append({"ours": second_ms(lambda: ours(**inputs)), "bf16": second_ms(lambda: plain(**inputs))})
        ratios.append(wholes[-1]["ours"] / sum(parts[-1]))
    by_name = {}
    for (name, *_), *ms in zip(recorder.calls, *parts, strict=True):
        count, total = by_name.get(name, (0, 0))
        by_name[name] = (count + 1, total + statistics.median(ms))
    for name, (count, ms) in sorted(by_name.items(), key=lambda row: -row[1][1])[:8]:
        print(f"  {name:32} {count:3} x {ms:8.1f} ms")
    ours_ms = statistics.median(whole["ours"] for whole in wholes)
    print(f"{len(calls)} parts, block {ours_ms:8.1f} ms   {statistics.median(ratios):5.2f} x its parts, "
          f"medians of {rounds} rounds (least {min(ratios):.2f}, most {max(ratios):.2f})")  # fmt: skip
    bf16 = statistics.median(whole["bf16"] / whole["ours"] for whole in wholes)
    print(f"torch bf16 block {bf16:5.2f} x ours")


def second_ms(call):
    """Milliseconds of a call right after the same one."""
    call()
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1e3


def pipeline(rounds, case):
    """Every contender's whole pipeline at equal seeds, and what of torch bf16's time is not in linears."""
    floats = {dtype: case.model(dtype) for dtype in (torch.float32, torch.bfloat16)}
    narrow = floats[torch.bfloat16]
    models = {
        "torch f32": floats[torch.float32],
        "torch bf16": narrow,
        "W8A8_DYNAMIC": quantized(narrow),
        "W8A8_DYNAMIC, fused blocks": fused(quantized(narrow)),
        "W8A8_DYNAMIC, fused, FP8 attention": fused(quantized(narrow, attention="fp8_dynamic")),
        "torch bf16, fused blocks": fused(copy.deepcopy(narrow)),
    }
    for model in models.values():
        case.draw(model, steps=1)
    drawn, times = {}, {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            begin = time.perf_counter()
            drawn[name] = case.draw(model)
            times[name].append(time.perf_counter() - begin)
    print(f"{case.name}: {case.what}; {case.steps} steps, equal seeds, PSNR against torch f32, "
          f"medians of {rounds} rounds")  # fmt: skip
    for name, seconds in times.items():
        ratio = statistics.median(bf16 / s for bf16, s in zip(times["torch bf16"], seconds, strict=True))
        error = "   equal" if name == "torch f32" else f"{psnr(drawn[name], drawn['torch f32']):5.1f} dB"
        print(f"{name:36} {min(seconds):6.2f} s  {ratio:5.2f} x as fast as torch bf16  {error}")
    share = share_of_linears(narrow, case)
    print(f"of torch bf16's time {share:.0%} is in linears: without the rest, no faster ones give "
          f"more than {1 / (1 - share):.2f} x")  # fmt: skip


def fused(model):
    mezzotint.fuse_blocks(model)
    return model


def share_of_linears(model, case):
    """Of one drawing's time, in the linears that W8A8_DYNAMIC takes the place of."""
    names = {row.name for row in quantized(model).mezzotint_report.layers if row.algorithm != "FLOAT"}
    timed, handles = [0.0], []
    for name, module in model.named_modules():
        if name in names:
            begin = lambda *_: timed.__setitem__(0, timed[0] - time.perf_counter())  # noqa: E731
            end = lambda *_: timed.__setitem__(0, timed[0] + time.perf_counter())  # noqa: E731
            handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    start = time.perf_counter()
    case.draw(model)
    whole = time.perf_counter() - start
    for handle in handles:
        handle.remove()
    return timed[0] / whole


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["linear", "block", "pipeline"])
    parser.add_argument("--case", choices=list(CASES), default="demo", help="of pipeline")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "pipeline":
        pipeline(arguments.rounds, CASES[arguments.case])
    else:
        {"linear": linear, "block": block}[arguments.what](arguments.rounds)


if __name__ == "__main__":
    main()
