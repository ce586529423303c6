"""Statistics of Python's hooks and of `mezzotint collect`: one model, one kind of file."""

import json
import subprocess
import sys

import pytest
import torch
from demo_model import first_blocks_of_the_demo, tutorial_pipeline
from safetensors import safe_open

import mezzotint

STEPS, PROMPTS = 3, 2
GRAM = "transformer_blocks.0.attn.to_q"


def tool(*arguments):
    command = [sys.executable, "-m", "mezzotint", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """The same prompts, steps and guidance, from other noise: by hooks, and by the tool."""
    folder = tmp_path_factory.mktemp("statistics")
    model = first_blocks_of_the_demo(folder / "model")
    hooks, cli = folder / "hooks.safetensors", folder / "tool.safetensors"
    pipe = tutorial_pipeline(model)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with mezzotint.collect(pipe, hooks, source=model, gram=GRAM):
        for prompt in range(PROMPTS):
            pipe(prompt, steps=STEPS)
    torch.set_num_threads(threads)
    tool("collect", model, "-o", cli, "--prompts", PROMPTS, "--steps", STEPS, "--gram", GRAM)
    return model, hooks, cli


def shown(file):
    return json.loads(tool("stats", "show", file, "--json"))


def test_both_see_the_same_inputs(collected):
    _, hooks, cli = collected
    a, b = shown(hooks), shown(cli)
    assert (a["model"], a["steps"]) == (b["model"], b["steps"])
    inputs = {entry["name"]: entry for entry in a["inputs"]}
    assert inputs.keys() == {entry["name"] for entry in b["inputs"]}
    for other in b["inputs"]:
        one = inputs[other["name"]]
        for key in ("k", "rows", "tokens", "histogram", "gram"):
            assert one[key] == other[key], other["name"]
        assert sorted(one["members"]) == sorted(other["members"]), other["name"]
        # The same prompts from other noise: much the same range, where a mistaken input has another.
        assert 0.4 < one["max"] / other["max"] < 2.5, other["name"]
    assert not a["attentions"] and len(b["attentions"]) == 2  # hooks see linears only


def test_their_files_merge(collected, tmp_path):
    model, hooks, cli = collected
    merged, by_python = tmp_path / "merged.safetensors", tmp_path / "by_python.safetensors"
    tool("stats", "merge", hooks, cli, "-o", merged)
    mezzotint.merge_statistics([hooks, cli], by_python)
    assert merged.read_bytes() == by_python.read_bytes()
    rows = {entry["name"]: entry["rows"] for entry in shown(hooks)["inputs"]}
    with safe_open(merged, "pt") as all_rows, safe_open(hooks, "pt") as a, safe_open(cli, "pt") as b:
        for name, count in rows.items():
            assert all_rows.get_tensor(f"{name}.count").item() == 2 * count
            for part, combined in (("amax", torch.maximum), ("min", torch.minimum), ("hist", torch.add)):
                tensors = [f.get_tensor(f"{name}.{part}") for f in (all_rows, a, b)]
                assert torch.equal(tensors[0], combined(*tensors[1:])), name
        gram = f"{GRAM}.gram"
        assert torch.equal(all_rows.get_tensor(gram), a.get_tensor(gram) + b.get_tensor(gram))
    for algo in ("w8a8_timestep", "w8a8"):
        out = tmp_path / algo
        tool(
            "quantize", model, "-o", out, "--algo", algo, "--stats", merged, "--exclude", "*embedder*",
            "--exclude", "*norm*", "--exclude", "proj_out",
        )  # fmt: skip
        tool("inspect", out, "--check")
