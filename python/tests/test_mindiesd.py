"""mezzotint.mindiesd: where it is found, its names, arguments and exceptions."""

import copy
import pickle
import shutil
import sys
import warnings

import pytest
import torch
from upstream_models import UPSTREAM, float_model, input_of, run_script

import mezzotint
from mezzotint import mindiesd
from mezzotint.mindiesd import npu
from mezzotint.mindiesd.quantization import LayerQuantConfig, QuantConfig
from mezzotint.mindiesd.quantization.mode import QuantAlgorithm, QuantMode, QuantModeDescriptor
from mezzotint.mindiesd.quantization.utils import get_quant_weight, replace_rank_suffix
from mezzotint.mindiesd.utils import ConfigError, ModelInitError, ParametersInvalid

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


def test_install_as_wants_the_name_of_a_package():
    for name in ("", "a.b"):
        with pytest.raises(ValueError, match="expected the name of a package"):
            mezzotint.install_as(name)


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


def test_what_upstream_lets_through_is_its_exception_too(tmp_path):
    """It raises JSON's own error, and PermissionError beyond 0640, which is ours on request only."""
    folder = shutil.copytree(UPSTREAM / "w8a8_dynamic", tmp_path / "w8a8")
    descriptor = folder / "quant_model_description_w8a8_dynamic.json"
    descriptor.chmod(0o644)
    with pytest.raises(ParametersInvalid, match="MIE06E000001.*0640"):
        mindiesd.quantize(float_model("tiny"), str(folder), compat="upstream")
    descriptor.write_text("{")
    with pytest.raises(ParametersInvalid, match=f"MIE06E000001.*JSON.*{descriptor.name}"):
        mindiesd.quantize(float_model("tiny"), str(folder))


def test_no_log_files(tmp_path):
    """Neither where a model is quantized nor where that fails."""
    code = f"""
    import mindiesd
    from upstream_models import float_model
    mindiesd.quantize(float_model("tiny"), {str(UPSTREAM / "w8a8_dynamic")!r}).to("npu")
    try:
        mindiesd.quantize(float_model("tiny"), "/nowhere")
    except mindiesd.utils.ParametersInvalid:
        print("refused")
    """
    done = run_script(tmp_path, code, HOME=str(tmp_path))
    assert "refused" in done.stdout
    assert list(tmp_path.rglob("*")) == []


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
