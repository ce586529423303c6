"""Steps of W8A8_TIMESTEP layers, and the policies that say what a step does."""

import copy
import threading

import pytest
import torch
from upstream_models import UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import TimestepManager, TimestepPolicyConfig, quantize

TIMESTEP = UPSTREAM / "old_w8a8_timestep"


@pytest.fixture(autouse=True)
def no_step():
    yield
    TimestepManager.set_timestep_idx_max(None)
    TimestepManager.set_timestep_idx(None)


def at_steps(layer, x):
    outputs = []
    for step in range(4):
        TimestepManager.set_timestep_idx(step)
        outputs.append(layer(x))
    TimestepManager.set_timestep_idx(None)
    return outputs


def test_steps_choose_the_rows_of_the_file():
    policy = TimestepPolicyConfig()
    policy.register(range(1, 3), "static")
    layer = quantize(float_model("tiny"), TIMESTEP, timestep_policy=policy).blocks[0].to_q
    x = input_of(64)
    dynamic = quantize(float_model("tiny"), TIMESTEP).blocks[0].to_q(x)
    y = at_steps(layer, x)
    assert torch.equal(y[0], dynamic) and torch.equal(y[3], dynamic)
    assert not torch.equal(y[1], dynamic) and not torch.equal(y[2], y[1])
    assert torch.equal(layer(x), dynamic)  # no step


def test_a_policy_may_change_after_quantize():
    policy = TimestepPolicyConfig()
    layer = quantize(float_model("tiny"), TIMESTEP, timestep_policy=policy).blocks[0].to_q
    x = input_of(64)
    before = at_steps(layer, x)
    policy.register(2, "static")
    after = at_steps(layer, x)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False, True]
    assert layer.timestep_policy is policy
    copied = at_steps(copy.deepcopy(layer), x)
    assert all(torch.equal(a, b) for a, b in zip(after, copied, strict=True))


def test_a_step_beyond_the_calibrated_ones_names_layer_and_steps():
    layer = quantize(float_model("tiny"), TIMESTEP).blocks[0].to_q
    with TimestepManager.step(4), pytest.raises(mezzotint.Error, match=r"(?s)0\.\.3.*step 4"):
        layer(input_of(64))


def test_worker_threads_see_the_step():
    seen = []
    TimestepManager.set_timestep_idx(7)
    thread = threading.Thread(target=lambda: seen.append(TimestepManager.get_timestep_idx()))
    thread.start()
    thread.join()
    assert seen == [7]


def test_a_context_keeps_its_own_step():
    TimestepManager.set_timestep_idx(1)

    def work():
        TimestepManager.set_timestep_idx(5)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert TimestepManager.get_timestep_idx() == 1


def test_step_restores_what_was_before():
    TimestepManager.set_timestep_idx(1)
    with TimestepManager.step(3):
        assert TimestepManager.get_timestep_idx() == 3
    assert TimestepManager.get_timestep_idx() == 1


def test_a_maximum_is_kept():
    TimestepManager.set_timestep_idx_max(4)
    assert TimestepManager.get_timestep_idx_max() == 4
    TimestepManager.set_timestep_idx(3)
    with pytest.raises(ValueError, match=r"expected a step of 0\.\.3 .*got 4"):
        TimestepManager.set_timestep_idx(4)


@pytest.mark.parametrize("value", ["1", 1.0, True])
def test_steps_are_integers(value):
    with pytest.raises(TypeError, match="cur_timestep: expected an int or None"):
        TimestepManager.set_timestep_idx(value)
    with pytest.raises(ValueError, match="got -1"):
        TimestepManager.set_timestep_idx(-1)


def test_policies_have_a_text():
    policy = TimestepPolicyConfig(static=range(25, 50), default="dynamic")
    assert policy.text() == "static 25-49"
    policy.register([3, 1, 2], "static")
    policy.register(2, "dynamic")
    assert policy.text() == "static 1-1,3-3,25-49"
    assert TimestepPolicyConfig.parse(policy.text()) == policy
    assert [policy.get_strategy(s) for s in (1, 2, 3, 99, None)] == [
        "static", "dynamic", "static", "dynamic", "dynamic",
    ]  # fmt: skip
    assert TimestepPolicyConfig("static").text() == "static"
    assert TimestepPolicyConfig.parse("dynamic 0-2").get_strategy(5) == "static"


@pytest.mark.parametrize(
    ("steps", "strategy", "error"),
    [
        ((1, 2), "static", TypeError),
        ("1", "static", TypeError),
        ([1, "2"], "static", TypeError),
        (1.0, "static", TypeError),
        (True, "static", TypeError),
        (-1, "static", ValueError),
        (1, "fixed", ValueError),
        (1, 5, TypeError),
    ],
)
def test_bad_policies_are_refused(steps, strategy, error):
    with pytest.raises(error):
        TimestepPolicyConfig().register(steps, strategy)
