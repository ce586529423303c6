"""examples/python and the pages that are made of them."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from demo_model import first_blocks_of_the_demo

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "python"
TUTORIAL = EXAMPLES / "quantize_demo_model.py"


def run(script, *arguments):
    # One thread: on a busy machine OpenMP waits for cores longer than it computes.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    out = tmp_path_factory.mktemp("tutorial")
    model = first_blocks_of_the_demo(out / "model")
    return out, run(TUTORIAL, "--model", model, "--out", out, "--prompts", 1, "--steps", 3)


def test_the_tutorial_quantizes_the_demo_model(tutorial):
    out, printed = tutorial
    psnr = [float(value) for value in re.findall(r"PSNR ([\d.]+) dB", printed)]
    assert len(psnr) == 1 and 25 < psnr[0] < 80  # equal pictures would be no quantization
    verdict = re.search(r"(\d+) layers compared, \d+ kept float; .* output SQNR ([\d.]+) dB", printed)
    assert int(verdict[1]) == 12 + 5 and 15 < float(verdict[2]) < 80
    assert "transformer_blocks.0.attn.to_q" in (out / "report.html").read_text()


def test_its_folder_stands_alone(tutorial):
    out, _ = tutorial
    command = [sys.executable, "-m", "mezzotint", "inspect", str(out / "quantized"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "quantized" / "config.json").exists()
    printed = run(EXAMPLES / "one_layer_on_numpy.py", out / "quantized", "transformer_blocks.0.attn.to_q")
    assert printed.startswith("W8A8_TIMESTEP [16, 256] -> [16, 256] by ")


def test_the_command_line_tool_draws_with_it(tutorial):
    """C++ alone, from what Python saved."""
    out, _ = tutorial
    command = [
        sys.executable, "-m", "mezzotint", "generate", out / "model", "--quant", out / "quantized",
        "--prompt-id", 3, "--seed", 7, "--steps", 3, "-o", out / "out.png",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "out.png").read_bytes().startswith(b"\x89PNG")


def dedented_lines(text):
    return [line for line in textwrap.dedent(text).splitlines() if line.strip()]


def test_the_page_shows_the_program():
    program = [line.strip() for line in dedented_lines(TUTORIAL.read_text())]
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        lines = [line.strip() for line in dedented_lines(block)]
        starts = [i for i, line in enumerate(program) if line == lines[0]]
        assert any(program[i : i + len(lines)] == lines for i in starts), block


def test_examples_are_short():
    scripts = list(EXAMPLES.glob("*.py"))
    assert len(scripts) == 2
    assert all(len(script.read_text().splitlines()) <= 120 for script in scripts)


def test_the_bytes_of_the_formats_page():
    import torch
    from torch import nn

    from mezzotint import quantize_model
    from mezzotint._tensors import NAMES

    row = [0.5, -1.0, 0.25, 0.75, -0.125, 0.0, 1.0, -0.5] + [0.0] * 24
    page = (ROOT / "docs" / "formats.md").read_text()
    table = re.findall(r"^\| (W\w+) \| (\w+) \| (\w+) \[([\d,]+)\] \| ([0-9a-f ]+) \|$", page, re.MULTILINE)
    assert len(table) == 9
    for label, name, dtype, shape, expected in table:
        model = nn.Sequential(nn.Linear(32, 1, bias=False))
        model[0].weight = nn.Parameter(torch.tensor([row]))
        tensor = quantize_model(model, algo=label)[0].file_tensors()[name]
        assert (NAMES[tensor.dtype], list(tensor.shape)) == (dtype, [int(n) for n in shape.split(",")])
        stored = bytes(tensor.contiguous().view(torch.uint8).flatten().tolist())
        assert stored.startswith(bytes.fromhex(expected)), (label, name, stored.hex(" "))
