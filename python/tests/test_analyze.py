"""analyze(): errors per layer and algorithm, and choices by them."""

import pytest
import torch
from torch import nn

import mezzotint
from mezzotint import analyze, collect, quantize_model


class Model(nn.Module):
    """Of two layers of one size, the second has weights that four bits do badly."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.easy, self.hard = nn.Linear(128, 128), nn.Linear(128, 128)
        self.head = nn.Linear(128, 64)
        with torch.no_grad():
            self.easy.weight.copy_(torch.randint(-7, 8, (128, 128)) / 64)
            self.easy.weight[:, ::64] = 7 / 64  # in every group: the scale is exact
            self.hard.weight.copy_(torch.randn(128, 128) ** 3 / 16)

    def forward(self, x):
        return self.head(torch.tanh(self.easy(x)) + torch.tanh(self.hard(x)))


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory):
    file, model = tmp_path_factory.mktemp("stats") / "s.safetensors", Model()
    x = torch.randn(300, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), collect(model, file, tokens=256):
        model(x)
    return model, file, x


def test_every_layer_and_every_algorithm(analyzed):
    model, file, x = analyzed
    result = analyze(model, file, algorithms=["w8a16", "w4a16"], exclude="head")
    by_name = {layer.name: layer for layer in result.layers}
    assert set(by_name["easy"].sqnr_db) == {"W8A16", "W4A16"}
    assert result.ranked("w4a16")[0].name == "hard"
    assert by_name["easy"].sqnr_db["W4A16"] > by_name["hard"].sqnr_db["W4A16"] + 20
    assert by_name["easy"].bytes["W4A16"] < by_name["easy"].bytes["W8A16"] < by_name["easy"].float_bytes
    assert "--exclude" in by_name["head"].reason and not by_name["head"].sqnr_db
    assert not result.rules and not result.recipe


def test_an_aim_gives_rules_that_quantize_model_takes(analyzed):
    model, file, x = analyzed
    exact = model(x).detach()
    result = analyze(model, file, algorithms=["w8a16", "w4a16"], min_sqnr=30, exclude="head")
    chosen = {layer.name: layer.chosen for layer in result.layers}
    assert chosen == {"easy": "W4A16", "hard": "W8A16", "head": "float"}
    assert "mezzotint: 1" in result.recipe
    quantized = quantize_model(Model(), rules=result.rules)
    assert (quantized.easy.algorithm, quantized.hard.algorithm) == ("W4A16", "W8A16")
    assert isinstance(quantized.head, nn.Linear)
    assert 0 < (quantized(x) - exact).norm() < 0.1 * exact.norm()


def test_how_statistics_are_used_goes_to_the_tool(analyzed):
    model, file, _ = analyzed
    plain = analyze(model, file, algorithms="w4a16", exclude="head").layers[1]
    fed_back = analyze(model, file, algorithms="w4a16", exclude="head", gptq=True).layers[1]
    assert fed_back.sqnr_db["W4A16"] > plain.sqnr_db["W4A16"] + 0.2
    grouped = analyze(model, file, algorithms="w4a16", exclude="head", group_size=32).layers[1]
    assert grouped.bytes["W4A16"] > plain.bytes["W4A16"]
    ranks = [
        analyze(model, file, algorithms="w4a4_mxfp4_svd", exclude="head", svd_rank=rank).layers[1]
        for rank in (4, 16)
    ]
    assert ranks[0].bytes["W4A4_MXFP4_SVD"] < ranks[1].bytes["W4A4_MXFP4_SVD"]
    with pytest.raises(mezzotint.Error, match="static-tolerance"):
        analyze(model, file, static_tolerance=-1)
    with pytest.raises(mezzotint.Error, match="expected one of auto, on, off, got yes"):
        analyze(model, file, act_order="yes")


def test_errors_are_those_of_the_tool(analyzed):
    model, file, _ = analyzed
    with pytest.raises(mezzotint.Error, match="did you mean W8A16") as caught:
        analyze(model, file, algorithms="w8a17")
    assert caught.value.code in (2, 4)
    other = Model()
    with torch.no_grad():
        other.head.bias += 1
    with pytest.raises(mezzotint.Error, match="statistics are of another model"):
        analyze(other, file)
    with pytest.raises(mezzotint.Error, match="two different aims"):
        analyze(model, file, target_size="1MB", min_sqnr=3)
