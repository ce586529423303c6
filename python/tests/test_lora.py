"""load_lora(): low-rank branches beside quantized weights."""

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from upstream_models import LINEAR_FOLDERS, UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import QuantLinear, load_lora, quantize, quantize_model, set_lora_scale, unload_lora

RANK = 4
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}  # of rounding


def factors(n, k, rank=RANK, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, k, generator=generator) / k**0.5
    up = torch.randn(n, rank, generator=generator) * 0.3
    return down.to(dtype), up.to(dtype)


def lora_of(model, seed=0, dtype=torch.float32, prefix="", down="lora_A", up="lora_B"):
    """Factors for every linear."""
    state = {}
    for i, (name, module) in enumerate(model.named_modules()):
        if isinstance(module, (nn.Linear, QuantLinear)):
            pair = factors(module.out_features, module.in_features, seed=seed + i, dtype=dtype)
            state[f"{prefix}{name}.{down}.weight"], state[f"{prefix}{name}.{up}.weight"] = pair
    return state


def branch(x, down, up):
    return x.double() @ down.double().T @ up.double().T


def bound(x, y, with_lora, down, up):
    """Sums of k and of rank products in f32, both in any order, and one rounding of either y."""
    k, rank = down.shape[1], down.shape[0]
    products = branch(x.abs(), down.abs(), up.abs())
    sums = (k + rank + 4) * 2.0**-24 * products
    return 1.01 * (sums + (UNIT[x.dtype] + 2.0**-23) * (y.double().abs() + with_lora.double().abs()))


def layers_of(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, (QuantLinear, nn.Linear))}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("folder", LINEAR_FOLDERS)
def test_y_changes_by_the_branch(folder, dtype):
    """Whatever the algorithm, with and without smoothing and a branch of its own."""
    model = quantize(float_model(folder), UPSTREAM / folder)
    inputs = {name: input_of(m.in_features).to(dtype) if isinstance(m, QuantLinear) else None
              for name, m in layers_of(model).items()}  # fmt: skip
    plain = {name: layers_of(model)[name](x) for name, x in inputs.items() if x is not None}
    lora = lora_of(model)
    load_lora(model, {**lora, **{f"{name}.alpha": torch.tensor(2.0) for name in inputs}}, scale=0.75)
    for name, y in plain.items():
        x, layer = inputs[name], layers_of(model)[name]
        down = lora[f"{name}.lora_A.weight"]
        up = lora[f"{name}.lora_B.weight"] * (0.75 * 2.0 / RANK)
        made = layer(x)
        limit = bound(x, y, made, down, up)
        change = made.double() - y.double()
        assert ((change - branch(x, down, up)).abs() <= limit).all(), name
        assert not ((change - branch(x, down, up * 1.1)).abs() <= limit).all()
    unload_lora(model)
    for name, y in plain.items():
        assert torch.equal(layers_of(model)[name](inputs[name]), y)


def test_the_model_is_the_float_model_with_the_lora_merged():
    """W8A16: what remains is the error of the weights."""
    lora = lora_of(float_model("tiny"))
    merged = float_model("tiny")
    with torch.no_grad():
        for name, module in layers_of(merged).items():
            module.weight += lora[f"{name}.lora_B.weight"] @ lora[f"{name}.lora_A.weight"]
    model = quantize_model(float_model("tiny"), algo="w8a16", exclude=["*.to_k"])
    x = input_of(64)
    with torch.no_grad():
        before, exact = model(x), merged(x)
        report = load_lora(model, lora)
        after = model(x)
    assert len(report.matched) == 5 and not report.unmatched  # to_k and head are float linears
    assert (after - exact).norm() < 0.02 * exact.norm() < 0.2 * (before - exact).norm()
    assert not [key for key in model.state_dict() if "adapter" in key]


def test_several_stack_and_are_removed_in_any_order():
    model = quantize_model(float_model("tiny"), algo="w8a8_dynamic")
    x = input_of(64)
    layer, plain = model.blocks[0].to_q, model.blocks[0].to_q(x)
    a, b = lora_of(model, 1), lora_of(model, 100)
    load_lora(model, a, name="a", scale=0.5)
    only_a = layer(x)
    load_lora(model, b, name="b")
    both = layer(x)
    pairs = [
        (lora["blocks.0.to_q.lora_A.weight"], lora["blocks.0.to_q.lora_B.weight"] * s)
        for lora, s in ((a, 0.5), (b, 1.0))
    ]
    down, up = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs], 1)
    limit = bound(x, plain, both, down, up)
    assert ((both - plain - sum(branch(x, *p) for p in pairs)).abs() <= limit).all()
    assert "LoRA a b" in repr(layer)
    set_lora_scale(model, "b", 0.0)
    assert torch.equal(layer(x), only_a)
    set_lora_scale(model, "b", 1.0)
    assert torch.equal(layer(x), both)
    load_lora(model, b, name="b", scale=0.0)  # in place of the other
    assert torch.equal(layer(x), only_a)
    unload_lora(model, "b")
    unload_lora(model, "a")
    assert torch.equal(layer(x), plain) and "LoRA" not in repr(model)
    with pytest.raises(ValueError, match=r"a LoRA of the model \(none\), got 'a'"):
        unload_lora(model, "a")
    assert not model.blocks[0].to_k._forward_hooks


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_it(copied):
    model = quantize_model(float_model("tiny"), algo="w8a16", exclude=["head"])
    x = input_of(64)
    load_lora(model, lora_of(model), name="a")
    expected = model(x)
    again = copied(model)
    assert torch.equal(again(x), expected)
    unload_lora(again)
    assert torch.equal(model(x), expected) and not torch.equal(again(x), expected)
    model.load_state_dict(model.state_dict())  # packs the weights again
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("offload_first", [False, True])
@pytest.mark.parametrize("offload_buffers", [False, True])
def test_the_same_with_and_without_offload(offload_first, offload_buffers):
    from accelerate import cpu_offload

    x, lora = input_of(64), lora_of(float_model("tiny"))
    expected = quantize_model(float_model("tiny"), algo="w8a8_dynamic")
    load_lora(expected, lora)
    model = quantize_model(float_model("tiny"), algo="w8a8_dynamic")
    if not offload_first:
        load_lora(model, lora)
    cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=offload_buffers)
    if offload_first:
        load_lora(model, lora)
    for _ in range(2):
        assert torch.equal(model(x), expected(x))


def test_a_folder_with_lora_is_not_written(tmp_path):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    load_lora(model, lora_of(model), name="style")
    with pytest.raises(ValueError, match="LoRA style, which a quantized folder does not hold"):
        mezzotint.save(model, tmp_path / "out")


# --- keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "down", "up"),
    [
        ("", "lora_A", "lora_B"),
        ("transformer.", "lora_A", "lora_B"),
        ("transformer.", "lora.down", "lora.up"),
        ("base_model.model.", "lora_A.default", "lora_B.default"),
        ("base_model.model.transformer.", "lora_A", "lora_B"),
        ("diffusion_model.", "lora_down", "lora_up"),
    ],
)
def test_keys_of_diffusers_and_peft(prefix, down, up):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    lora = lora_of(model, prefix=prefix, down=down, up=up)
    report = load_lora(model, lora)
    assert set(report.matched) == set(layers_of(model)) and not report.unmatched
    assert report.matched["blocks.0.to_q"] == [
        f"{prefix}blocks.0.to_q.{part}.weight" for part in (down, up)
    ]


def test_keys_of_kohya_with_alpha_and_a_text_encoder(tmp_path):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    lora = {}
    for name, layer in layers_of(model).items():
        key = "lora_unet_" + name.replace(".", "_")
        lora[key + ".lora_down.weight"], lora[key + ".lora_up.weight"] = factors(
            layer.out_features, layer.in_features, dtype=torch.float16
        )
        lora[key + ".alpha"] = torch.tensor(1.0)
    lora["lora_te1_text_model_fc1.lora_down.weight"] = torch.ones(4, 8)
    save_file(lora, tmp_path / "style.safetensors")
    report = load_lora(model, tmp_path / "style.safetensors")
    assert set(report.matched) == set(layers_of(model))
    assert report.unmatched == {"lora_te1_text_model_fc1.lora_down.weight": "of a text encoder"}
    adapter = model.blocks[0].to_q.adapters["style"]
    assert adapter.strength == 1 / RANK and adapter.down.dtype == torch.float16


def test_the_configuration_of_peft(tmp_path):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    save_file(lora_of(model, prefix="base_model.model."), tmp_path / "adapter_model.safetensors")
    config = {"r": RANK, "lora_alpha": 8, "alpha_pattern": {"to_q": 2}, "use_rslora": False}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    load_lora(model, tmp_path, name="a")
    assert model.blocks[0].to_q.adapters["a"].strength == 2 / RANK
    assert model.blocks[0].ff_in.adapters["a"].strength == 8 / RANK
    metadata = {"transformer.r": RANK, "transformer.lora_alpha": 6, "transformer.use_rslora": True}
    save_file(
        lora_of(model, prefix="transformer."), tmp_path / "one.safetensors",
        {"lora_adapter_metadata": json.dumps(metadata)},
    )  # fmt: skip
    load_lora(model, tmp_path / "one.safetensors")
    assert model.blocks[0].to_q.adapters["one"].strength == 6 / RANK**0.5


@pytest.fixture(scope="module")
def flux():
    from pipelines import tiny_flux

    return quantize_model(tiny_flux(), algo="w8a8_dynamic")


ORIGINAL = {  # of FLUX.1: rows, columns
    "double_blocks_0_img_attn_qkv": (192, 64),
    "double_blocks_0_txt_attn_proj": (64, 64),
    "double_blocks_0_img_mlp_0": (256, 64),
    "double_blocks_0_txt_mod_lin": (384, 64),
    "single_blocks_0_linear1": (448, 64),
    "single_blocks_0_linear2": (64, 320),
    "single_blocks_0_modulation_lin": (192, 64),
}


def original_lora():
    lora = {}
    for i, (name, shape) in enumerate(ORIGINAL.items()):
        lora[f"lora_unet_{name}.lora_down.weight"], lora[f"lora_unet_{name}.lora_up.weight"] = factors(
            *shape, seed=i
        )
        lora[f"lora_unet_{name}.alpha"] = torch.tensor(RANK / 2)
    return lora


def test_fused_linears_of_the_original_flux_are_divided(flux):
    lora = original_lora()
    report = load_lora(flux, lora, name="a")
    assert len(report.matched) == 3 + 1 + 1 + 1 + 4 + 1 + 1 and not report.unmatched
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    single = flux.single_transformer_blocks[0]
    parts = [single.attn.to_q, single.attn.to_k, single.attn.to_v, single.proj_mlp]
    with_lora = torch.cat([part(x) for part in parts], -1)
    unload_lora(flux)
    plain = torch.cat([part(x) for part in parts], -1)
    down = lora["lora_unet_single_blocks_0_linear1.lora_down.weight"]
    up = lora["lora_unet_single_blocks_0_linear1.lora_up.weight"] / 2  # alpha / rank
    limit = bound(x, plain, with_lora, down, up)
    assert ((with_lora - plain - branch(x, down, up)).abs() <= limit).all()


def test_the_same_as_diffusers_own_conversion(flux):
    """Its loader knows many more writers of files; what it makes is taken as it is. (It divides linear1
    of FLUX.1's own width only.)"""
    pytest.importorskip("transformers", reason="diffusers' pipelines need it")
    from diffusers import FluxPipeline

    lora = {key: tensor for key, tensor in original_lora().items() if "linear1" not in key}
    ours = load_lora(flux, lora, name="ours")
    kept = {name: layer.adapters["ours"] for name, layer in layers_of(flux).items()
            if getattr(layer, "adapters", {})}  # fmt: skip
    unload_lora(flux)
    theirs = load_lora(flux, FluxPipeline.lora_state_dict(dict(lora)), name="theirs")
    assert set(theirs.matched) == set(ours.matched)
    for name, adapter in kept.items():
        other = layers_of(flux)[name].adapters["theirs"]
        a = adapter.up.double() @ adapter.down.double() * adapter.strength
        b = other.up.double() @ other.down.double() * other.strength
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9), name
    unload_lora(flux)


def test_keys_that_do_not_fit(flux):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    x = input_of(64)
    before, lora = model(x), lora_of(model)
    q = "blocks.0.to_q.lora_"
    wrong = [
        ({q + "A.weight": torch.ones(4, 63)}, r"blocks.0.to_q: expected \[rank, 64\] and \[10, rank\].*63\]"),
        ({q + "B.weight": torch.ones(10, 5)}, r"got \[4, 64\] and \[10, 5\]"),
        ({q + "A.weight": torch.full((4, 64), float("nan"))}, "hold inf or nan"),
        ({"blocks.0.to_w.lora_A.weight": torch.ones(4, 64)}, r"factor up \(lora_B\) is missing"),
        (dict.fromkeys(("blocks.0.to_w.lora_A.weight", "blocks.0.to_w.lora_B.weight"), torch.ones(4, 4)),
         "the model has no such linear; did you mean blocks.0.to_"),
        ({"blocks.0.to_q.dora_scale": torch.ones(10)}, "DoRA, LoHa, LoKr and biases are not served"),
    ]  # fmt: skip
    for changed, text in wrong:
        with pytest.raises(ValueError, match=text):
            load_lora(model, {**lora, **changed})
        assert torch.equal(model(x), before)  # nothing was changed
    report = load_lora(model, {**lora, **wrong[-1][0]}, strict=False)
    assert list(report.unmatched) == ["blocks.0.to_q.dora_scale"]
    with pytest.raises(ValueError, match="no key belongs to a linear of the model"):
        load_lora(flux, lora, strict=False)
    with pytest.raises(TypeError, match="expected a path or a state_dict, got int"):
        load_lora(model, 3)


def test_a_model_with_fused_projections_says_so():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.Module()
            self.attn.to_qkv = nn.Linear(64, 192)

    model = quantize_model(Fused(), algo="w8a16")
    lora = dict(zip(("attn.to_q.lora_A.weight", "attn.to_q.lora_B.weight"), factors(64, 64), strict=True))
    with pytest.raises(ValueError, match=r"fused projections, attn.to_qkv: call unfuse_qkv_projections"):
        load_lora(model, lora)


def test_broken_files(tmp_path):
    model = quantize_model(float_model("tiny"), algo="w8a16")
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x04]q\x00.")
    with pytest.raises(mezzotint.Error, match="x.safetensors"):
        load_lora(model, tmp_path / "x.safetensors")
    with pytest.raises(mezzotint.Error, match="no.safetensors"):
        load_lora(model, tmp_path / "no.safetensors")
    (tmp_path / "y.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="expected one .safetensors file .* got x.safetensors, y.safe"):
        load_lora(model, tmp_path)


# --- peft --------------------------------------------------------------------------------------------


def test_peft_puts_its_own_lora_beside_quantized_layers():
    peft = pytest.importorskip("peft")
    ours = quantize_model(float_model("tiny"), algo="w8a16")
    x = input_of(64)
    plain, lora = ours(x), lora_of(ours)
    load_lora(ours, lora, scale=1.5)
    config = mezzotint.register_peft(
        peft.LoraConfig(r=RANK, lora_alpha=RANK * 1.5, target_modules=list(layers_of(ours)))
    )
    model = peft.get_peft_model(quantize_model(float_model("tiny"), algo="w8a16"), config)
    named = {f"base_model.model.{key.removesuffix('.weight')}.default.weight": t for key, t in lora.items()}
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert not unexpected and not [key for key in missing if "lora" in key]
    with torch.no_grad():
        assert torch.allclose(model(x), ours(x), rtol=1e-4, atol=1e-5)
        with model.disable_adapter():
            assert torch.equal(model(x), plain)
    with pytest.raises(RuntimeError, match="is quantized: LoRA stays beside its weight"):
        model.merge_adapter()
