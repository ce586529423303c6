"""Tests of the demo model's tools: python -m pytest tools/demo_model"""

import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import clf
import dataset
import safetensors_io
import sampling
import train
from tinyflux import FluxConfig, RmsNorm, TinyFlux, apply_rope, rope_tables, time_embedding

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "demo"


def random_model(seed=0):
    """Weights of a size at which every path matters, rounded to bf16."""
    g = torch.Generator().manual_seed(seed)
    model = TinyFlux()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=g)
            size = 0.1 if parameter.dim() == 1 else 1 / math.sqrt(parameter.shape[1])
            parameter.copy_((parameter.dim() == 1) * 0.5 + size * noise)
            parameter.copy_(parameter.bfloat16().float())
    return model.eval()


def random_inputs(batch=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    shapes = ((batch, 64, 64), (batch, 16, 384), (batch, 768))
    x, states, pooled = (torch.randn(shape, generator=g) for shape in shapes)
    return x, states, pooled, torch.tensor([1.0, 0.35])[:batch]


def write_folder(folder, model):
    folder.mkdir()
    config = {"_class_name": "FluxTransformer2DModel"} | dataclasses.asdict(model.config)
    (folder / "config.json").write_text(json.dumps(config))
    state = {n: safetensors_io.to_bfloat16(t.numpy()) for n, t in model.state_dict().items()}
    safetensors_io.write_transformer(folder, state)


def relative_l2(a, b):
    return ((a - b).norm() / b.norm()).item()


def train_tiny(folder, *stops):
    """20 steps of batch 4 in one process state per entry of stops."""
    images, labels = dataset.synthetic_split(64, torch.Generator().manual_seed(1))
    g = torch.Generator().manual_seed(2)
    states, pooled = torch.randn(641, 16, 384, generator=g), torch.randn(641, 768, generator=g)
    for stop in stops:
        args = train.parse_arguments(
            [f"--checkpoints={folder}", "--total-steps=20", "--batch=4", "--warmup=5",
             "--precision=f32", f"--stop-at={stop}"]
        )  # fmt: skip
        trainer = train.Trainer(args, train.TrainingData(images, labels, states, pooled))
        train.resume(trainer, args)
        train.run(trainer, args)
    return trainer


def test_resumed_training_gives_the_same_bytes(tmp_path):
    unbroken = train_tiny(tmp_path / "a", 20)
    resumed = train_tiny(tmp_path / "b", 10, 20)
    assert unbroken.history == resumed.history and len(unbroken.history) == 20
    pairs = [*zip(unbroken.parameters, resumed.parameters), *zip(unbroken.ema, resumed.ema)]
    assert all(torch.equal(a, b) for a, b in pairs)
    other = train_tiny(tmp_path / "c", 19)  # one step less must not pass the same comparison
    assert not all(torch.equal(a, b) for a, b in zip(unbroken.parameters, other.parameters))


def test_learning_rate_warms_up_stays_flat_and_ends_at_zero():
    args = train.parse_arguments(["--total-steps=1000", "--warmup=100", "--learning-rate=1"])
    rates = [train.learning_rate(step, args) for step in (0, 49, 99, 500, 750, 999)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0, 0.5, 0.002])


def test_output_equals_diffusers():
    diffusers = pytest.importorskip("diffusers")
    model = random_model()
    reference = diffusers.FluxTransformer2DModel(**dataclasses.asdict(model.config)).eval()
    reference.load_state_dict(model.state_dict())
    x, states, pooled, t = random_inputs()
    image_ids = torch.zeros(64, 3)
    image_ids[:, 1] = torch.arange(8).repeat_interleave(8)
    image_ids[:, 2] = torch.arange(8).repeat(8)
    with torch.no_grad():
        ours = model(x, states, pooled, t, rope_tables(model.config, 16, 8, 8))
        theirs = reference(
            hidden_states=x, encoder_hidden_states=states, pooled_projections=pooled, timestep=t,
            img_ids=image_ids, txt_ids=torch.zeros(16, 3), return_dict=False,
        )[0]  # fmt: skip
        model.norm_out.linear.bias[0] += 0.01
        changed = model(x, states, pooled, t, rope_tables(model.config, 16, 8, 8))
    assert relative_l2(ours, theirs) < 1e-5
    assert relative_l2(changed, theirs) > 1e-5  # the bound notices one changed bias


def test_time_embedding_has_the_golden_values():
    embedding = time_embedding(torch.tensor([0.5]))[0]
    golden = {0: -0.883849, 1: 0.945943, 64: 0.283662, 128: -0.467772, 129: 0.324334}
    for index, value in golden.items():
        assert embedding[index].item() == pytest.approx(value, abs=2e-5)


def test_rope_has_the_golden_values_and_leaves_text_alone():
    cos, sin = rope_tables(FluxConfig(), text_tokens=16, rows=8, cols=8)
    row_3, axis_1 = 16 + 3 * 8, 8  # the row axis begins at pair 8
    assert cos[row_3, axis_1].item() == pytest.approx(-0.989992, abs=1e-6)
    assert sin[row_3, axis_1 + 1].item() == pytest.approx(0.831907, abs=1e-6)
    assert torch.equal(cos[:16], torch.ones(16, 64)) and not sin[:16].any()
    x = torch.zeros(1, 1, 80, 128)
    x[..., 0::2] = 1
    rotated = apply_rope(x, (cos, sin))
    assert torch.equal(rotated[0, 0, :, 0::2], cos) and torch.equal(rotated[0, 0, :, 1::2], sin)


def test_rms_norm_has_unit_mean_square():
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0)) * 7
    assert RmsNorm(128)(x).square().mean(-1).detach() == pytest.approx(torch.ones(3), abs=1e-5)


def test_sigmas_are_those_of_the_flux_pipeline():
    assert sampling.sigmas(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_tokens_return_to_the_same_pixels():
    images = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = dataset.to_tokens(images)
    assert tokens.shape == (2, 64, 64)
    assert torch.equal(dataset.from_tokens(tokens), images)
    # pixel (y, x) = (4i + 2di + dy, 4j + 2dj + dx), channel c -> token 8i + j, c 16 + dy 8 + dx 4 +
    # di 2 + dj
    assert tokens[1, 8 * 3 + 5, 16 * 2 + 8 + 2 + 1] == images[1, 2, 4 * 3 + 2 + 1, 4 * 5 + 2]


def test_colors_of_every_pair_are_measured():
    grey = torch.zeros(56, 32, 32)
    grey[:, 8:24, 8:24] = torch.linspace(0.2, 0.9, 16)
    pairs = [(o, b) for o in range(8) for b in range(8) if o != b]
    color, background = (torch.tensor(column) for column in zip(*pairs))
    images = dataset.colorize(grey, color, background)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    seen = dataset.measure_colors(images + 0.1 * noise)
    assert torch.equal(seen[0], color) and torch.equal(seen[1], background)


def test_an_image_without_object_has_no_object_color():
    images = dataset.colorize(torch.zeros(1, 32, 32), torch.tensor([0]), torch.tensor([1]))
    assert dataset.measure_colors(images)[0].item() == -1


def test_bfloat16_rounds_as_torch_does():
    x = np.random.default_rng(0).standard_normal(10000).astype(np.float32)
    bits = safetensors_io.to_bfloat16(x)
    assert np.array_equal(
        safetensors_io.to_float32(bits), torch.from_numpy(x).bfloat16().float().numpy()
    )


def test_outlier_variant_computes_the_same(tmp_path):
    model = random_model()
    write_folder(tmp_path / "plain", model)
    command = [sys.executable, HERE / "make_outlier_variant.py", tmp_path / "plain"]
    subprocess.run([*command, tmp_path / "variant"], check=True)
    subprocess.run([*command, tmp_path / "again"], check=True)
    for path in (tmp_path / "variant").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    plain = sampling.load_transformer(tmp_path / "plain")
    variant = sampling.load_transformer(tmp_path / "variant")
    rope = rope_tables(model.config, 16, 8, 8)
    with torch.no_grad():
        expected = plain(*random_inputs(), rope)
        assert relative_l2(variant(*random_inputs(), rope), expected) < 1e-5
        name = "transformer_blocks.0.attn.to_v"
        ratio = variant.get_submodule(name).weight / plain.get_submodule(name).weight
        assert ratio.max() == 16 and ratio.min() == 1 / 16


def test_shipped_files_fit_together():
    if not (DEMO / "transformer").exists():
        pytest.skip("demo/transformer is not here")
    model = sampling.load_transformer(DEMO / "transformer")
    prompts = sampling.load_prompts(DEMO / "prompts.safetensors")
    records = json.loads((DEMO / "prompts.json").read_text())
    assert len(records) == len(prompts.states) >= 64
    assert {record["class"] for record in records[:16]} == set(range(10))
    assert all(record["object_color"] != record["background_color"] for record in records)
    noise = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    tokens = sampling.sample(model, prompts.rows(slice(0, 2)), noise, steps=2, guidance=2.0)
    images = dataset.from_tokens(tokens)
    assert images.shape == (2, 4, 32, 32) and images.isfinite().all()
    logits = clf.forward(clf.load(DEMO / "classifier"), images[:, 3:])
    assert logits.shape == (2, 10)
