"""collect(): statistics of what a model's linears read, while it runs."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mezzotint import _core
from mezzotint._calibrated import identity_of
from mezzotint._linears import LinearMap, find_linears
from mezzotint._threads import torch_context
from mezzotint._timesteps import TimestepTracker
from mezzotint.modules import QuantLinear
from mezzotint.timestep import TimestepManager

_DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def collect(
    model: Any,
    file: str | os.PathLike[str],
    *,
    component: str = "transformer",
    steps: int | None = None,
    tokens: int = 1024,
    histograms: bool = True,
    gram: str | Iterable[str] = (),
    source: str | os.PathLike[str] | None = None,
    map: LinearMap | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Collection:
    """Gathers what calibrated algorithms need while a float model runs; ends by writing `file`.

        with mezzotint.collect(pipe, "stats.safetensors"):
            for prompt in prompts:
                pipe(prompt, num_inference_steps=28)
        mezzotint.quantize_model(pipe.transformer, algo="w8a8", stats="stats.safetensors")

    The file is the one of ``mezzotint collect`` (docs/formats.md): every input's range per channel and
    step, histograms, a sample of its rows and, where asked for, the Gram matrix. Linears that read the
    same tensor share an input, which is named after the first of them.

    model
        A diffusers pipeline, whose ``component`` is observed and whose scheduler says the step; or any
        nn.Module, at the step of TimestepManager.
    steps
        Denoising steps of a run. Default: the scheduler's; 1 for a module.
    tokens, histograms, gram
        Rows of the sample of an input; whether histograms are kept, which static scales need;
        patterns of the linears whose input gets a K x K Gram matrix, for GPTQ.
    source
        The files that the model came from, where their dtype is another than the model's: the
        statistics are for them then, as ``mezzotint quantize --stats`` wants them.
    map
        As in quantize_model(), for linears of other classes.
    resume
        Goes on from `file`: the result is that of one undisturbed collection. ``save()`` writes at any
        time what was seen so far.
    overwrite
        Otherwise an existing `file` is an error, before anything runs.

    Raises mezzotint.Error for inputs that hold inf or NaN and for a step outside of the run; nothing is
    written then.
    """
    tracked = None
    if not isinstance(model, nn.Module):
        pipe, model = model, getattr(model, component, None)
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model: expected a torch.nn.Module or a pipeline with a {component}, "
                f"got {type(pipe).__name__}"
            )
        tracked = TimestepTracker(pipe)
    try:
        return Collection(
            model, file, tracked, steps=steps, tokens=tokens, histograms=histograms,
            gram=[gram] if isinstance(gram, str) else list(gram), source=source, map=map,
            resume=resume, overwrite=overwrite,
        )  # fmt: skip
    except BaseException:
        if tracked is not None:
            tracked.remove()
        raise


def merge_statistics(
    files: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str]
) -> None:
    """Writes to `out` what one collection would have seen of all of `files`, of the same model.

    Raises mezzotint.Error for files of other models, steps, inputs or kinds.
    """
    names = [os.fspath(file) for file in files]
    if len(names) < 2:
        raise ValueError(f"files: expected two or more, got {len(names)}")
    _core.merge_statistics(names, os.fspath(out))


class Collection:
    """What collect() returns. ``save()`` writes, ``close()`` ends it without; as a context manager it
    does both, but for the former where the block raises."""

    def __init__(
        self, model: nn.Module, file: str | os.PathLike[str], tracked: TimestepTracker | None, *,
        steps: int | None, tokens: int, histograms: bool, gram: list[str], source: Any,
        map: LinearMap | None, resume: bool, overwrite: bool,
    ) -> None:  # fmt: skip
        self.file = Path(file)
        self._check_file(resume, overwrite)
        linears = find_linears(model, map)
        self._check_linears(model, linears)
        self._names = [linear.name for linear in linears]
        self._tracked = tracked
        self._steps = steps if steps is not None or tracked else 1
        self._options = (tokens, histograms, gram)
        self._earlier = os.fspath(self.file) if resume and self.file.exists() else None
        self._identity = identity_of(model) if source is None else _core.file_identity(os.fspath(source))
        self._collector: _core.Collector | None = None
        self._inputs: dict[str, int] = {}  # of linears that read first
        self._shared: dict[str, str] = {}  # of the others: which one reads their input first
        self._alive: dict[int, tuple[weakref.ref, int, str]] = {}  # tensors, by id
        if not tracked:
            self._start()
        self._handles = [
            linear.module.register_forward_pre_hook(_BeforeLinear(self, linear.name), with_kwargs=True)
            for linear in linears
        ]

    def _check_file(self, resume: bool, overwrite: bool) -> None:
        if self.file.suffix != ".safetensors":
            raise ValueError(f"file: expected a name that ends in .safetensors, got {self.file}")
        if not self.file.parent.is_dir():
            raise FileNotFoundError(f"file: there is no folder {self.file.parent}")
        if self.file.exists() and not (resume or overwrite):
            raise FileExistsError(
                f"{self.file} exists: resume=True goes on from it, overwrite=True starts again"
            )

    def _check_linears(self, model: nn.Module, linears: list) -> None:
        for name, module in model.named_modules():
            if isinstance(module, QuantLinear):
                raise ValueError(f"statistics are of a float model: layer {name} is quantized")
        if not linears:
            raise ValueError(f"model: {type(model).__name__} has no linear layer")

    def _start(self) -> None:
        """With the first input: only then the schedule of a pipeline is known."""
        tokens, histograms, gram = self._options
        steps = self._steps if self._steps is not None else self._tracked.steps
        sigmas = self._tracked.sigmas if self._tracked and self._tracked.steps == steps else []
        self._collector = _core.Collector(
            self._identity, steps, sigmas, tokens, histograms, gram, self._names, self._earlier
        )
        for name, readers, k, _ in _core.statistics_inputs(self._earlier) if self._earlier else ():
            self._inputs[name] = self._collector.add_input(name, k)
            self._shared.update((reader, name) for reader in readers if reader != name)

    # --- inputs ----------------------------------------------------------------------------------

    def _see(self, name: str, x: torch.Tensor) -> None:
        if self._collector is None:
            self._start()
        first = self._first_reader(name, x)
        if first != name:
            self._collector.add_reader(self._inputs[first], name)
            return
        code = _DTYPE_CODES.get(x.dtype)
        if code is None or x.is_meta or x.ndim == 0:
            raise TypeError(
                f"x: expected [..., K] of float32, bfloat16 or float16 with bytes, got {x.dtype} "
                f"{list(x.shape)} on {x.device} (layer {name})"
            )
        cols = x.shape[-1]
        rows = x.detach().cpu()
        if not (rows.ndim == 2 and rows.stride(1) == 1 and rows.stride(0) >= cols):
            rows = rows.contiguous()
        stride = rows.stride(0) if rows.ndim == 2 else cols
        if name not in self._inputs:
            self._inputs[name] = self._collector.add_input(name, cols)
        self._collector.see(
            self._inputs[name], rows.data_ptr(), code, rows.numel() // max(cols, 1), cols, stride,
            self._step(), torch_context(),
        )  # fmt: skip

    def _step(self) -> int:
        step = TimestepManager.get_timestep_idx()
        if step is None and self._steps == 1:
            return 0
        if step is None:
            raise RuntimeError(
                f"collect(steps={self._steps}): nobody says which step runs; give the pipeline instead "
                "of its model, or use TimestepManager.step(i)"
            )
        return step

    def _first_reader(self, name: str, x: torch.Tensor) -> str:
        """Which linear read this very tensor first: `name`, where none did."""
        version = 0 if x.is_inference() else x._version
        known = self._alive.get(id(x))
        read_before = known is not None and known[0]() is x and known[1] == version
        expected = self._shared.get(name)
        if read_before and (expected == known[2] or (expected is None and name not in self._inputs)):
            self._shared[name] = known[2]
            return known[2]
        if expected is not None:
            raise RuntimeError(
                f"layer {name} shared its input with {expected} so far and reads another tensor now: "
                "the statistics cannot tell the two apart\n"
                f"  fix: collect {name} by itself, from a copy of the model without {expected}"
            )
        if not read_before:
            forget = weakref.ref(x, lambda _, key=id(x): self._alive.pop(key, None))
            self._alive[id(x)] = (forget, version, name)
        return name

    # --- the file --------------------------------------------------------------------------------

    @property
    def inputs(self) -> list[tuple[str, list[str], int, int]]:
        """What was seen so far: name, linears that read it, K and rows of every input."""
        return [] if self._collector is None else self._collector.inputs()

    def save(self) -> None:
        """Writes what was seen so far, in place of `file`."""
        if self._collector is None or not self._collector.inputs():
            raise RuntimeError("collect: the model did not run, there is nothing to write")
        self._collector.write(os.fspath(self.file))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._tracked is not None:
            self._tracked.remove()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, kind: Any, *exception: Any) -> None:
        self.close()
        if kind is None:
            self.save()


class _BeforeLinear:
    def __init__(self, collection: Collection, name: str) -> None:
        self._collection = collection
        self._name = name

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(x, torch.Tensor):
            self._collection._see(self._name, x)
