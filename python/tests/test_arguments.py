"""What quantize() and quantize_model() accept and refuse, with the words a user sees."""

import inspect
import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from upstream_models import UPSTREAM, TinyModel, float_model, input_of

import mezzotint
from mezzotint import QuantLinear, TimestepPolicyConfig, quantize, quantize_model

FOLDER = UPSTREAM / "w8a8_dynamic"
DESCRIPTOR = FOLDER / "quant_model_description_w8a8_dynamic.json"


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "w8a8")


def outputs(model):
    return model(input_of(64))


# --- the path ----------------------------------------------------------------------------------------


def test_a_folder_a_descriptor_and_both_names_are_the_same():
    expected = outputs(quantize(float_model("tiny"), FOLDER))
    for arguments in (
        {"quant_json_path": str(DESCRIPTOR)},
        {"quant_des_path": DESCRIPTOR},
        {"quant_des_path": str(FOLDER)},
        {"quant_json_path": FOLDER, "quant_des_path": FOLDER},
    ):
        assert torch.equal(outputs(quantize(float_model("tiny"), **arguments)), expected)


def test_two_different_values_of_one_argument_are_refused():
    with pytest.raises(TypeError, match="quant_json_path and quant_des_path are two names of one"):
        quantize(float_model("tiny"), FOLDER, quant_des_path=DESCRIPTOR)
    policies = TimestepPolicyConfig("static"), TimestepPolicyConfig("dynamic")
    with pytest.raises(TypeError, match="timestep_policy and timestep_config are two names"):
        quantize(
            float_model("tiny"), FOLDER, timestep_policy=policies[0], timestep_config=policies[1]
        )


def test_timestep_config_is_the_policy():
    folder = UPSTREAM / "old_w8a8_timestep"
    layer = quantize(
        float_model("tiny"), folder, timestep_config=TimestepPolicyConfig("static")
    ).blocks[0].to_q
    assert layer.timestep_policy.text() == "static"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("timestep_polcy", "timestep_policy"), ("quant_path", "quant_des_path"), ("Strict", "strict")],
)
def test_unknown_keywords_come_with_a_suggestion(name, meant):
    with pytest.raises(TypeError, match=rf"no argument '{name}'; did you mean {meant}\?"):
        quantize(float_model("tiny"), FOLDER, **{name: 1})


def test_rank_zero_on_one_process_just_works(copied):
    for path in list(copied.glob("quant_model_*")):
        path.rename(path.with_stem(path.stem + "_0"))
    expected = outputs(quantize(float_model("tiny"), FOLDER))
    descriptor = copied / "quant_model_description_w8a8_dynamic_0.json"
    assert torch.equal(outputs(quantize(float_model("tiny"), descriptor)), expected)
    assert torch.equal(outputs(quantize(float_model("tiny"), copied)), expected)


# --- models ------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A linear of a user's own: another layout, an inner Linear that is not the layer."""

    def __init__(self, k, n):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(k, n))
        self.shift = nn.Parameter(torch.randn(n))
        self.inner = nn.Linear(1, 1)

    def forward(self, x):
        return x @ self.matrix + self.shift


def test_map_takes_linears_of_other_classes():
    model = float_model("tiny")
    weight, bias = model.blocks[0].to_q.weight, model.blocks[0].to_q.bias
    model.blocks[0].to_q = own = Scaled(64, 10)
    own.matrix.data, own.shift.data = weight.data.t(), bias.data
    with pytest.raises(mezzotint.Error, match="no linear of the model answers.*blocks.0.to_q"):
        quantize(model, FOLDER)
    assert model.blocks[0].to_q is own
    quantize(model, FOLDER, map={Scaled: lambda m: (m.matrix.t(), m.shift)})
    assert isinstance(model.blocks[0].to_q, QuantLinear)
    assert torch.equal(outputs(model), outputs(quantize(float_model("tiny"), FOLDER)))


def test_map_without_files():
    model = nn.Sequential(Scaled(64, 10))
    exact = model(input_of(64))
    quantize_model(model, algo="w8a16", map={Scaled: lambda m: (m.matrix.t(), m.shift)})
    error = (model(input_of(64)) - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.02


@pytest.mark.parametrize(
    ("map", "words"),
    [
        ({Scaled: lambda m: m.matrix}, r"map\[Scaled\]: expected \(weight .* got a tensor"),
        ({Scaled: lambda m: (m.shift, None)}, r"layer 0, got \(a tensor \[10\], NoneType\)"),
        ({Scaled: nn.Linear(1, 1).weight}, "expected fn"),
        ({"Scaled": lambda m: m}, "expected classes of modules as keys, got 'Scaled'"),
    ],
)
def test_wrong_maps_are_refused(map, words):
    with pytest.raises(TypeError, match=words):
        quantize_model(nn.Sequential(Scaled(64, 10)), algo="w8a16", map=map)


def test_a_model_on_the_meta_device(copied):
    expected = quantize(float_model("tiny"), FOLDER)
    with torch.device("meta"):
        model = TinyModel()
    model.alias = model.blocks[0].norm.weight  # tied parameters stay tied
    quantize(model.eval(), copied)
    assert not any(t.is_meta for t in model.state_dict().values())
    stored = load_file(copied / "quant_model_weight_w8a8_dynamic.safetensors")
    assert torch.equal(model.head.weight, stored["head.weight"])
    assert model.alias is model.blocks[0].norm.weight
    float_dtype = stored["head.weight"].dtype
    assert torch.equal(model(input_of(64).to(float_dtype)), expected.to(float_dtype)(input_of(64).to(float_dtype)))


def test_the_dtype_of_meta_parameters():
    with torch.device("meta"):
        model = TinyModel()
    quantize(model, FOLDER, dtype=torch.bfloat16)
    assert model.head.weight.dtype == torch.bfloat16
    assert model.head.weight.requires_grad


def test_what_is_still_on_the_meta_device_is_named(copied):
    path = copied / "quant_model_weight_w8a8_dynamic.safetensors"
    tensors = load_file(path)
    del tensors["head.bias"]
    save_file(tensors, path)
    with torch.device("meta"):
        model = TinyModel()
        model.register_buffer("frequencies", torch.zeros(3), persistent=False)
    with pytest.raises(RuntimeError, match=r"2 tensors of the model .*: frequencies, head.bias"):
        quantize(model, copied)
    assert isinstance(model.blocks[0].to_q, nn.Linear)
    assert model.head.weight.is_meta


def test_float_parameters_of_another_shape_are_named(copied):
    path = copied / "quant_model_weight_w8a8_dynamic.safetensors"
    tensors = load_file(path)
    tensors["head.bias"] = torch.zeros(6)
    save_file(tensors, path)
    with torch.device("meta"):
        model = TinyModel()
    with pytest.raises(RuntimeError, match=r"head.bias has the wrong shape: expected \[5\], got \[6\]"):
        quantize(model, copied)


# --- without files -----------------------------------------------------------------------------------


def tool(*arguments):
    command = [sys.executable, "-m", "mezzotint", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def quantized_by_the_tool(model, folder, options):
    save_file(model.state_dict(), folder / "model.safetensors")
    tool("quantize", folder / "model.safetensors", "-o", folder / "out", "--preset", "none", *options)
    return quantize(float_model("tiny"), folder / "out")


def test_quantize_model_writes_what_an_export_writes(tmp_path):
    """The same codes and scales as the command line tool, and the same outputs."""
    model = float_model("tiny").float()
    options = ["--algo", "w4a16", "--rule", "*.ff_in=w8a8_dynamic", "--exclude", "*.to_k"]
    from_files = quantized_by_the_tool(model, tmp_path, options)
    in_memory = quantize_model(
        model, algo="w4a16", rules={"*.ff_in": "w8a8_dynamic"}, exclude=["*.to_k"]
    )
    assert torch.equal(outputs(in_memory), outputs(from_files))
    a, b = in_memory.state_dict(), from_files.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name].float(), b[name].float()), name
    algorithms = {row.name: row.algorithm for row in in_memory.mezzotint_report.layers}
    assert algorithms["blocks.0.ff_in"] == "W8A8_DYNAMIC"
    assert algorithms["blocks.0.to_k"] == "FLOAT"
    reasons = {row.name: row.reason for row in in_memory.mezzotint_report.kept}
    assert reasons["head"] == "K = 7 is below 32"
    assert "exclude" in reasons["blocks.0.to_k"]


def test_group_size():
    model = quantize_model(float_model("tiny"), algo="w4a16", group_size=32)
    assert "group=32" in repr(model.blocks[0].to_q)
    note = "W4A16: {} layers have one scale per row, as K is no multiple of the group size"
    assert model.mezzotint_report.notes == [note.format(1)]  # ff_out has K = 34
    model = quantize_model(float_model("tiny"), algo="w4a16", group_size=48)
    assert "group" not in repr(model.blocks[0].to_q)
    assert model.mezzotint_report.notes == [note.format(4)]


def test_svd_rank_is_that_of_the_tool(tmp_path):
    model = float_model("tiny").float()
    from_files = quantized_by_the_tool(
        model, tmp_path, ["--algo", "w4a4_mxfp4_svd", "--svd-rank", "3"]
    )
    in_memory = quantize_model(model, algo="w4a4_mxfp4_svd", svd_rank=3)
    assert torch.equal(outputs(in_memory), outputs(from_files))
    other = quantize_model(float_model("tiny").float(), algo="w4a4_mxfp4_svd", svd_rank=4)
    assert not torch.equal(outputs(other), outputs(from_files))


# Of the tool alone: files, and who does the work.
FILES = {
    "--output", "--recipe", "--component", "--rank", "--world-size", "--max-shard-size", "--max-memory",
    "--dry-run", "--resume", "--force", "--report", "--layers", "--fail-below-sqnr",
}  # fmt: skip
AIMS = {"--target-size", "--min-sqnr", "--choose-from"}  # analyze() has them
OTHER_NAMES = {"--rule": "rules", "--fa": "attention"}


def test_every_option_of_the_tool_that_changes_layers_is_an_argument():
    text = tool("quantize", "--help")
    found = (re.match(r" +(?:-\w,\s*)?(--[\w-]+)", line) for line in text.splitlines())
    options = {match[1] for match in found if match}
    assert {"--svd-rank", "--act-order", "--output"} <= options
    inspect_help = tool("inspect", "--help")
    common = {option for option in options if option in inspect_help}
    changing = options - common - FILES - AIMS
    assert len(changing) > 8
    named = {OTHER_NAMES.get(option, option[2:].replace("-", "_")) for option in changing}
    assert named <= set(inspect.signature(quantize_model).parameters)


def test_a_weight_that_is_no_float_is_refused():
    model = float_model("tiny")
    model.blocks[0].to_k.weight = nn.Parameter(torch.zeros(10, 64, dtype=torch.int8), False)
    with pytest.raises(TypeError, match=r"layer blocks.0.to_k: expected a weight of .*torch.int8"):
        quantize_model(model, algo="w8a16")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({}, TypeError, "give algo=, rules= or attention="),
        ({"algo": "w8a9"}, mezzotint.Error, "unknown algorithm.*w8a9"),
        ({"algo": 8}, TypeError, "algo: expected the name of an algorithm, got 8"),
        ({"algo": "w4a16", "group_size": -1}, ValueError, "group_size: expected a whole number.*-1"),
        ({"algo": "w4a16", "group_size": 1.5}, ValueError, "group_size: .* got 1.5"),
        ({"algo": "w4a4_mxfp4_svd", "svd_rank": 4097}, ValueError,
         "svd_rank: expected a whole number from 1 to 4096, got 4097"),
        ({"algo": "w4a4_mxfp4_svd", "svd_rank": -1}, ValueError, "svd_rank: expected .* got -1"),
        ({"algo": "w8a8_mxfp8", "svd_rank": 16}, mezzotint.Error,
         "no layer has an algorithm with a low-rank branch"),
        ({"rules": ["*.to_q"]}, TypeError, "rules: expected pairs .*got '..to_q'"),
        ({"algo": "w8a8"}, mezzotint.Error, "W8A8 needs statistics"),
        ({"algo": "w8a16", "exclude": "to_x"}, mezzotint.Error, "to_x matches no layer"),
        ({"algo": "w8a16", "rules": [("re:(", "float")]}, mezzotint.Error, "re:"),
    ],
)
def test_wrong_wishes_are_refused(arguments, error, words):
    model = float_model("tiny")
    with pytest.raises(error, match=words):
        quantize_model(model, **arguments)
    assert isinstance(model.blocks[0].to_q, nn.Linear)


def test_there_is_nothing_to_quantize_on_the_meta_device():
    with torch.device("meta"):
        model = TinyModel()
    with pytest.raises(ValueError, match="layer blocks.0.to_q is on the meta device"):
        quantize_model(model, algo="w8a16")


# --- wrong inputs ------------------------------------------------------------------------------------


def changed(folder, change):
    path = folder / DESCRIPTOR.name
    labels = json.loads(path.read_text())
    change(labels)
    path.write_text(json.dumps(labels))
    return folder


WRONG = {
    "a state dict instead of a model": (
        lambda folder: (float_model("tiny").state_dict(), folder),
        TypeError, "model: expected a torch.nn.Module, got OrderedDict",
    ),
    "no path": (
        lambda folder: (float_model("tiny"), ""),
        TypeError, "quant_json_path: expected the path of a descriptor or of its folder, got ''",
    ),
    "a folder that is not there": (
        lambda folder: (float_model("tiny"), folder / "nowhere"),
        mezzotint.Error, "there is no such file or folder",
    ),
    "the weights instead of the descriptor": (
        lambda folder: (float_model("tiny"), folder / "quant_model_weight_w8a8_dynamic.safetensors"),
        mezzotint.Error, "quant_model_weight_w8a8_dynamic.safetensors",
    ),
    "a model of another width": (
        lambda folder: (other_width(), folder),
        mezzotint.Error, "expected [10,32], got [10,64] (layer blocks.0.to_q",
    ),
    "a layer that the model has not": (
        lambda folder: (
            float_model("tiny"), changed(folder, lambda d: d.update({"blocks.1.to_q": "W8A16"}))
        ),
        mezzotint.Error, "no linear of the model answers to an entry of the descriptor",
    ),
    "an unknown algorithm": (
        lambda folder: (
            float_model("tiny"),
            changed(folder, lambda d: d.update({"blocks.0.to_q.weight": "W8A8_DYNAMICS"})),
        ),
        mezzotint.Error, "did you mean",
    ),
    "a bias that the file has not": (
        lambda folder: (with_bias(), folder),
        mezzotint.Error, "bias is missing: expected a bias, as the model's layer has one",
    ),
    "weights of another folder": (
        lambda folder: (float_model("tiny"), without_weights(folder)),
        mezzotint.Error, "weight",
    ),
    "float64 as dtype": (
        lambda folder: (float_model("tiny"), folder, {"dtype": torch.float64}),
        ValueError, "dtype: expected torch.float32, torch.bfloat16, torch.float16 or None, got torch.float64",
    ),
    "an unknown compat": (
        lambda folder: (float_model("tiny"), folder, {"compat": "reference"}),
        ValueError, "compat: expected 'upstream' or None, got 'reference'",
    ),
    "a word as strict": (
        lambda folder: (float_model("tiny"), folder, {"strict": "no"}),
        TypeError, "strict: expected True or False, got 'no'",
    ),
    "a list as map": (
        lambda folder: (float_model("tiny"), folder, {"map": [nn.Linear]}),
        TypeError, "map: expected {class: fn(module) -> (weight, bias)}, got [<class",
    ),
    "a name that is not UTF-8": (
        lambda folder: (float_model("tiny"), "a\udcff"),
        ValueError, "quant_json_path: expected a name in UTF-8",
    ),
    "a function as policy": (
        lambda folder: (float_model("tiny"), folder, {"timestep_policy": len}),
        TypeError, "timestep_policy: expected a TimestepPolicyConfig, got builtin_function_or_method",
    ),
}  # fmt: skip


def other_width():
    model = TinyModel()
    model.blocks[0].to_q = nn.Linear(32, 10)
    return model


def with_bias():
    model = TinyModel()
    model.blocks[0].to_k = nn.Linear(64, 10)
    return model


def without_weights(folder):
    (folder / "quant_model_weight_w8a8_dynamic.safetensors").unlink()
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs(case, copied):
    make, error, words = WRONG[case]
    model, path, *rest = make(copied)
    with pytest.raises(error, match=re.escape(words)) as caught:
        quantize(model, path, **(rest[0] if rest else {}))
    print(f"{case}:\n  {type(caught.value).__name__}: {caught.value}")
    if isinstance(model, nn.Module):
        assert not any(isinstance(m, QuantLinear) for m in model.modules())


def test_lenient_lists_what_strict_refuses(copied):
    changed(copied, lambda d: d.update({"blocks.1.to_q": "W8A16"}))
    model = quantize(float_model("tiny"), copied, strict=False)
    (line,) = model.mezzotint_report.unmatched
    assert "blocks.1.to_q" in line
    assert "1 unmatched" in model.mezzotint_report.summary
