"""Public quantizers on the same whole Flux pipeline: time per step, memory, PSNR against float.

    pip install torchao optimum-quanto sdnq openvino nncf     # what is missing is said in the table
    python tools/compare_peers.py [--case demo|wide] [--rounds 3] [--only NAME...]

Every contender has a process of its own, draws in turns with torch bf16 and quantizes the same linears
(those that Mezzotint's preset chooses). "times bf16" is the median of those turns. Memory is what the
quantized model adds to the process, before it draws and at the most while it draws.
"""

import argparse
import ctypes
import gc
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from flux_pipelines import CASES, psnr

PEERS = {}


def peer(name):
    """The function takes a bf16 model, the names of its linears and the case; it returns what draws."""
    return lambda function: PEERS.setdefault(name, function)


# --- contenders --------------------------------------------------------------------------------------


@peer("torch bf16")
def _(model, names, case):
    return model


def mezzotint_of(algo, is_fused=False):
    def make(model, names, case):
        import mezzotint

        mezzotint.quantize_model(model, algo=algo)
        if is_fused:
            mezzotint.fuse_blocks(model)
        return model

    return make


PEERS["Mezzotint W8A8_DYNAMIC"] = mezzotint_of("w8a8_dynamic")
PEERS["Mezzotint W8A8_DYNAMIC, fused blocks"] = mezzotint_of("w8a8_dynamic", is_fused=True)
PEERS["Mezzotint W8A16, fused blocks"] = mezzotint_of("w8a16", is_fused=True)
PEERS["Mezzotint W4A16, fused blocks"] = mezzotint_of("w4a16", is_fused=True)


def torchao_of(config, is_compiled):
    def make(model, names, case):
        from torchao import quantization

        wanted = lambda module, name: name in names  # noqa: E731
        quantization.quantize_(model, getattr(quantization, config)(), filter_fn=wanted)
        if is_compiled:
            model.forward = torch.compile(model.forward)
        return model

    return make


PEERS["torchao int8 dynamic"] = torchao_of("Int8DynamicActivationInt8WeightConfig", False)
PEERS["torchao int8 dynamic, compiled"] = torchao_of("Int8DynamicActivationInt8WeightConfig", True)
PEERS["torchao int8 weights, compiled"] = torchao_of("Int8WeightOnlyConfig", True)


def quanto_of(with_activations):
    def make(model, names, case):
        from optimum.quanto import Calibration, freeze, qint8, quantize

        quantize(model, weights=qint8, activations=qint8 if with_activations else None, include=sorted(names))
        if with_activations:
            with Calibration():
                case.draw(model, torch.bfloat16, steps=2)
        freeze(model)
        return model

    return make


PEERS["optimum-quanto int8 weights"] = quanto_of(False)
PEERS["optimum-quanto int8 weights and activations"] = quanto_of(True)


def sdnq_of(with_products):
    def make(model, names, case):
        from sdnq.quantizer import sdnq_post_load_quant

        linears = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        made = sdnq_post_load_quant(
            model, weights_dtype="int8", use_quantized_matmul=with_products, torch_dtype=torch.bfloat16,
            modules_to_not_convert=sorted(linears - names), add_skip_keys=False,
        )  # fmt: skip
        return made[0] if isinstance(made, tuple) else made

    return make


PEERS["SDNQ int8 weights"] = sdnq_of(False)
PEERS["SDNQ int8 products"] = sdnq_of(True)


class OpenVino(torch.nn.Module):
    """A converted transformer where diffusers expects its own."""

    NAMES = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep", "img_ids", "txt_ids")

    def __init__(self, model, case, compress):
        import openvino

        super().__init__()
        self.config, self.dtype, self.device = model.config, torch.float32, torch.device("cpu")
        examples = first_call(model.float(), case)
        converted = openvino.convert_model(Bare(model), example_input=examples)
        converted = compress(converted, [examples])
        self.compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})

    def forward(self, **inputs):
        arrays = [inputs[name].float().numpy() for name in self.NAMES]
        return (torch.from_numpy(self.compiled(arrays)[0]),)

    def cache_context(self, name):
        import contextlib

        return contextlib.nullcontext()


class Bare(torch.nn.Module):
    """Positional arguments and a tensor for the tracer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *inputs):
        return self.model(**dict(zip(OpenVino.NAMES, inputs, strict=True)), return_dict=False)[0]


def first_call(model, case):
    """What the pipeline gives the transformer first, in float32."""
    seen = []
    hook = model.register_forward_pre_hook(lambda m, args, kwargs: seen.append(kwargs), with_kwargs=True)
    case.draw(model, torch.float32, steps=1)
    hook.remove()
    return tuple(seen[0][name].float() for name in OpenVino.NAMES)


def openvino_of(how):
    def make(model, names, case):
        def compress(converted, calls):
            if how == "float":
                return converted
            import nncf

            if how == "weights":
                return nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)
            arrays = [[tensor.numpy() for tensor in call] for call in calls]
            return nncf.quantize(converted, nncf.Dataset(arrays), model_type=nncf.ModelType.TRANSFORMER)

        return OpenVino(model, case, compress)

    return make


PEERS["OpenVINO, its default floats"] = openvino_of("float")
PEERS["OpenVINO int8 weights (nncf)"] = openvino_of("weights")
PEERS["OpenVINO int8, static scales (nncf)"] = openvino_of("static")


# --- one contender, in its process -------------------------------------------------------------------


def resident(field="VmRSS"):
    """Megabytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def own(model):
    """Weights in memory of the process, not in a mapped file."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def names_of_linears(case):
    import mezzotint

    model = mezzotint.quantize_model(case.model(torch.bfloat16), algo="w8a8_dynamic")
    return {row.name for row in model.mezzotint_report.layers if row.algorithm != "FLOAT"}


def run(name, case, rounds, exact):
    names = names_of_linears(case)
    plain = own(case.model(torch.bfloat16))
    case.draw(plain, steps=1)  # what the libraries allocate once
    before = resident()
    model = PEERS[name](own(case.model(torch.bfloat16)), names, case)
    held = resident() - before
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    dtype = torch.float32 if isinstance(model, OpenVino) else torch.bfloat16
    drawn = case.draw(model, dtype)  # compiles what is to be compiled
    peak = resident("VmHWM") - before
    times, ratios = [], []
    for _ in range(rounds):
        theirs = seconds(lambda: case.draw(plain))
        times.append(seconds(lambda: case.draw(model, dtype)))
        ratios.append(theirs / times[-1])
    calls = case.steps * case.calls_per_step
    return {
        "seconds": min(times) / calls, "ratio": statistics.median(ratios), "held": held, "peak": peak,
        "psnr": psnr(drawn, exact),
    }  # fmt: skip


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


# --- all of them -------------------------------------------------------------------------------------


def in_a_process(name, arguments, exact_file):
    command = [
        sys.executable, __file__, "--child", name, "--case", arguments.case, "--exact", exact_file,
        "--rounds", str(arguments.rounds), "--threads", str(arguments.threads),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {arguments.limit} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    errors = [line for line in done.stderr.splitlines() if line and not line.startswith(" ")]
    return {"error": errors[-1] if errors else f"exit code {done.returncode}"}


def table(arguments):
    case = CASES[arguments.case]
    print(f"{case.what}; {case.steps} steps, {arguments.threads} threads, {arguments.rounds} rounds", flush=True)
    print("\n| | ms per call | times bf16 | memory | peak | PSNR dB |\n|---|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        exact_file = f"{folder}/exact.pt"
        torch.save(case.draw(case.model(torch.float32)), exact_file)
        for name in arguments.only or PEERS:
            row = in_a_process(name, arguments, exact_file)
            if "error" in row:
                print(f"| {name} | {row['error'][:160]} | | | | |", flush=True)
                continue
            print(f"| {name} | {row['seconds'] * 1e3:.1f} | {row['ratio']:.2f} | {row['held']:.0f} MB "
                  f"| {row['peak']:.0f} MB | {row['psnr']:.1f} |", flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="wide")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=300, help="seconds of one contender")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(PEERS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--exact", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        exact = torch.load(arguments.exact)
        print(json.dumps(run(arguments.child, CASES[arguments.case], arguments.rounds, exact)))
    else:
        table(arguments)


if __name__ == "__main__":
    main()
