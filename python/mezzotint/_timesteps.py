"""track_timesteps(): the step of a diffusers pipeline, without an edit of its loop."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from mezzotint.timestep import TimestepManager

_COMPONENTS = ("transformer", "transformer_2", "unet")


def track_timesteps(pipe: Any) -> TimestepTracker:
    """From here on TimestepManager holds the step that a diffusers pipeline is at.

        mezzotint.track_timesteps(pipe)
        pipe("a cat", num_inference_steps=50)     # W8A8_TIMESTEP layers see steps 0..49

    The step is the scheduler's: its position in the schedule that ``set_timesteps`` made, so that it
    begins again with every run, both calls of classifier-free guidance share it, and image-to-image
    begins where the schedule does. With a scheduler that does not count (no ``step_index``), every new
    value of ``timestep`` is the next step.

    pipe
        A pipeline with ``scheduler`` and ``transformer`` (and ``transformer_2``, as Wan 2.2), or
        ``unet``. A scheduler that is put in later counts as well. Call this after torch.compile().

    Returns the tracker; ``remove()``, or leaving ``with track_timesteps(pipe):``, ends it.
    """
    return TimestepTracker(pipe)


class TimestepTracker:
    """What track_timesteps() returns."""

    def __init__(self, pipe: Any) -> None:
        models = [getattr(pipe, name, None) for name in _COMPONENTS]
        models = [model for model in models if isinstance(model, nn.Module)]
        if not models or getattr(pipe, "scheduler", None) is None:
            raise TypeError(
                "pipe: expected a pipeline with a scheduler and a transformer or unet, "
                f"got {type(pipe).__name__}"
            )
        self._pipe = pipe
        self._schedule: Any = None  # scheduler.timesteps, by identity: set_timesteps() makes it anew
        self._value: float | None = None
        self._count = -1
        self._handles = [
            model.register_forward_pre_hook(_BeforeModel(self, model), with_kwargs=True)
            for model in models
        ]

    @property
    def steps(self) -> int:
        """Of the schedule that is running."""
        timesteps = getattr(self._pipe.scheduler, "timesteps", None)
        return 0 if timesteps is None else len(timesteps)

    @property
    def sigmas(self) -> list[float]:
        """At the start of every step; empty where the scheduler has none."""
        sigmas = getattr(self._pipe.scheduler, "sigmas", None)
        if sigmas is None or len(sigmas) < self.steps:
            return []
        return [float(sigma) for sigma in sigmas[: self.steps]]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> TimestepTracker:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()

    def step_of(self, timestep: Any) -> int:
        """The step of a call of the model with this timestep."""
        scheduler = self._pipe.scheduler
        if hasattr(scheduler, "step_index"):
            # None before the first step(); image-to-image begins at begin_index.
            index = scheduler.step_index
            return index if index is not None else getattr(scheduler, "begin_index", None) or 0
        return self._counted(getattr(scheduler, "timesteps", None), _as_number(timestep))

    def _counted(self, schedule: Any, value: float | None) -> int:
        if schedule is not self._schedule:
            self._schedule, self._value, self._count = schedule, None, -1
        if value != self._value or self._count < 0:
            self._value = value
            self._count += 1
        return self._count


class _BeforeModel:
    def __init__(self, tracker: TimestepTracker, model: nn.Module) -> None:
        self._tracker = tracker
        names = list(inspect.signature(model.forward).parameters)
        self._position = names.index("timestep") if "timestep" in names else None

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        timestep = kwargs.get("timestep")
        if timestep is None and self._position is not None and self._position < len(args):
            timestep = args[self._position]
        TimestepManager.set_timestep_idx(self._tracker.step_of(timestep))


def _as_number(timestep: Any) -> float | None:
    """One value for all tokens and samples: those that a mask holds at 0 do not count."""
    if isinstance(timestep, torch.Tensor):
        return float(timestep.max()) if timestep.numel() else None
    return None if timestep is None else float(timestep)
