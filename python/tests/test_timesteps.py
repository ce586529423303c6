"""track_timesteps(): the schedulers of the five families, loops as their pipelines write them."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import nn

import mezzotint
from mezzotint import TimestepManager

# FLUX.1, SD3 and Qwen-Image shift by resolution, HunyuanVideo by a number; Wan has UniPC on flows.
SCHEDULERS = {
    "flux": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    "sd3": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
    "qwen_image": lambda: FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift_terminal=0.02, time_shift_type="exponential"
    ),
    "hunyuan_video": lambda: FlowMatchEulerDiscreteScheduler(shift=7.0),
    "wan": lambda: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000,
        flow_shift=3.0,
    ),
    "does not count": lambda: DDIMScheduler(num_train_timesteps=1000),
}  # fmt: skip


class Transformer(nn.Module):
    """Notes the step at which it runs."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def forward(self, hidden_states, timestep):
        self.steps.append(TimestepManager.get_timestep_idx())
        return hidden_states * 0.9


@pytest.fixture(autouse=True)
def no_step():
    yield
    TimestepManager.set_timestep_idx(None)


def make_pipe(scheduler):
    return SimpleNamespace(scheduler=scheduler, transformer=Transformer())


def run_loop(pipe, steps, *, calls=2, divided=False, first=0):
    scheduler = pipe.scheduler
    shifting = {"mu": 0.9} if getattr(scheduler.config, "use_dynamic_shifting", False) else {}
    scheduler.set_timesteps(steps, **shifting)
    timesteps = scheduler.timesteps[first:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    x = torch.ones(1, 4)
    for t in timesteps:
        for _ in range(calls):  # classifier-free guidance
            noise = pipe.transformer(x, (t.expand(1) / 1000) if divided else t.expand(1))
        x = scheduler.step(noise, t, x, return_dict=False)[0]
    return len(timesteps)


@pytest.mark.parametrize("family", SCHEDULERS)
@pytest.mark.parametrize("divided", [False, True])
def test_steps_of_a_run(family, divided):
    pipe = make_pipe(SCHEDULERS[family]())
    tracker = mezzotint.track_timesteps(pipe)
    for steps in (4, 50, 3):  # and every run begins again
        pipe.transformer.steps.clear()
        run_loop(pipe, steps, divided=divided)
        assert pipe.transformer.steps == [i for i in range(steps) for _ in range(2)]
        assert tracker.steps == steps
    tracker.remove()
    TimestepManager.set_timestep_idx(7)
    pipe.transformer(torch.ones(1), 3)
    assert pipe.transformer.steps[-1] == 7


def test_image_to_image_begins_where_the_schedule_does():
    pipe = make_pipe(SCHEDULERS["sd3"]())
    with mezzotint.track_timesteps(pipe):
        run_loop(pipe, 10, calls=1, first=6)
    assert pipe.transformer.steps == [6, 7, 8, 9]
    assert not pipe.transformer._forward_pre_hooks


def test_a_scheduler_of_two_evaluations_counts_both():
    pipe = make_pipe(FlowMatchHeunDiscreteScheduler())
    with mezzotint.track_timesteps(pipe):
        count = run_loop(pipe, 5, calls=1)
    assert count == 9 and pipe.transformer.steps == list(range(9))


def test_another_scheduler_and_a_second_transformer():
    """As users swap schedulers, and as Wan 2.2 does below its boundary."""
    pipe = make_pipe(SCHEDULERS["sd3"]())
    pipe.transformer_2 = Transformer()
    mezzotint.track_timesteps(pipe)
    pipe.scheduler = SCHEDULERS["wan"]()
    pipe.scheduler.set_timesteps(6)
    x = torch.ones(1, 4)
    for i, t in enumerate(pipe.scheduler.timesteps):
        model = pipe.transformer if i < 2 else pipe.transformer_2
        x = pipe.scheduler.step(model(x, timestep=t), t, x).prev_sample
    assert pipe.transformer.steps == [0, 1] and pipe.transformer_2.steps == [2, 3, 4, 5]


def test_a_value_per_token_is_one_step():
    """Wan 2.2 TI2V holds the tokens of the given image at 0."""
    pipe = make_pipe(SCHEDULERS["does not count"]())
    mezzotint.track_timesteps(pipe)
    pipe.scheduler.set_timesteps(3)
    for t in pipe.scheduler.timesteps:
        mask = torch.tensor([[0.0, 1.0, 1.0]])
        pipe.transformer(torch.ones(1), mask * t)
        pipe.transformer(torch.ones(1), mask * t)
    assert pipe.transformer.steps == [0, 0, 1, 1, 2, 2]


def test_what_is_no_pipeline_is_refused():
    with pytest.raises(TypeError, match="a scheduler and a transformer or unet, got SimpleNamespace"):
        mezzotint.track_timesteps(SimpleNamespace(transformer=Transformer()))


def test_a_pipeline_collects_by_itself(tmp_path):
    pipe = make_pipe(SCHEDULERS["sd3"]())
    pipe.transformer.proj = nn.Linear(4, 4)
    pipe.transformer.register_forward_hook(lambda m, args, y: m.proj(y))
    with mezzotint.collect(pipe, tmp_path / "s.safetensors"):
        run_loop(pipe, 5)
    from safetensors import safe_open

    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        assert file.metadata()["steps"] == "5"
        sigmas = [float(s) for s in file.metadata()["sigmas"].split(",")]
        assert file.get_tensor("proj.max").isfinite().all()
    assert sigmas == pytest.approx(pipe.scheduler.sigmas[:5].tolist())
    assert not pipe.transformer._forward_pre_hooks
