#!/usr/bin/env python3
"""Times torch, ONNX Runtime and OpenVINO on the shapes of ./x bench, and writes the same JSON.

    python bench/peers.py --bench build/release/bin/mezzotint_shape_bench --json peers.json
    python bench/peers.py --set big --rows 512 --path torch.f32,ort.int8 --threads 1 --passes 3

Needs torch (CPU); onnxruntime with onnx, and openvino, are measured where they are installed. With
--bench our own program takes turns with the peers on every shape (and oneDNN with it, where it was built
with it), and a table says how many times faster we are. One thread is judged by its time on
a processor, as there.

What a peer is given, whole calls unless the path says gemm:
  torch.f32, torch.bf16     F.linear with a bias
  torch.int8                per token quantization, torch._int_mm, scales and bias; gemm: _int_mm alone
  ort.int8                  what quantize_dynamic makes of a MatMul: DynamicQuantizeLinear,
                            MatMulInteger, one scale per output channel; x and y are f32
  openvino.f32, .bf16       MatMul and Add under that precision hint
  openvino.int8             int8 weights with scales, quantized activations as the plugin does it
  ggml.bf16, q8_0, q4_0, mxfp4 and ..._repacked (weights reordered): mul_mat, x and y f32, where
                            MEZZOTINT_PEERS is a folder that holds a build with shared libraries
  torch.sdpa_f32, _bf16     scaled_dot_product_attention of [1, heads, tokens, dim]
  torch.flux_*, demo_*      diffusers: a double and a single block of FLUX.1 at 1024 + 512 tokens, and a
                            step of the demo model with 32 samples (--flux-blocks)
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from ggml_products import ggml_products

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What of ours each is compared with.
OURS = {"mxfp4": ["mxfp4"], "mxfp4_repacked": ["mxfp4"], "q8_0": ["int8"], "q4_0": ["int4"],
        "q4_0_repacked": ["int4"], "f32": ["f32", "int8"], "bf16": ["bf16", "int8"], "int8": ["int8"],
        "flux_f32": ["flux_f32", "flux_w8a8_fp8"], "flux_bf16": ["flux_bf16", "flux_w8a8_fp8"],
        "demo_f32": ["demo_f32", "demo_w8a8", "demo_w8a8_fp8"], "demo_bf16": ["demo_bf16", "demo_w8a8", "demo_w8a8_fp8"],
        "sdpa_f32": ["attention_f32", "attention_fp8"], "sdpa_bf16": ["attention_bf16", "attention_fp8"]}  # fmt: skip
SAMPLE_SECONDS = 0.02  # a call is repeated until then
CASE_SECONDS = 20.0  # fewer passes of a case that takes longer in all


class Call:
    def __init__(self, engine, path, run, part="whole"):
        self.engine, self.path, self.part, self.run = engine, path, part, run
        self.samples = []


def processor():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(": ", 1)[1].strip()
    return "unknown"


def read_shapes(file):
    """The lines of src/models/shape_list.h without symbols: the bars, or what --bench is given."""
    for line in open(file):
        words = line.split("#")[0].split()
        if words and words[0] == "linear":
            m, n, k = map(int, words[1:4])
            yield {"op": "linear", "m": m, "n": n, "k": k, "set": words[5]}
        if words and words[0] == "attention":
            q, kv, heads, dim = map(int, words[1:5])
            yield {"op": "attention", "m": q, "n": kv, "k": heads * dim, "heads": heads, "set": words[6]}


# --- torch -----------------------------------------------------------------------------------------


def torch_int8(x, codes, scale, bias):
    """What Linear of W8A8_DYNAMIC does, in torch operations."""
    amax = x.abs().amax(dim=1, keepdim=True).float()
    x_scale = amax / 127
    q = torch.round(x / x_scale).to(torch.int8)
    return (torch._int_mm(q, codes) * x_scale * scale + bias).to(torch.bfloat16)


def torch_linears(shape):
    m, n, k = shape["m"], shape["n"], shape["k"]
    x, w, b = torch.randn(m, k), torch.randn(n, k) * 0.02, torch.randn(n)
    bf16 = [t.to(torch.bfloat16) for t in (x, w, b)]
    yield Call("torch", "f32", lambda: torch.nn.functional.linear(x, w, b))
    yield Call("torch", "bf16", lambda: torch.nn.functional.linear(*bf16))
    codes = torch.randint(-127, 128, (n, k), dtype=torch.int8).t()
    scale = torch.rand(n) * 0.001
    q = torch.randint(-127, 128, (m, k), dtype=torch.int8)
    yield Call("torch", "int8", lambda: torch_int8(bf16[0], codes, scale, b))
    yield Call("torch", "int8", lambda: torch._int_mm(q, codes), part="gemm")


def torch_attentions(shape):
    heads = shape["heads"]
    for name, dtype in (("sdpa_f32", torch.float32), ("sdpa_bf16", torch.bfloat16)):
        q = torch.randn(1, heads, shape["m"], shape["k"] // heads, dtype=dtype)
        k = torch.randn(1, heads, shape["n"], shape["k"] // heads, dtype=dtype)
        v = torch.randn_like(k)
        yield Call("torch", name, lambda q=q, k=k, v=v: torch.nn.functional.scaled_dot_product_attention(q, k, v))


def torch_transformer(name, config, batch, text, image):
    """One call of diffusers' transformer with random weights, in f32 and in bf16."""
    from diffusers import FluxTransformer2DModel

    for kind, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        model = FluxTransformer2DModel.from_config(config).to(dtype).eval()
        random = lambda *shape: torch.randn(*shape, dtype=dtype)  # noqa: B023, E731
        inputs = dict(hidden_states=random(batch, image, model.config.in_channels),
                      encoder_hidden_states=random(batch, text, model.config.joint_attention_dim),
                      pooled_projections=random(batch, model.config.pooled_projection_dim),
                      timestep=torch.full((batch,), 0.5, dtype=dtype),
                      guidance=torch.full((batch,), 3.5, dtype=dtype) if model.config.guidance_embeds else None,
                      txt_ids=torch.zeros(text, 3), img_ids=torch.zeros(image, 3))  # fmt: skip
        yield Call("torch", f"{name}_{kind}", lambda model=model, inputs=inputs: model(**inputs))


def torch_flux_blocks():
    return torch_transformer("flux", {"num_layers": 1, "num_single_layers": 1, "guidance_embeds": True}, 1, 512, 1024)


def torch_demo_step():
    return torch_transformer("demo", json.loads((ROOT / "demo/transformer/config.json").read_text()), 32, 16, 64)


# --- ONNX Runtime ----------------------------------------------------------------------------------


def ort_linears(shape, threads):
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    m, n, k = shape["m"], shape["n"], shape["k"]
    w = numpy_helper.from_array((np.random.randn(k, n) * 0.02).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.random.randn(n).astype(np.float32), "b")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Add", ["s", "b"], ["y"])]
    value = lambda name, cols: helper.make_tensor_value_info(name, TensorProto.FLOAT, [m, cols])  # noqa: E731
    graph = helper.make_graph(nodes, "linear", [value("x", k)], [value("y", n)], [w, bias])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, folder + "/f32.onnx")
        quantize_dynamic(folder + "/f32.onnx", folder + "/int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(folder + "/int8.onnx", options, providers=["CPUExecutionProvider"])
    x = np.random.randn(m, k).astype(np.float32)
    yield Call("ort", "int8", lambda: session.run(None, {"x": x}))


# --- OpenVINO --------------------------------------------------------------------------------------


def openvino_linears(shape, threads):
    import openvino
    from openvino import opset13 as ops

    m, n, k = shape["m"], shape["n"], shape["k"]
    x = np.random.randn(m, k).astype(np.float32)
    bias = ops.constant(np.random.randn(1, n).astype(np.float32))

    def compiled(weight, settings):
        source = ops.parameter([m, k], np.float32, name="x")
        y = ops.add(ops.matmul(source, weight, False, True), bias)
        settings = dict(settings, INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1)
        request = openvino.Core().compile_model(openvino.Model([y], [source]), "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(x))
        return request.infer

    weight = np.random.randn(n, k).astype(np.float32) * 0.02
    for precision in ("f32", "bf16"):
        infer = compiled(ops.constant(weight), {"INFERENCE_PRECISION_HINT": precision})
        yield Call("openvino", precision, infer)
    codes = ops.constant(np.random.randint(-127, 128, (n, k)).astype(np.int8))
    scaled = ops.multiply(ops.convert(codes, "f32"), ops.constant(np.full((n, 1), 0.001, np.float32)))
    yield Call("openvino", "int8", compiled(scaled, {"INFERENCE_PRECISION_HINT": "bf16"}))


# --- measuring -------------------------------------------------------------------------------------


def take_sample(call, threads):
    # Of the whole process: a peer may compute on a worker while its caller waits.
    wall, cpu, calls, passed = time.perf_counter(), time.process_time(), 0, 0.0
    while passed < SAMPLE_SECONDS:
        call.run()
        calls += 1
        passed = time.perf_counter() - wall
    call.samples.append((time.process_time() - cpu if threads == 1 else passed) / calls)


def measure(calls, threads, passes, turn=lambda: None):
    """Every call once, then turn(), and so on: what disturbs the machine disturbs them alike."""
    wanted = []
    for call in calls:
        start = time.perf_counter()
        call.run()
        seconds = max(time.perf_counter() - start, SAMPLE_SECONDS)
        wanted.append(min(passes, max(1, int(CASE_SECONDS / seconds))))
    for index in range(passes):
        for call, most in zip(calls, wanted):
            if index < most:
                take_sample(call, threads)
        turn()


def case_json(shape, call, threads):
    factor = {"linear": 2, "attention": 4}.get(shape["op"], 0)  # of transformers: time alone
    return {
        "engine": call.engine, "path": call.path, "part": call.part, "kernel": call.engine, "set": shape["set"],
        "m": shape["m"], "n": shape["n"], "k": shape["k"], "threads": threads, "cold": False,
        "operations": factor * shape["m"] * shape["n"] * shape["k"],
        "seconds": statistics.median(call.samples), "best_seconds": min(call.samples), "samples": call.samples,
    }  # fmt: skip


TRANSFORMERS = [{"op": "flux_blocks", "set": "flux_blocks", "m": 1536, "n": 3072, "k": 3072},
                {"op": "demo_step", "set": "demo_step", "m": 32 * 80, "n": 256, "k": 256}]  # fmt: skip


def peers_of(shape, threads, options):
    makers = {"torch": lambda: torch_linears(shape), "ort": lambda: ort_linears(shape, threads),
              "openvino": lambda: openvino_linears(shape, threads),
              "ggml": lambda: (Call("ggml", *product) for product in ggml_products(shape, threads))}  # fmt: skip
    if shape["op"] == "flux_blocks":
        makers = {"torch": torch_flux_blocks}
    if shape["op"] == "demo_step":
        makers = {"torch": torch_demo_step}
    if shape["op"] == "attention":
        makers = {"torch": lambda: torch_attentions(shape)}
    for engine in options.engine:
        if engine not in makers:
            continue
        try:
            yield from (c for c in makers[engine]() if not options.path or {c.path, f"{engine}.{c.path}"} & set(options.path))
        except ImportError as error:
            print(f"skipped {engine}: {error}", file=sys.stderr)


def run_ours(options, threads, paths, arguments):
    """The cases of our own program, one pass."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.bench, *arguments, "--threads", str(threads), "--path", ",".join(paths), "--peers",
                        "--passes", "1", "--json", folder + "/one.json"],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        return json.loads((pathlib.Path(folder) / "one.json").read_text())["cases"]


def ours(shape, threads, options, paths):
    """The same on one shape."""
    if shape["op"] in ("flux_blocks", "demo_step"):
        return run_ours(options, threads, paths, ["--flux-blocks"])
    sizes = [shape["m"], shape["n"]] + ([shape["heads"], shape["k"] // shape["heads"]] if "heads" in shape else [shape["k"]])
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "one.txt").write_text(
            f"model one\n{shape['op']} {' '.join(map(str, sizes))} 1 {shape['set']}\n")
        return run_ours(options, threads, paths, ["--shapes", folder + "/one.txt"])


def merged(rounds):
    """One case of every case that all rounds have, with the samples of all."""
    key = lambda c: (c["engine"], c["path"], c["part"], c["kernel"])  # noqa: E731
    cases = []
    for case in rounds[0]:
        same = [c for cases_of_round in rounds for c in cases_of_round if key(c) == key(case)]
        samples = [sample for c in same for sample in c["samples"]]
        cases.append(case | {"samples": samples, "seconds": statistics.median(samples), "best_seconds": min(samples),
                             "peak": statistics.median(c["peak"] for c in same)})  # fmt: skip
    return cases


def measure_shape(shape, threads, options):
    """Peers and ours on one shape, in turns."""
    torch.set_num_threads(threads)
    rounds = []
    with torch.inference_mode():
        calls = list(peers_of(shape, threads, options))
        paths = sorted({path for call in calls for path in OURS[call.path]})

        def our_turn():
            if options.bench and calls:
                rounds.append(ours(shape, threads, options, paths))

        measure(calls, threads, options.passes, our_turn)
    return [case_json(shape, call, threads) for call in calls] + (merged(rounds) if rounds else [])


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def is_ours(case):
    return case["engine"] == "mezzotint"


def peer_name(case):
    name = case["path"] if "." in case["path"] else f"{case['engine']}.{case['path']}"
    return name + (" gemm" if case["part"] == "gemm" else "")


def our_seconds(cases):
    """{(path, shape, threads): seconds}; "int8 gemm" is int8 without what the quantization takes alone."""
    shape = lambda c: (c["m"], c["n"], c["k"], c["threads"])  # noqa: E731
    part = {(c["path"], c["part"], *shape(c)): c["seconds"] for c in cases if is_ours(c)}
    whole = {(path, *rest): seconds for (path, which, *rest), seconds in part.items() if which == "whole"}
    gemms = {(path + " gemm", *rest): seconds - part[path, "quantize", *rest]
             for (path, *rest), seconds in whole.items() if (path, "quantize", *rest) in part}  # fmt: skip
    return whole | gemms


# The better of what multiplies ready codes: what "GEMM alone" and "whole" are held to.
INT8_GEMMS = ("torch.int8 gemm", "onednn.int8")
READY_CODES = (*INT8_GEMMS, "aocl_dlp.int8")


def ratios_of(cases):
    """{(set, threads, path of ours, peer): how many times faster, one per shape}."""
    own, ratios, best = our_seconds(cases), {}, {}
    for case in (c for c in cases if not is_ours(c)):
        shape, name = (case["m"], case["n"], case["k"], case["threads"]), peer_name(case)
        own_name = name.split(" ")[0].split(".", 1)[1]
        paths = OURS.get(own_name, [own_name])
        if name in READY_CODES:
            paths = ["int8 gemm", "int8"]
        if name in INT8_GEMMS:
            best.setdefault((case["set"], *shape), []).append(case["seconds"])
        for path in paths:
            if (path, *shape) in own:
                ratios.setdefault((case["set"], case["threads"], path, name), []).append(case["seconds"] / own[path, *shape])
    for (which, *shape), both in best.items():
        for path in ("int8 gemm", "int8"):
            if len(both) == len(INT8_GEMMS) and (path, *shape) in own:
                ratios.setdefault((which, shape[-1], path, "the better of both"), []).append(min(both) / own[path, *shape])
    return ratios


def print_table(cases):
    """Per set, path, peer and threads: how many times faster ours is, geometric mean over the shapes."""
    for (which, threads, path, name), values in ratios_of(cases).items():
        print(f"{which:11} {threads} thr  {path:14} {geometric_mean(values):6.2f} times faster than {name} "
              f"(least {min(values):.2f} of {len(values)})")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commas = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--shapes", default=ROOT / "bench" / "shapes" / "bars.txt")
    parser.add_argument("--engine", type=commas, default=["torch", "ort", "openvino", "ggml"])
    parser.add_argument("--path", type=commas, default=[], help="f32, int8, ... of every engine, or ort.int8 of one (default: all)")
    parser.add_argument("--rows", type=int, default=1 << 30, help="more rows are cut to this")
    parser.add_argument("--set", type=commas, default=["big", "hot", "s1024", "s4608"])
    parser.add_argument("--threads", type=commas, default=["1", "2"])
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--shapes-at-most", type=int, default=100, help="of each set, the first ones")
    parser.add_argument("--flux-blocks", action="store_true", help="blocks of FLUX.1 and a step of the demo, no other shapes")
    parser.add_argument("--bench", help="our program, which takes turns with the peers")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()

    cases, taken = [], {}
    for shape in TRANSFORMERS if options.flux_blocks else read_shapes(options.shapes):
        taken[shape["set"]] = taken.get(shape["set"], 0) + 1
        if not options.flux_blocks and (shape["set"] not in options.set or taken[shape["set"]] > options.shapes_at_most):
            continue
        shape["m"] = min(shape["m"], options.rows) if shape["op"] == "linear" else shape["m"]
        for threads in map(int, options.threads):
            measured = measure_shape(shape, threads, options)
            cases += measured
            for case in measured:
                print(f"{case['set']:6} {case['m']}x{case['n']}x{case['k']} {threads} thr  {peer_name(case):22} {case['part']:8} "
                      f"{case['seconds'] * 1e3:9.2f} ms {case['operations'] / case['seconds'] / 1e9:7.1f} GOPS", flush=True)  # fmt: skip
    print_table(cases)
    versions = {"torch": torch.__version__}
    document = {"mezzotint_bench": 1, "command": " ".join(sys.argv), "processor": processor(), "versions": versions, "cases": cases}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
