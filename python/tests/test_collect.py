"""collect(): statistics from any module, into the file that the command line tool writes."""

import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from torch import nn

import mezzotint
from mezzotint import TimestepManager, collect, quantize_model

K = 64


class Block(nn.Module):
    """Two linears on one tensor, one on another, one that is called twice."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(3)
        self.to_q = nn.Linear(K, 48)
        self.to_k = nn.Linear(K, 48)
        self.out = nn.Linear(48, K)
        self.to(dtype)

    def forward(self, x):
        h = x * 2
        return self.out(self.to_q(h)) + self.out(self.to_k(h) * 3)


@pytest.fixture(autouse=True)
def no_step():
    yield
    TimestepManager.set_timestep_idx(None)


def rows(count, seed, dtype=torch.float32):
    x = torch.randn(count, K, generator=torch.Generator().manual_seed(seed))
    x[:, 5] *= 40  # an outlier channel
    x[0] = 0
    return x.to(dtype)


def tensors(file):
    with safe_open(file, "pt") as f:
        return {name: f.get_tensor(name) for name in f.keys()}, f.metadata()


def run_steps(model, counts, steps=2, seed=0):
    for i, count in enumerate(counts):
        with TimestepManager.step(i % steps):
            model(rows(count, seed + i, next(model.parameters()).dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_file_holds_what_torch_computes(tmp_path, dtype):
    model, file = Block(dtype), tmp_path / "s.safetensors"
    with collect(model, file, steps=2, tokens=8, gram="to_q"):
        run_steps(model, [3, 1200])
    stored, metadata = tensors(file)
    assert metadata["mezzotint_stats"] == "1" and metadata["steps"] == "2"
    assert metadata["members:to_q"] == "to_q\nto_k"  # the same tensor
    assert metadata["members:out"] == "out"
    steps = [(rows(n, i, dtype) * 2).double() for i, n in enumerate([3, 1200])]
    x = torch.cat(steps)
    assert stored["to_q.count"].item() == 1203 and stored["out.count"].item() == 2 * 1203
    assert torch.equal(stored["to_q.amax"], x.abs().amax(0).float())
    assert torch.allclose(stored["to_q.mean_abs"], x.abs().mean(0), rtol=1e-13)
    assert not torch.allclose(stored["to_q.mean_abs"], x[:-1].abs().mean(0), rtol=1e-13)
    assert torch.equal(stored["to_q.min"], torch.stack([s.min() for s in steps]).float())
    assert torch.equal(stored["to_q.max"], torch.stack([s.max() for s in steps]).float())
    assert stored["to_q.hist"].sum() == 1203 * K
    gram = x.T @ x  # a sum of 1203 products in f32
    bound = 1204 * 2.0**-24 * (x.abs().T @ x.abs())
    assert ((stored["to_q.gram"].double() - gram).abs() <= bound).all()
    assert not ((stored["to_q.gram"].double() - x[:-1].T @ x[:-1]).abs() <= bound).all()
    sample = stored["to_q.tokens"].double()
    assert sample.shape == (8, K)
    rounded = x.to(torch.bfloat16).double()
    assert all((rounded == row).all(1).any() for row in sample)
    assert "to_k.amax" not in stored and "out.gram" not in stored


def test_the_command_line_tool_reads_it_and_uses_it(tmp_path):
    from safetensors.torch import save_file

    model = Block()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with collect(model, tmp_path / "s.safetensors"):
        model(rows(300, 1))

    def tool(*arguments):
        command = [sys.executable, "-m", "mezzotint", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    shown = tool("stats", "show", tmp_path / "s.safetensors")
    assert shown.returncode == 0 and "to_q" in shown.stdout, shown.stderr
    done = tool(
        "quantize", tmp_path / "model.safetensors", "-o", tmp_path / "out", "--algo", "w8a8",
        "--stats", tmp_path / "s.safetensors", "--preset", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # and quantize_model() with them is that export
    in_memory = quantize_model(model, algo="w8a8", stats=tmp_path / "s.safetensors")
    from_files = mezzotint.quantize(Block(), tmp_path / "out")
    a, b = in_memory.state_dict(), from_files.state_dict()
    assert a.keys() == b.keys() and "to_q.linear.input_scale" in a
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("algo", ["w8a8_timestep", "w4a16_awq", "w4a16_gptq", "w8a8_dynamic", "w4a4_mxfp4_svd"])
def test_algorithms_from_statistics(tmp_path, algo):
    model, file = Block(), tmp_path / "s.safetensors"
    with collect(model, file, steps=2, gram="*"):
        run_steps(model, [200, 200])
    exact = model(rows(50, 9)).detach()
    quantize_model(model, algo=algo, stats=file)
    error = (model(rows(50, 9)) - exact).norm() / exact.norm()
    assert 0 < error < 0.2
    assert all(layer.weight_sqnr_db > 5 for layer in model.mezzotint_report.layers)


def test_statistics_lower_the_error_of_an_outlier_channel(tmp_path):
    exact = Block()(rows(50, 9)).detach()

    def error(**options):
        model = quantize_model(Block(), algo="w8a8_dynamic", **options)
        return float((model(rows(50, 9)) - exact).norm() / exact.norm())

    model = Block()
    with collect(model, tmp_path / "s.safetensors"):
        model(rows(300, 1))
    plain, smoothed = error(), error(stats=tmp_path / "s.safetensors")
    assert smoothed < plain / 2
    assert error(stats=tmp_path / "s.safetensors", smooth=False) == plain


def test_how_statistics_are_used_is_said_as_on_the_command_line(tmp_path):
    file = tmp_path / "s.safetensors"
    model = Block()
    with collect(model, file, steps=2, gram="*"):
        run_steps(model, [200, 200])

    def quantized(algo, **how):
        return quantize_model(Block(), algo=algo, stats=file, **how)

    def policy(**how):
        return quantized("w8a8_timestep", **how).to_q.timestep_policy.text()

    assert policy(static_tolerance=0) == "dynamic"
    assert policy(static_tolerance=1e6) == "static 0-1"
    notes = quantized("w8a8_timestep", static_tolerance=1.25).mezzotint_report.notes
    assert any("static within 1.25 times" in note for note in notes)
    stored, energy = (
        quantized("w4a4_dynamic", gptq=True, act_order=order).state_dict() for order in ("off", "on")
    )
    assert not torch.equal(stored["to_q.weight"], energy["to_q.weight"])
    auto = quantized("w4a4_dynamic", gptq=True).state_dict()
    assert torch.equal(auto["to_q.weight"], energy["to_q.weight"])  # int4, one scale per row
    assert torch.equal(stored["to_q.weight_scale"], energy["to_q.weight_scale"])


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ({"gptq": True}, ValueError, "gptq needs statistics: give stats="),
        ({"range": "minmax", "static_tolerance": 1}, ValueError, "range, static_tolerance need statistics"),
        ({"static_tolerance": "much"}, TypeError, "static_tolerance: expected a number, got 'much'"),
    ],
)
def test_nothing_is_ignored_without_statistics(how, error, text):
    model = Block()
    with pytest.raises(error, match=text):
        quantize_model(model, algo="w8a8_dynamic", **how)
    assert isinstance(model.to_q, nn.Linear)


def test_what_cannot_be_meant_is_named(tmp_path):
    model, file = Block(), tmp_path / "s.safetensors"
    with collect(model, file):
        model(rows(100, 1))
    for how, text in [
        ({"static_tolerance": -1}, "tolerance of static steps: expected 0 or more, got -1"),
        ({"act_order": "yes"}, "act_order.*expected one of auto, off, on, got yes"),
    ]:
        with pytest.raises(mezzotint.Error, match=text):
            quantize_model(model, algo="w8a8", stats=file, **how)
    assert isinstance(model.to_q, nn.Linear)


def test_statistics_of_another_model_are_refused(tmp_path):
    model, file = Block(), tmp_path / "s.safetensors"
    with collect(model, file):
        model(rows(100, 1))
    other = Block()
    with torch.no_grad():
        other.out.bias += 1
    with pytest.raises(mezzotint.Error, match="statistics are of another model"):
        quantize_model(other, algo="w8a8", stats=file)
    assert isinstance(other.to_q, nn.Linear)
    with pytest.raises(mezzotint.Error, match="expected one of mse, minmax, percentile.*got most"):
        quantize_model(model, algo="w8a8", stats=file, range="most")


def test_going_on_is_one_collection(tmp_path):
    parts, whole = tmp_path / "parts.safetensors", tmp_path / "whole.safetensors"
    model = Block()
    with collect(model, whole, steps=2, tokens=16) as all_at_once:
        run_steps(model, [40, 30, 20, 10])
    with collect(model, parts, steps=2, tokens=16):
        run_steps(model, [40, 30])
    with collect(model, parts, steps=2, tokens=16, resume=True):
        run_steps(model, [20, 10], seed=2)
    assert parts.read_bytes() == whole.read_bytes()
    assert [name for name, *_ in all_at_once.inputs] == ["out", "to_q"]
    with pytest.raises(mezzotint.Error, match="earlier statistics are of another size of sample"):
        collect(model, parts, steps=2, tokens=17, resume=True)


def test_files_merge(tmp_path):
    model = Block()
    for i, name in enumerate("ab"):
        with collect(model, tmp_path / f"{name}.safetensors", tokens=0):
            model(rows(10 + i, i))
    mezzotint.merge_statistics(
        [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], tmp_path / "ab.safetensors"
    )
    stored, _ = tensors(tmp_path / "ab.safetensors")
    x = torch.cat([rows(10, 0), rows(11, 1)]) * 2
    assert stored["to_q.count"].item() == 21
    assert torch.equal(stored["to_q.amax"], x.abs().amax(0))
    with pytest.raises(ValueError, match="two or more"):
        mezzotint.merge_statistics([tmp_path / "a.safetensors"], tmp_path / "c.safetensors")


def test_a_file_is_not_lost(tmp_path):
    model, file = Block(), tmp_path / "s.safetensors"
    with pytest.raises(KeyError), collect(model, file):
        model(rows(10, 1))
        raise KeyError("mine")
    assert not file.exists() and not model.to_q._forward_pre_hooks
    with collect(model, file) as collection:
        model(rows(10, 1))
        collection.save()  # at any time
        assert file.exists()
    with pytest.raises(FileExistsError, match="resume=True goes on"):
        collect(model, file)
    with pytest.raises(RuntimeError, match="did not run"), collect(model, file, overwrite=True):
        pass
    assert tensors(file)[0]["to_q.count"].item() == 10


def test_wrong_calls(tmp_path):
    model, file = Block(), tmp_path / "s.safetensors"
    cases = [
        ({"model": 3}, TypeError, "expected a torch.nn.Module or a pipeline with a transformer"),
        ({"file": tmp_path / "s.pt"}, ValueError, "ends in .safetensors"),
        ({"file": tmp_path / "no" / "s.safetensors"}, FileNotFoundError, "there is no folder"),
        ({"gram": "to_w"}, mezzotint.Error, "gram= matches no linear of the model: got to_w"),
        ({"model": nn.ReLU()}, ValueError, "has no linear layer"),
        ({"model": quantize_model(Block(), algo="w8a16")}, ValueError, "layer to_q is quantized"),
    ]
    for changed, error, text in cases:
        with pytest.raises(error, match=text):
            collect(**{"model": model, "file": file, **changed})
    with pytest.raises(RuntimeError, match="nobody says which step runs"), collect(model, file, steps=4):
        model(rows(3, 1))
    with pytest.raises(mezzotint.Error, match=r"expected 0 to 3.*got 4"), collect(model, file, steps=4):
        with TimestepManager.step(4):
            model(rows(3, 1))
    with pytest.raises(mezzotint.Error, match="not finite.*to_q"), collect(model, file):
        model(torch.full((1, K), float("inf")))
    assert not file.exists()


def test_linears_that_only_seem_to_share_an_input(tmp_path):
    class Fickle(Block):
        def forward(self, x, apart):
            return self.to_q(x) + self.to_k(x.clone() if apart else x)

    model, file = Fickle(), tmp_path / "s.safetensors"
    with collect(model, file):
        model(rows(4, 1), True)
        model(rows(4, 2), False)  # still counted by themselves
    assert tensors(file)[1]["members:to_k"] == "to_k"
    assert tensors(file)[0]["to_k.count"].item() == 8
    text = "to_k shared its input with to_q so far"
    with pytest.raises(RuntimeError, match=text), collect(model, file, overwrite=True):
        model(rows(4, 1), False)
        model(rows(4, 2), True)


def test_a_tensor_that_changed_in_place_is_another_input(tmp_path):
    class InPlace(Block):
        def forward(self, x):
            y = self.to_q(x)
            x.mul_(2)
            return y + self.to_k(x)

    file = tmp_path / "s.safetensors"
    model = InPlace()
    with torch.no_grad(), collect(model, file):
        model(rows(4, 1))
    assert torch.equal(tensors(file)[0]["to_k.amax"], 2 * tensors(file)[0]["to_q.amax"])
