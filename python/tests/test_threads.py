"""Layers run on torch's threads: as many as torch uses, the same ones, and the same bits."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import mezzotint
from mezzotint import _threads, quantize_model

PREPARE = """
import os, torch, mezzotint
from torch import nn
def threads(): return len(os.listdir("/proc/self/task"))
def alone(): return mezzotint.Context(threads=3, own_threads=True)
torch.set_num_threads(3)
model = mezzotint.quantize_model(nn.Sequential(nn.Linear(512, 512)), algo="w8a8_dynamic")
x = torch.randn(256, 512)
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + code], capture_output=True, text=True,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


@pytest.fixture
def restored():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("algorithm", ["w8a8_dynamic", "w4a16", "w4a4_mxfp4"])
def test_the_same_bits_for_any_number_of_threads(restored, algorithm):
    torch.manual_seed(1)
    model = quantize_model(nn.Sequential(nn.Linear(512, 640)), algo=algorithm)
    for m in (1, 16, 300):
        x = torch.randn(m, 512)
        outputs = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            assert _threads.torch_context().threads == threads
            outputs.append(model(x))
        y = torch.empty_like(outputs[0])
        bound = model[0]._bind(model[0]._parts())
        context = mezzotint.Context(threads=3, own_threads=True)
        bound.run(x.data_ptr(), y.data_ptr(), 0, m, 512, 512, -1, context)
        assert all(torch.equal(y, other) for other in outputs)


def test_no_second_pool_beside_torchs():
    counts = run("""
torch.nn.functional.gelu(torch.randn(1024, 3072))
print(threads())
model(x)
print(threads())
bound, y = model[0]._bind(model[0]._parts()), torch.empty(256, 512)
bound.run(x.data_ptr(), y.data_ptr(), 0, 256, 512, 512, -1, alone())
print(threads())
""")
    torchs, with_ours, on_own = map(int, counts)
    assert torchs >= 3
    assert with_ours == torchs
    assert on_own > torchs, "the count sees a second pool"


def test_one_thread_is_one_thread():
    assert run("torch.set_num_threads(1)\nbefore = threads()\nmodel(x)\nprint(threads() - before)") == ["0"]


def test_the_environment_wins():
    code = "from mezzotint._threads import torch_context\nprint(torch_context().threads)"
    assert run(code) == ["3"]
    assert run(code, MEZZOTINT_NUM_THREADS="2") == ["2"]


def test_a_forked_child_does_not_wait_for_threads_that_it_has_not():
    lines = run("""
expected = model(x)
child = os.fork()
if child == 0:
    y = model(x)
    os._exit(0 if (y.numpy() == expected.numpy()).all() else 3)  # an operation of torch's would wait
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert lines == ["0"]
