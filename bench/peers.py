#!/usr/bin/env python3
"""Times torch, ONNX Runtime and OpenVINO on the shapes of ./x bench, and writes the same JSON.

    python bench/peers.py --bench build/release/bin/mezzotint_shape_bench --json peers.json
    python bench/peers.py --engine torch --set big --path int8,bf16 --threads 1

Needs torch (CPU); onnxruntime with onnx, and openvino, are measured where they are installed. With
--bench our own program runs on the same shape right after the peers, and a table says how many times
faster we are. One thread is judged by its time on a processor, as there.

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
"""

import argparse
import ctypes
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
# What of ours each is compared with.
OURS = {"mxfp4": ["mxfp4"], "mxfp4_repacked": ["mxfp4"], "q8_0": ["int8"], "q4_0": ["int4"],
        "q4_0_repacked": ["int4"], "f32": ["f32", "int8"], "bf16": ["bf16", "int8"], "int8": ["int8"],
        "flux_f32": ["flux_f32", "flux_w8a8_fp8"], "flux_bf16": ["flux_bf16", "flux_w8a8_fp8"],
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


def torch_flux_blocks():
    """One double and one single block of FLUX.1 in diffusers, 1024 + 512 tokens, random weights."""
    from diffusers import FluxTransformer2DModel

    image, text = 1024, 512
    ids = torch.zeros(text, 3), torch.zeros(image, 3)
    for name, dtype in (("flux_f32", torch.float32), ("flux_bf16", torch.bfloat16)):
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True).to(dtype).eval()
        inputs = dict(hidden_states=torch.randn(1, image, 64, dtype=dtype), pooled_projections=torch.randn(1, 768, dtype=dtype),
                      encoder_hidden_states=torch.randn(1, text, 4096, dtype=dtype), timestep=torch.full((1,), 0.5, dtype=dtype),
                      guidance=torch.full((1,), 3.5, dtype=dtype), txt_ids=ids[0], img_ids=ids[1])  # fmt: skip
        yield Call("torch", name, lambda model=model, inputs=inputs: model(**inputs))


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


# --- ggml ------------------------------------------------------------------------------------------


class Ggml:
    """The C functions of a ggml build below MEZZOTINT_PEERS."""

    TYPES = {"bf16": 30, "q8_0": 8, "q4_0": 2, "mxfp4": 39}
    REPACKED = ("q4_0", "mxfp4")  # what ggml reorders on x86-64; it crashes on others
    F32 = 0

    class InitParams(ctypes.Structure):
        _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]

    def __init__(self, root):
        self.libraries = []
        for name in ("base", "cpu", ""):
            found = sorted(pathlib.Path(root).rglob(f"libggml{'-' + name if name else ''}.so"))
            if not found:
                raise ImportError(f"no libggml{'-' + name if name else ''}.so below {root}")
            self.libraries.append(ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL))

    def __call__(self, name, *arguments, result=ctypes.c_void_p):
        for library in self.libraries:
            if hasattr(library, name):
                function = getattr(library, name)
                function.restype = result
                return function(*arguments)
        raise ImportError(f"this ggml has no {name}")

    def context(self):
        return ctypes.c_void_p(self("ggml_init", self.InitParams(1 << 20, None, True)))

    def repacking_type(self):
        """The buffer type that reorders weights for this processor, or None."""
        registry = ctypes.c_void_p(self("ggml_backend_cpu_reg"))
        device = ctypes.c_void_p(self("ggml_backend_reg_dev_get", registry, ctypes.c_size_t(0)))
        address = self("ggml_backend_reg_get_proc_address", registry, b"ggml_backend_dev_get_extra_bufts")
        types = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(device)
        while types and types[0]:
            if b"REPACK" in self("ggml_backend_buft_name", ctypes.c_void_p(types[0]), result=ctypes.c_char_p):
                return ctypes.c_void_p(types[0])
            types = ctypes.cast(ctypes.addressof(types.contents) + ctypes.sizeof(ctypes.c_void_p), type(types))
        return None

    def quantized(self, kind, w):
        n, k = w.shape
        row = self("ggml_row_size", ctypes.c_int(kind), ctypes.c_int64(k), result=ctypes.c_size_t)
        codes = np.empty(n * row, np.uint8)
        self("ggml_quantize_chunk", ctypes.c_int(kind), w.ctypes.data_as(ctypes.c_void_p), codes.ctypes.data_as(ctypes.c_void_p),
             ctypes.c_int64(0), ctypes.c_int64(n), ctypes.c_int64(k), None, result=ctypes.c_size_t)  # fmt: skip
        return codes

    def matmul(self, kind, shape, w, threads, buffer_type):
        """A function that computes y = x w^T with w of `kind` and x of f32."""
        size = ctypes.c_int64
        m, n, k = shape["m"], shape["n"], shape["k"]
        weights, work = self.context(), self.context()
        tensor = ctypes.c_void_p(self("ggml_new_tensor_2d", weights, ctypes.c_int(kind), size(k), size(n)))
        self("ggml_backend_alloc_ctx_tensors_from_buft", weights, buffer_type)
        codes = self.quantized(kind, w)
        self("ggml_backend_tensor_set", tensor, codes.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(0), ctypes.c_size_t(codes.nbytes), result=None)
        x = ctypes.c_void_p(self("ggml_new_tensor_2d", work, ctypes.c_int(self.F32), size(k), size(m)))
        y = ctypes.c_void_p(self("ggml_mul_mat", work, tensor, x))
        graph = ctypes.c_void_p(self("ggml_new_graph", work))
        self("ggml_build_forward_expand", graph, y, result=None)
        self("ggml_backend_alloc_ctx_tensors_from_buft", work, ctypes.c_void_p(self("ggml_backend_cpu_buffer_type")))
        values = np.random.randn(m, k).astype(np.float32)
        self("ggml_backend_tensor_set", x, values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(0), ctypes.c_size_t(values.nbytes), result=None)
        backend = ctypes.c_void_p(self("ggml_backend_cpu_init"))
        self("ggml_backend_cpu_set_n_threads", backend, ctypes.c_int(threads), result=None)

        def run():
            if self("ggml_backend_graph_compute", backend, graph, result=ctypes.c_int) != 0:
                raise RuntimeError("ggml refused the product")

        return run


def ggml_linears(shape, threads):
    root = os.environ.get("MEZZOTINT_PEERS")
    if not root:
        return
    ggml = Ggml(root)
    w = (np.random.randn(shape["n"], shape["k"]) * 0.02).astype(np.float32)
    plain, repacking = ctypes.c_void_p(ggml("ggml_backend_cpu_buffer_type")), ggml.repacking_type()
    for name, kind in Ggml.TYPES.items():
        yield Call("ggml", name, ggml.matmul(kind, shape, w, threads, plain))
        if repacking and name in Ggml.REPACKED:
            yield Call("ggml", name + "_repacked", ggml.matmul(kind, shape, w, threads, repacking))


# --- measuring -------------------------------------------------------------------------------------


def take_sample(call, threads):
    # Of the whole process: a peer may compute on a worker while its caller waits.
    wall, cpu, calls, passed = time.perf_counter(), time.process_time(), 0, 0.0
    while passed < SAMPLE_SECONDS:
        call.run()
        calls += 1
        passed = time.perf_counter() - wall
    call.samples.append((time.process_time() - cpu if threads == 1 else passed) / calls)


def measure(calls, threads, passes):
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


def case_json(shape, call, threads):
    factor = {"linear": 2, "attention": 4, "flux": 0}[shape["op"]]  # of the blocks: time alone
    return {
        "engine": call.engine, "path": call.path, "part": call.part, "kernel": call.engine, "set": shape["set"],
        "m": shape["m"], "n": shape["n"], "k": shape["k"], "threads": threads, "cold": False,
        "operations": factor * shape["m"] * shape["n"] * shape["k"],
        "seconds": statistics.median(call.samples), "best_seconds": min(call.samples), "samples": call.samples,
    }  # fmt: skip


FLUX_BLOCKS = {"op": "flux", "set": "flux_blocks", "m": 1536, "n": 3072, "k": 3072}


def peers_of(shape, threads, options):
    makers = {"torch": lambda: torch_linears(shape), "ort": lambda: ort_linears(shape, threads),
              "openvino": lambda: openvino_linears(shape, threads), "ggml": lambda: ggml_linears(shape, threads)}  # fmt: skip
    if shape["op"] == "flux":
        makers = {"torch": torch_flux_blocks}
    if shape["op"] == "attention":
        makers = {"torch": lambda: torch_attentions(shape)}
    for engine in options.engine:
        if engine not in makers:
            continue
        try:
            yield from (c for c in makers[engine]() if not options.path or c.path in options.path)
        except ImportError as error:
            print(f"skipped {engine}: {error}", file=sys.stderr)


def run_ours(options, threads, paths, arguments):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([options.bench, *arguments, "--threads", str(threads), "--path", ",".join(paths),
                        "--passes", str(options.passes), "--json", folder + "/one.json"],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        return json.loads((pathlib.Path(folder) / "one.json").read_text())["cases"]


def ours(shape, threads, options, paths):
    """The cases of our own program on the same shape."""
    if shape["op"] == "flux":
        return run_ours(options, threads, paths, ["--flux-blocks"])
    sizes = [shape["m"], shape["n"]] + ([shape["heads"], shape["k"] // shape["heads"]] if "heads" in shape else [shape["k"]])
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "one.txt").write_text(
            f"model one\n{shape['op']} {' '.join(map(str, sizes))} 1 {shape['set']}\n")
        return run_ours(options, threads, paths, ["--shapes", folder + "/one.txt"])


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def print_table(cases):
    """Per set, path, peer and threads: how many times faster ours is, geometric mean over the shapes."""
    key = lambda c: (c["m"], c["n"], c["k"], c["threads"])  # noqa: E731
    own = {(c["path"], *key(c)): c["seconds"] for c in cases if c["engine"] == "mezzotint" and c["part"] == "whole"}
    ratios = {}
    for case in (c for c in cases if c["engine"] != "mezzotint"):
        name = f"{case['engine']}.{case['path']}" + (" gemm" if case["part"] == "gemm" else "")
        for path in OURS[case["path"]]:
            seconds = own.get((path, *key(case)))
            if seconds is not None:
                ratios.setdefault((case["set"], path, name, case["threads"]), []).append(case["seconds"] / seconds)
    for (which, path, name, threads), values in ratios.items():
        print(f"{which:6} {threads} thr  {path:14} {geometric_mean(values):6.2f} times faster than {name} (least {min(values):.2f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commas = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("--shapes", default=ROOT / "bench" / "shapes" / "bars.txt")
    parser.add_argument("--engine", type=commas, default=["torch", "ort", "openvino", "ggml"])
    parser.add_argument("--path", type=commas, default=[])
    parser.add_argument("--set", type=commas, default=["big", "hot", "s1024", "s4608"])
    parser.add_argument("--threads", type=commas, default=["1", "2"])
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--shapes-at-most", type=int, default=100, help="of each set, the first ones")
    parser.add_argument("--flux-blocks", action="store_true", help="a double and a single block of FLUX.1 in diffusers")
    parser.add_argument("--bench", help="our program, for figures of the same minute")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()

    cases, taken = [], {}
    for shape in [FLUX_BLOCKS] if options.flux_blocks else read_shapes(options.shapes):
        taken[shape["set"]] = taken.get(shape["set"], 0) + 1
        if shape["set"] not in [*options.set, "flux_blocks"] or taken[shape["set"]] > options.shapes_at_most:
            continue
        for threads in map(int, options.threads):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                calls = list(peers_of(shape, threads, options))
                measure(calls, threads, options.passes)
            cases += [case_json(shape, call, threads) for call in calls]
            for case in cases[len(cases) - len(calls):]:
                print(f"{case['set']:6} {case['m']}x{case['n']}x{case['k']} {threads} thr  {case['engine']}.{case['path']:9} "
                      f"{case['part']:6} {case['seconds'] * 1e3:9.2f} ms {case['operations'] / case['seconds'] / 1e9:7.1f} GOPS", flush=True)
            if options.bench and calls:
                cases += ours(shape, threads, options, sorted({path for call in calls for path in OURS[call.path]}))
    print_table(cases)
    versions = {"torch": torch.__version__}
    document = {"mezzotint_bench": 1, "command": " ".join(sys.argv), "processor": processor(), "versions": versions, "cases": cases}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
