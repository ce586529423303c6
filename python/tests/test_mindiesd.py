"""mezzotint.mindiesd: the upstream document's own snippets, names, exceptions, attributes."""

import copy
import pickle
import shutil
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from upstream_models import LINEAR_FOLDERS, UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import mindiesd
from mezzotint.mindiesd import npu
from mezzotint.mindiesd.layers.quant.block_quant import fa_block_quant_preprocess
from mezzotint.mindiesd.quantization import LayerQuantConfig, QuantConfig, layer as layers
from mezzotint.mindiesd.quantization.mode import QuantAlgorithm, QuantMode, QuantModeDescriptor
from mezzotint.mindiesd.quantization.utils import get_quant_weight, replace_rank_suffix
from mezzotint.mindiesd.utils import ConfigError, ModelInitError, ParametersInvalid

# --- the document ------------------------------------------------------------------------------------

# Verbatim; from_pretrain(), timesteps and the arguments that it leaves open are the test's.
IMPORT = """\
from mindiesd import quantize
"""
BASIC = """\
model = from_pretrain()
model = quantize(model, "quant_model_description_w8a16_0.json")
model.to("npu")
"""
TIMESTEP = """\
from mindiesd import TimestepManager
model = quantize(model, "quant_model_description_w8a8_timestep_0.json",
timestep_policy=TimestepPolicyConfig(...))
for i, t in enumerate(timesteps):
    TimestepManager.set_timestep_idx(i)
    ...
"""
FA = """\
from mindiesd import quantize
# Load original floating-point model
model = from_pretrain()
# Execute quantization conversion (automatically identifies Attention layers and injects FA quantization)
model = quantize(model, "path/to/exported/quantization/config")
# Move model to NPU and run inference
model.to("npu")
"""

PREPARE = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import mezzotint
mezzotint.install_as("mindiesd")
"""


@pytest.fixture
def with_rank_suffix(tmp_path):
    """A folder of upstream's exporter under the names of the document."""

    def make(folder, algorithm):
        weights = next((UPSTREAM / folder).glob("quant_model_weight*.safetensors"))
        descriptor = next((UPSTREAM / folder).glob("quant_model_description*.json"))
        shutil.copy(weights, tmp_path / f"quant_model_weight_{algorithm}_0.safetensors")
        shutil.copy(descriptor, tmp_path / f"quant_model_description_{algorithm}_0.json")
        return tmp_path

    return make


def run_script(folder, *parts):
    script = "".join(textwrap.dedent(part) for part in (PREPARE, *parts))
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_basic_snippet(with_rank_suffix):
    folder = with_rank_suffix("w8a16_ascend", "w8a16")
    prepare = """
    from upstream_models import float_model, input_of
    def from_pretrain(): return float_model("tiny")
    """
    check = """
    print("sum", model(input_of(64)).sum().item())
    """
    done = run_script(folder, prepare, IMPORT, BASIC, check)
    expected = mezzotint.quantize(float_model("tiny"), UPSTREAM / "w8a16_ascend")
    assert f"sum {expected(input_of(64)).sum().item()}" in done.stdout
    assert done.stderr.count("stays on device cpu") == 1


def test_the_timestep_snippet(with_rank_suffix):
    folder = with_rank_suffix("old_w8a8_timestep", "w8a8_timestep")
    prepare = """
    from upstream_models import float_model, input_of
    import mindiesd
    def TimestepPolicyConfig(_): # the document leaves the arguments open
        policy = mindiesd.TimestepPolicyConfig()
        policy.register(range(2, 4), "static")
        return policy
    model = float_model("tiny")
    timesteps = range(4)
    """
    snippet = TIMESTEP.replace("    ...\n", '    print("sum", model(input_of(64)).sum().item())\n')
    done = run_script(folder, prepare, IMPORT, snippet)
    policy = mezzotint.TimestepPolicyConfig(static=range(2, 4))
    model = mezzotint.quantize(
        float_model("tiny"), UPSTREAM / "old_w8a8_timestep", timestep_policy=policy
    )
    sums = []
    for step in range(4):
        with mezzotint.TimestepManager.step(step):
            sums.append(f"sum {model(input_of(64)).sum().item()}")
    assert done.stdout.splitlines()[1:] == sums
    assert len(set(sums)) == 3


def test_the_snippet_of_attention_with_linears_only(tmp_path):
    """Its path is a folder; attention itself is tested in test_attention.py."""
    shutil.copytree(UPSTREAM / "w8a8_dynamic", tmp_path / "path/to/exported/quantization/config")
    prepare = """
    from upstream_models import float_model
    def from_pretrain(): return float_model("tiny")
    """
    done = run_script(tmp_path, prepare, FA)
    assert "4 quantized" in done.stdout


# --- install_as --------------------------------------------------------------------------------------


def test_install_as_gives_every_module_of_upstreams_layout():
    code = """
    import mindiesd, mindiesd.quantization.quantize, mindiesd.quantization.config
    import mindiesd.quantization.mode, mindiesd.quantization.layer, mindiesd.quantization.utils
    from mindiesd.layers.quant.block_quant import fa_block_quant_preprocess
    from mindiesd.utils import ParametersInvalid, ConfigError, TorchError, ModelInitError, ModelExecError
    from mindiesd.utils.exception import ParametersInvalid as again
    from mindiesd.quantization import quantize
    from mindiesd.quantization.quantize import quantize as same
    assert again is ParametersInvalid and quantize is same and callable(quantize)
    assert mindiesd.__name__ == "mezzotint.mindiesd"
    """
    run_script(None, code)


def test_install_as_refuses_to_replace_what_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "mindiesd_there", pytest)
    with pytest.raises(ImportError, match="mindiesd_there is imported already, from .*pytest"):
        mezzotint.install_as("mindiesd_there")


# --- .to("npu") --------------------------------------------------------------------------------------


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(npu, "_warned", False)
    return mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "w8a8_dynamic"))


@pytest.mark.parametrize(
    "send",
    [
        lambda m: m.to("npu"),
        lambda m: m.to("npu:1"),
        lambda m: m.to(device="npu"),
        lambda m: m.npu(),
        lambda m: m.npu(0),
        lambda m: copy.deepcopy(m).to("npu"),
        lambda m: pickle.loads(pickle.dumps(m)).npu(),
        lambda m: mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "w8a8_dynamic")).to("npu"),
    ],
)
def test_npu_is_the_cpu_with_one_warning(model, send):
    expected = model(input_of(64))
    with pytest.warns(UserWarning, match="stays on device cpu"):
        sent = send(model)
    assert torch.equal(sent(input_of(64)), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        send(model)  # said once


def test_the_dtype_beside_npu_counts(model):
    with pytest.warns(UserWarning):
        model.to("npu", torch.bfloat16)
    assert model.head.weight.dtype == torch.bfloat16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.to("cpu") is model
        model.to(torch.float32)
    assert model.head.weight.dtype == torch.float32


def test_torch_npu_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "torch_npu.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    model = mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "w8a8_dynamic"))
    assert not hasattr(model, "npu")


def test_a_model_is_freed_without_the_garbage_collector(model):
    import gc
    import weakref

    gc.disable()
    try:
        other = mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "w8a8_dynamic"))
        packed = weakref.ref(other.blocks[0].to_q.packed)
        del other
        assert packed() is None
    finally:
        gc.enable()


# --- arguments and exceptions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, "x.json"), ParametersInvalid, r"\[MIE06E000001\] Parameters invalid. model"),
        (("tiny", None), ConfigError, r"\[MIE06E000002\] Config parameter err. quant_des_path"),
        (("tiny", 3), ConfigError, "MIE06E000002"),
        (("tiny", "  "), ConfigError, "MIE06E000002"),
        (("tiny", "/nowhere/x.json"), ParametersInvalid, "MIE06E000001.*nowhere"),
    ],
)
def test_exceptions_carry_upstreams_codes(arguments, error, words):
    name, path = arguments
    with pytest.raises(error, match=words) as caught:
        mindiesd.quantize(name and float_model(name), path)
    assert caught.value.message == str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (error, str(caught.value))


@pytest.mark.parametrize(
    "wrong",
    [{"timestep_config": 3}, {"dtype": torch.float64}, {"dtype": "bf16"}, {"map": {1: 2}}, {"foo": 1}],
)
def test_wrong_arguments(wrong):
    with pytest.raises(ParametersInvalid, match="MIE06E000001"):
        mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "w8a8_dynamic"), **wrong)


def test_use_nz_changes_nothing():
    folder = str(UPSTREAM / "w8a8_dynamic")
    model = mindiesd.quantize(float_model("tiny"), folder, use_nz=True)
    expected = mezzotint.quantize(float_model("tiny"), folder)
    assert torch.equal(model(input_of(64)), expected(input_of(64)))


def test_steps():
    manager = mindiesd.TimestepManager
    mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "old_w8a8_timestep"))
    assert manager.get_timestep_idx_max() == 4
    manager.set_timestep_idx(3)
    assert mezzotint.TimestepManager.get_timestep_idx() == 3
    for wrong in (4, 5, "1", -1, True):
        with pytest.raises(ParametersInvalid, match="MIE06E000001"):
            manager.set_timestep_idx(wrong)
    mindiesd.quantize(float_model("tiny"), str(UPSTREAM / "w8a8_dynamic"))
    assert manager.get_timestep_idx_max() is None  # of another model: not ours
    manager.set_timestep_idx(None)


def test_policies():
    policy = mindiesd.TimestepPolicyConfig()
    policy.register(range(3), "static")
    policy.register(1, "dynamic")
    assert [policy.get_strategy(s) for s in range(4)] == ["static", "dynamic", "static", "dynamic"]
    with pytest.raises(TypeError):
        policy.register((1, 2), "static")
    with pytest.raises(ValueError):
        policy.register(1, "fixed")
    with pytest.raises(ParametersInvalid):
        policy.get_strategy("1")


def test_helpers(tmp_path):
    class Weights:
        def keys(self):
            return ["a"]

        def get_tensor(self, key):
            return torch.ones(1)

    assert get_quant_weight(Weights(), "a") == 1
    with pytest.raises(ParametersInvalid, match="Critical parameter missing: b."):
        get_quant_weight(Weights(), "b")
    assert replace_rank_suffix("d/foo.json") == ("d/foo.json", "foo.json", -1)
    with pytest.raises(ConfigError):
        replace_rank_suffix("foo_2024.json")


def test_modes():
    assert QuantAlgorithm("W4A4_MXFP4") is QuantAlgorithm.W4A4_MXFP4_DYNAMIC
    assert str(QuantAlgorithm.W8A8) == "W8A8"
    assert QuantMode.from_quant_algo(QuantAlgorithm.W4A16_AWQ).check_weight_int4_only_with_group()
    assert QuantMode.from_quant_algo(QuantAlgorithm.FP8_DYNAMIC).contains_fa_quantization()
    assert QuantMode.from_quant_algo(QuantAlgorithm.W8A8).to_dict()["use_smooth_quant"]
    assert QuantMode.from_quant_algo(QuantAlgorithm.NO_QUANT).flag == 0
    with pytest.raises(ParametersInvalid):
        QuantMode.from_descriptor(QuantModeDescriptor(quantize_activations=True))


def test_configs():
    config = LayerQuantConfig.parse_from_dict({"quantized_layers": {"a": {"quant_algo": QuantAlgorithm.W8A8}}})
    assert config.quant_algorithms_list == [QuantAlgorithm.W8A8]
    assert config.serialize_to_dict()["quantized_layers"] == {"a": {"quant_algo": "W8A8"}}
    assert config.layer_quantization_mode["a"].contains_activation_and_weight_quant()
    for wrong in ({"quant_algo": "W8A8"}, {"exclude_layers": ["a"]}, {"exclude_layers": (1,)}):
        with pytest.raises(ModelInitError, match="MIE06E000004"):
            QuantConfig(**wrong)


# --- layers ------------------------------------------------------------------------------------------

CLASSES = {
    "old_w4a16_gptq": layers.WeightQuantLinear,
    "w8a16_ascend": layers.WeightQuantLinear,
    "w8a8": layers.W8A8QuantLinear,
    "w8a8_dynamic": layers.W8A8QuantLinear,
    "old_w8a8_timestep": layers.W8A8TimeStepQuantLinear,
    "w8a8_mxfp8": layers.W8A8MXFP8QuantLinear,
    "w4a4_mxfp4": layers.W4A4MXFP4QuantLinear,
    "w4a4_mxfp4_svd": layers.W4A4MXFP4QuantLinear,
    "w4a4_mxfp4_dualscale": layers.W4A4MXFP4DualQuantLinear,
    "w4a4_dynamic_ascend": layers.W4A4QuantLinear,
}


@pytest.mark.parametrize("folder", LINEAR_FOLDERS)
def test_quantize_gives_upstreams_classes_and_our_numbers(folder):
    model = mindiesd.quantize(float_model(folder), str(UPSTREAM / folder))
    ours = mezzotint.quantize(float_model(folder), UPSTREAM / folder)
    quantized = [m for m in model.modules() if isinstance(m, layers._Layer)]
    assert quantized
    if folder in CLASSES:
        assert {type(layer) for layer in quantized} == {CLASSES[folder]}
    x = input_of(1088 if "dualscale" in folder else 64)
    assert torch.equal(model(x), ours(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), ours(x))
    assert torch.equal(model.double().float()(x), ours(x))
    for layer in quantized:
        assert (layer.input_feature, layer.output_feature) == (layer.in_features, layer.out_features)
        assert not isinstance(layer, torch.nn.Linear)


def first_layer(folder, name="to_q"):
    model = mindiesd.quantize(float_model(folder), str(UPSTREAM / folder))
    block = model.blocks[0]
    return getattr(block, name), stored(folder, name)


def stored(folder, name):
    path = next(
        p for p in (UPSTREAM / folder).glob("quant_model_weight*.safetensors")
    )
    with safe_open(path, "pt") as file:
        return {
            key.removeprefix(f"blocks.0.{name}."): file.get_tensor(key)
            for key in file.keys()
            if key.startswith(f"blocks.0.{name}.")
        }


def test_attributes_of_weight_only_layers():
    layer, file = first_layer("w8a16_ascend")
    assert torch.equal(layer.weight, file["weight"].t())
    assert torch.equal(layer.weight_scale, file["weight_scale"].t().float())
    assert layer.bias.shape == (10,) and layer.mul_scale is None
    assert first_layer("w8a16_ascend", "to_k")[0].bias is None
    smooth, file = first_layer("w8a16_smooth_ascend")
    assert torch.equal(smooth.mul_scale, file["div.mul_scale"].float())


def test_attributes_of_int4_layers():
    """[K, N/8] int32: ff_in has N = 34, of which upstream makes nothing."""
    layer, _ = first_layer("old_w4a16_gptq", "ff_in")
    with pytest.raises(ParametersInvalid, match="no multiple of 8"):
        _ = layer.weight
    model = mezzotint.quantize_model(torch.nn.Sequential(torch.nn.Linear(32, 16)), algo="w4a16")
    tensors = model[0].file_tensors()

    class Weights:
        def keys(self):
            return [f"x.{name}" for name in tensors]

        def get_tensor(self, key):
            return tensors[key.removeprefix("x.")]

    layer = layers.WeightQuantLinear(32, 16, True, Weights(), "x", is_w4=True)
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(4))
    assert torch.equal(layer(x), model[0](x))
    packed = tensors["weight"]
    codes = torch.stack((packed << 4 >> 4 & 15, packed >> 4), 2).reshape(16, 32).int()
    words = layer.weight
    assert words.shape == (32, 2) and words.dtype == torch.int32
    for n in range(16):
        assert torch.equal(words[:, n // 8] >> 4 * (n % 8) & 15, codes[n])


def test_attributes_of_static_layers():
    layer, file = first_layer("w8a8")
    assert layer.is_dynamic is False
    assert torch.equal(layer.weight, file["weight"])
    assert torch.equal(layer.quant_bias, file["quant_bias"])
    assert torch.equal(layer.deq_scale, file["deq_scale"])
    assert torch.equal(layer.input_scale, file["input_scale"].expand(64))
    assert torch.equal(layer.input_offset, file["input_offset"].to(torch.int8).expand(64))
    assert first_layer("w8a8_ascend_i64")[0].deq_scale.dtype == torch.int64


def test_attributes_of_dynamic_layers():
    layer, file = first_layer("w8a8_dynamic")
    assert layer.is_dynamic is True
    assert torch.equal(layer.weight, file["weight"].t())
    assert torch.equal(layer.weight_scale, file["weight_scale"].squeeze())


def test_attributes_of_timestep_layers():
    layer, file = first_layer("old_w8a8_timestep")
    assert torch.equal(layer.weight, file["weight"])
    assert torch.equal(layer.weight_scale, file["weight_scale"].squeeze().float())
    assert layer.input_scale.shape == layer.input_offset.shape == (4, 64)
    assert torch.equal(layer.quant_bias, file["quant_bias"])
    assert layer.deq_scale.shape == (4, 10)
    assert layer.timestep_config.text() == "dynamic"


def test_attributes_of_mx_layers():
    layer, file = first_layer("w8a8_mxfp8", "ff_out")  # K = 34: two blocks
    assert torch.equal(layer.weight.view(torch.uint8), file["weight"].view(torch.uint8))
    assert torch.equal(layer.weight_scale, file["weight_scale"].reshape(7, 1, 2))
    layer, file = first_layer("w4a4_mxfp4")
    assert torch.equal(layer.weight, file["weight"])
    assert layer.weight_scale.shape == (10, 1, 2)
    layer, file = first_layer("w4a4_mxfp4_dualscale", "wide")
    assert layer.weight_scale.shape == (3, 17, 2)
    assert torch.equal(layer.weight_dual_scale, file["weight_dual_scale"].squeeze(-1).t())


def test_attributes_of_int4_activation_layers():
    layer, file = first_layer("w4a4_dynamic_ascend")
    words = layer.weight
    assert words.shape == (8, 10) and words.dtype == torch.int32
    for k in range(64):
        assert torch.equal(words[k // 8] >> 4 * (k % 8) & 15, file["weight"][:, k].int() & 15)
    assert torch.equal(layer.weight_scale, file["weight_scale"].squeeze().float())


@pytest.mark.parametrize("folder", ["w8a8", "w8a8_dynamic", "w8a8_mxfp8", "w4a4_mxfp4_dualscale"])
def test_layers_can_be_constructed_as_upstream_does(folder):
    name, k, n = ("wide", 1088, 3) if "dual" in folder else ("to_q", 64, 10)
    layer, _ = first_layer(folder, name)
    path = next((UPSTREAM / folder).glob("quant_model_weight*.safetensors"))
    with safe_open(path, "pt") as weights:
        again = type(layer)(
            k, n, True, weights, f"blocks.0.{name}", is_dynamic=folder.endswith("dynamic")
        )
        with pytest.raises(ParametersInvalid, match="Critical parameter missing: blocks.9.x.weight."):
            type(layer)(k, n, True, weights, "blocks.9.x")
    x = input_of(k)
    assert torch.equal(again(x), layer(x))


# --- block quantization ------------------------------------------------------------------------------


def test_blocks_of_attention_inputs():
    x = torch.randn(1, 2, 300, 160, generator=torch.Generator().manual_seed(5))
    x[0, 0, :128, :128] = x[0, 0, :128, :128].clamp(-1, 1) * 448
    x[0, 0, 0, 0] = 448
    codes, scales = fa_block_quant_preprocess(x, block_size=128)
    assert codes.dtype == torch.float8_e4m3fn and codes.shape == x.shape
    assert scales.shape == (1, 2, 3, 2) and scales[0, 0, 0, 0] == 1
    for row, column in ((0, 0), (128, 128), (256, 0)):
        tile = x[0, 1, row : row + 128, column : column + 128]
        scale = scales[0, 1, row // 128, column // 128]
        assert scale == tile.abs().max() / 448
        expected = (tile / scale).to(torch.float8_e4m3fn)
        found = codes[0, 1, row : row + 128, column : column + 128]
        assert torch.equal(found.float(), expected.float())
    assert fa_block_quant_preprocess(x, block_size=256)[1].shape == (1, 2, 2, 2)


def test_layouts_and_dtypes_of_blocks():
    x = torch.randn(2, 3, 40, 64, generator=torch.Generator().manual_seed(6)).bfloat16()
    codes, scales = fa_block_quant_preprocess(x)
    again, same = fa_block_quant_preprocess(x.transpose(1, 2).contiguous(), layout="BSND")
    assert torch.equal(codes.float(), again.float()) and torch.equal(scales, same)
    with pytest.raises(ValueError, match="BSH"):
        fa_block_quant_preprocess(x, layout="BSH")
    with pytest.raises(ParametersInvalid, match="4 dimensions"):
        fa_block_quant_preprocess(x[0])
