"""Classes and attributes of layers that mezzotint.mindiesd makes, and its blocks of attention inputs."""

import pickle

import pytest
import torch
from safetensors import safe_open
from upstream_models import LINEAR_FOLDERS, UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import mindiesd
from mezzotint.mindiesd.layers.quant.block_quant import fa_block_quant_preprocess
from mezzotint.mindiesd.quantization import layer as layers
from mezzotint.mindiesd.utils import ParametersInvalid

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
