"""The products of a ggml build below MEZZOTINT_PEERS, by its C functions."""

import ctypes
import os
import pathlib

import numpy as np


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


def ggml_products(shape, threads):
    """Yields (name of a form, function); nothing without MEZZOTINT_PEERS."""
    root = os.environ.get("MEZZOTINT_PEERS")
    if not root:
        return
    ggml = Ggml(root)
    w = (np.random.randn(shape["n"], shape["k"]) * 0.02).astype(np.float32)
    plain, repacking = ctypes.c_void_p(ggml("ggml_backend_cpu_buffer_type")), ggml.repacking_type()
    for name, kind in Ggml.TYPES.items():
        yield name, ggml.matmul(kind, shape, w, threads, plain)
        if repacking and name in Ggml.REPACKED:
            yield name + "_repacked", ggml.matmul(kind, shape, w, threads, repacking)
