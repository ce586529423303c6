"""Quantized layers among torch's: one linear, one Flux block, one pipeline. Ratios within one run.

    build/venv/bin/python tools/measure_diffusers.py linear     # torch bf16 and f32; torchao if it is there
    build/venv/bin/python tools/measure_diffusers.py block      # against the sum of its parts
    build/venv/bin/python tools/measure_diffusers.py pipeline   # the demo model, quantized and bf16

Every contender runs in turn, round after round; a figure is the least of its rounds' times.
"""

import argparse
import copy
import math
import pathlib
import time

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import mezzotint

ROOT = pathlib.Path(__file__).resolve().parents[1]


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
    # A part by itself: again and again, not after another one.
    parts = {i: least_ms({i: call}, rounds)[i] for i, call in calls.items()}
    whole = least_ms({"quantized": lambda: ours(**inputs), "bf16": lambda: plain(**inputs)}, rounds)
    by_name = {}
    for i, ms in parts.items():
        name = recorder.calls[i][0]
        count, total = by_name.get(name, (0, 0))
        by_name[name] = (count + 1, total + ms)
    for name, (count, ms) in sorted(by_name.items(), key=lambda row: -row[1][1])[:8]:
        print(f"  {name:32} {count:3} x {ms:8.1f} ms")
    total = sum(parts.values())
    print(f"{len(parts)} parts {total:8.1f} ms   block {whole['quantized']:8.1f} ms   {whole['quantized'] / total:5.2f} x its parts")
    print(f"torch bf16 block {whole['bf16']:8.1f} ms   {whole['bf16'] / whole['quantized']:5.2f} x ours")


def draw(model, prompts, images, steps):
    """Bytes of the demo's pixels: its latents are their values in -1 ... 1, in another order."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    absent = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(ROOT / "demo" / "scheduler")
    pipe = FluxPipeline(scheduler=scheduler, transformer=model, **absent)
    pipe.set_progress_bar_config(disable=True)
    out = pipe(
        prompt_embeds=prompts["states"][:images].to(model.dtype),
        pooled_prompt_embeds=prompts["pooled"][:images].to(model.dtype),
        negative_prompt_embeds=prompts["null_states"].expand(images, -1, -1).to(model.dtype),
        negative_pooled_prompt_embeds=prompts["null_pooled"].expand(images, -1).to(model.dtype),
        true_cfg_scale=4.5, num_inference_steps=steps, height=128, width=128, output_type="latent",
        generator=[torch.Generator().manual_seed(seed) for seed in range(images)],
    )  # fmt: skip
    return ((out.images.float() + 1) / 2).clamp(0, 1).mul(255).round()


def psnr(a, b):
    return 10 * math.log10(255**2 / float((a - b).square().mean()))


def pipeline(rounds, images=16, steps=20):
    from diffusers import FluxTransformer2DModel
    from safetensors.torch import load_file

    prompts = load_file(ROOT / "demo" / "prompts.safetensors")
    folder = ROOT / "demo" / "transformer"
    models = {
        f"torch {name}": FluxTransformer2DModel.from_pretrained(folder, torch_dtype=dtype)
        for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16))
    }
    models["W8A8_DYNAMIC in bf16"] = quantized(models["torch bf16"])
    models["W8A8_DYNAMIC in f32"] = quantized(models["torch f32"])
    drawn = {}

    def call(name, model):
        drawn[name] = draw(model, prompts, images, steps)

    calls = {name: (lambda n=name, m=model: call(n, m)) for name, model in models.items()}
    with torch.inference_mode():
        best = least_ms(calls, rounds)
    print(f"{images} images, {steps} steps, true CFG 4.5; PSNR against torch f32 at equal seeds")
    for name, ms in best.items():
        same = name == "torch f32"
        error = "     equal" if same else f"{psnr(drawn[name], drawn['torch f32']):7.1f} dB"
        print(f"{name:22} {ms:8.0f} ms   {ms / best['W8A8_DYNAMIC in bf16']:5.2f} x ours   {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["linear", "block", "pipeline"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    {"linear": linear, "block": block, "pipeline": pipeline}[arguments.what](arguments.rounds)


if __name__ == "__main__":
    main()
