"""Which denoising step is running, and what W8A8_TIMESTEP layers do at it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator

Steps = int | list[int] | range

_UNSET = object()


class TimestepManager:
    """The index of the denoising step, for every quantized layer of the process.

    A value set in a context (thread, task) holds there. Elsewhere the one that was set last, by
    whichever thread, holds: a worker that set none sees the step of the loop that feeds it.
    """

    _in_context: contextvars.ContextVar = contextvars.ContextVar("timestep_idx", default=_UNSET)
    _set_last: int | None = None
    _max: int | None = None

    @classmethod
    def set_timestep_idx(cls, cur_timestep: int | None) -> None:
        cls._check(cur_timestep, "cur_timestep")
        if cls._max is not None and cur_timestep is not None and cur_timestep >= cls._max:
            raise ValueError(
                f"cur_timestep: expected a step of 0..{cls._max - 1} (timestep_idx_max is {cls._max}), "
                f"got {cur_timestep}"
            )
        cls._in_context.set(cur_timestep)
        TimestepManager._set_last = cur_timestep

    @classmethod
    def get_timestep_idx(cls) -> int | None:
        step = cls._in_context.get()
        return TimestepManager._set_last if step is _UNSET else step

    @classmethod
    def set_timestep_idx_max(cls, t_idx: int | None) -> None:
        """The number of calibrated steps: set_timestep_idx() refuses this and larger ones."""
        cls._check(t_idx, "t_idx")
        TimestepManager._max = t_idx

    @classmethod
    def get_timestep_idx_max(cls) -> int | None:
        return cls._max

    @classmethod
    @contextlib.contextmanager
    def step(cls, index: int | None) -> Iterator[None]:
        """``with TimestepManager.step(i): model(...)``; the step before is back afterwards."""
        before, last = cls._in_context.get(), TimestepManager._set_last
        cls.set_timestep_idx(index)
        try:
            yield
        finally:
            cls._in_context.set(before)
            TimestepManager._set_last = last

    @staticmethod
    def _check(index: int | None, name: str) -> None:
        if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
            raise TypeError(f"{name}: expected an int or None, got {type(index).__name__}")
        if index is not None and index < 0:
            raise ValueError(f"{name}: expected a step >= 0, got {index}")


class TimestepPolicyConfig:
    """Steps at which W8A8_TIMESTEP layers use the scales of the file ("static") or measure.

        policy = TimestepPolicyConfig()
        policy.register(range(25, 50), "static")        # upstream's form
        policy = TimestepPolicyConfig(static=range(25, 50), default="dynamic")

    Changes reach the layers that were quantized with it.
    """

    STRATEGIES = ("dynamic", "static")
    TARGETS = ("linear", "w8a8_static_linear")

    def __init__(
        self,
        default_strategy: str | None = None,
        *,
        default: str = "dynamic",
        static: Steps = (),
        dynamic: Steps = (),
    ) -> None:
        self._default = default if default_strategy is None else default_strategy
        self._check_strategy(self._default)
        self._steps: dict[int, str] = {}
        self.version = 0  # counts changes
        for steps, strategy in ((static, "static"), (dynamic, "dynamic")):
            if not isinstance(steps, tuple) or steps:
                self.register(steps, strategy)

    def register(self, step_range: Steps, strategy: str, target: str = "linear") -> None:
        """Later calls win."""
        self._check_strategy(strategy)
        if target not in self.TARGETS:
            raise ValueError(f"target: expected one of {self.TARGETS}, got {target!r}")
        for step in self._checked(step_range):
            self._steps[step] = strategy
        self.version += 1

    def get_strategy(self, step: int | None, target: str = "linear") -> str:
        if step is not None and not isinstance(step, int):
            raise TypeError(f"step: expected an int or None, got {type(step).__name__}")
        return self._steps.get(step, self._default)

    @classmethod
    def parse(cls, text: str) -> TimestepPolicyConfig:
        """The form that descriptors keep: "static 0-3,25-49", "dynamic 0-24", "static"."""
        word, _, ranges = text.partition(" ")
        if not ranges:
            return cls(word)
        policy = cls("static" if word == "dynamic" else "dynamic")
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            policy.register(range(int(first), int(last or first) + 1), word)
        return policy

    def text(self) -> str:
        other = self.STRATEGIES[self._default == "dynamic"]
        steps = sorted(step for step, strategy in self._steps.items() if strategy == other)
        return f"{other} {_ranges(steps)}" if steps else self._default

    def __repr__(self) -> str:
        return f"TimestepPolicyConfig({self.text()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimestepPolicyConfig) and self.text() == other.text()

    __hash__ = None

    @staticmethod
    def _checked(step_range: Steps) -> Iterable[int]:
        steps = [step_range] if isinstance(step_range, int) else step_range
        if not isinstance(steps, (list, range)):
            found = type(step_range).__name__
            raise TypeError(f"step_range: expected an int, a list of ints or a range, got {found}")
        for step in steps:
            if isinstance(step, bool) or not isinstance(step, int):
                raise TypeError(f"step_range: expected ints, got {type(step).__name__}")
            if step < 0:
                raise ValueError(f"step_range: expected steps >= 0, got {step}")
        return steps

    @classmethod
    def _check_strategy(cls, strategy: str) -> None:
        if not isinstance(strategy, str):
            raise TypeError(f"strategy: expected a str, got {type(strategy).__name__}")
        if strategy not in cls.STRATEGIES:
            raise ValueError(f"strategy: expected one of {cls.STRATEGIES}, got {strategy!r}")


def _ranges(steps: list[int]) -> str:
    parts: list[list[int]] = []
    for step in steps:
        if parts and parts[-1][1] == step - 1:
            parts[-1][1] = step
        else:
            parts.append([step, step])
    return ",".join(f"{first}-{last}" for first, last in parts)
