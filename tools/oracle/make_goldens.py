"""Writes testdata/oracle: layers with inputs and outputs, and weights with their quantized form.

make_goldens.py           writes the files
make_goldens.py --check   compares with the files, byte for byte, and writes nothing
"""

import pathlib
import sys

import numpy as np

import attention_cases
from attention_oracle import attention_head, float_attention_head
from layer_cases import CASES, layer_tensors
from layer_oracle import linear
from random_tensors import Random, float_tensor, input_rows, rounded_to_bf16
from safetensors_bytes import Tensor, dump
from weight_cases import WEIGHT_CASES, weights

KEPT_ROWS = 64  # codes of every 64th row of q, k and v are kept
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "oracle"


def inputs_of(case):
    x = input_rows(Random("x " + case.name), case.m, case.k)
    if case.zero_row:
        x[-1] = 0
    return {"": x, "_bf16": rounded_to_bf16(x)}


def output_tensors(output, ending):
    named = {"y": output.y, "bound": output.bound, "bound_lowrank": output.bound_lowrank}
    tensors = {
        name + ending: Tensor("F64", array) for name, array in named.items() if array is not None
    }
    x = output.x
    if x.codes is not None:
        tensors["x_codes" + ending] = Tensor("U8" if x.codes.dtype == np.uint8 else "I8", x.codes)
    if x.scale is not None:
        tensors["x_scale" + ending] = Tensor("U8" if x.scale.dtype == np.uint8 else "F32", x.scale)
    if x.dual is not None:
        tensors["x_dual" + ending] = Tensor("F32", x.dual)
    return tensors


def layer_file(case):
    tensors = layer_tensors(case)
    content = dict(tensors)
    for ending, x in inputs_of(case).items():
        content["x" + ending] = float_tensor(x, "BF16" if ending else "F32")
        output = linear(tensors, case.algorithm, case.mode, case.step, case.n, x)
        assert np.isfinite(output.y).all(), case.name
        content.update(output_tensors(output, ending))
    metadata = {
        "algorithm": case.algorithm,
        "case": case.name,
        "activation": case.mode,
        "step": "" if case.step is None else str(case.step),
        "n": str(case.n),
        "k": str(case.k),
    }
    return dump(content, metadata)


def weight_file(case):
    w = weights(case)
    tensors = {"w": Tensor("F32", w)} | case.quantize(w)
    return dump(tensors, {"algorithm": case.algorithm, "case": case.name, "rule": case.rule})


def attention_heads(case):
    """(batch, head, quantized, float) outputs of the chosen rows, and the quantized inputs."""
    q, k, v = attention_cases.inputs_of(case)
    rotation, scale = attention_cases.rotation_of(case), np.float32(case.scale)
    for b, head in np.ndindex(case.batch, case.heads):
        kv = head * case.kv_heads // case.heads
        keys = slice(0, case.kv_length[b])
        one = (q[b, :, head], k[b, keys, kv], v[b, keys, kv])
        y, quantized = attention_head(*one, rotation, scale, case.rows)
        yield y, float_attention_head(*one, scale, case.rows), quantized


def attention_file(case):
    """Outputs [batch,heads,rows,dim]; codes and scales of batch 0, head 0."""
    heads = list(attention_heads(case))
    shape = (case.batch, case.heads, len(case.rows), case.head_dim)
    tensors = {
        "y": Tensor("F64", np.array([y for y, _, _ in heads]).reshape(shape)),
        "y_float": Tensor("F32", np.array([y for _, y, _ in heads], np.float32).reshape(shape)),
        "rows": Tensor("I64", np.array(case.rows)),
        "kv_length": Tensor("I64", np.array(case.kv_length)),
        "scale": Tensor("F32", np.array([case.scale], dtype=np.float32)),
    }
    for name, (codes, scales) in zip("qkv", heads[0][2]):
        tensors[f"{name}_scale"] = Tensor("F32", scales)
        tensors[f"{name}_codes"] = Tensor("F8_E4M3", codes[: case.sq : KEPT_ROWS])
    fields = ("batch", "heads", "kv_heads", "head_dim", "sq", "skv")
    metadata = {name: str(getattr(case, name)) for name in fields}
    rotation = "hadamard" if case.rotated else "identity"
    return dump(
        tensors,
        metadata | {"algorithm": "FP8_DYNAMIC", "case": case.name, "rotation": rotation},
    )


def all_files():
    """Path below FOLDER -> bytes."""
    files = {f"layers/{case.name}.safetensors": layer_file(case) for case in CASES}
    files |= {f"weights/{case.name}.safetensors": weight_file(case) for case in WEIGHT_CASES}
    files |= {
        f"attention/{case.name}.safetensors": attention_file(case) for case in attention_cases.CASES
    }
    return files


def check(files):
    found = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.safetensors")}
    wrong = sorted(found ^ set(files))
    wrong += [
        name for name in sorted(found & set(files)) if (FOLDER / name).read_bytes() != files[name]
    ]
    return wrong


def main():
    files = all_files()
    if "--check" in sys.argv[1:]:
        wrong = check(files)
        print(f"{len(files)} files, {len(wrong)} differ", *wrong, sep="\n  ")
        return 1 if wrong else 0
    for path in FOLDER.rglob("*.safetensors"):
        path.unlink()
    for name, content in files.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
