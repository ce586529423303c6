"""quantize_model() with statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mezzotint import _core
from mezzotint._linears import FoundLinear
from mezzotint._plan import Plan
from mezzotint._tensors import to_tuple
from mezzotint._threads import torch_context
from mezzotint.modules import QuantLinear
from mezzotint.quantization import finish
from mezzotint.report import Report


def identity_of(model: nn.Module) -> str:
    """The identity of the files that this model would be saved as."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, torch.Tensor) and not tensor.is_meta
    }
    return _core.model_identity([(name, to_tuple(t)) for name, t in tensors.items()])


@dataclass(frozen=True)
class Calibration:
    """How statistics are used: arguments of quantize_model()."""

    stats: str
    range: str
    smooth: bool
    gptq: bool
    act_order: str
    static_tolerance: float | None

    def values(self, identity: str) -> tuple[str, str, str, bool, bool, str, float | None]:
        """In the order of _core.ModelQuantizer; the identity of the model is the second one."""
        return (
            self.stats, identity, self.range, self.smooth, self.gptq, self.act_order,
            self.static_tolerance,
        )  # fmt: skip


class CalibratedPlan:
    """The same plan, where statistics say how."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        self._model = model
        self._plan = plan
        self._linears = plan.linears
        wishes = plan.wishes
        patterns = [*plan.exclude, *plan.kept_by_preset]
        self._selection = (
            wishes.algo, plan.rules, patterns, wishes.group_size, wishes.svd_rank, wishes.upstream,
        )  # fmt: skip

    def apply(self, how: Calibration) -> nn.Module:
        tensors = [pair for linear in self._linears for pair in _tensors_of(linear)]  # C++ borrows
        quantizer = _core.ModelQuantizer(
            [(name, to_tuple(tensor)) for name, tensor in tensors],
            [linear.slot() for linear in self._linears], *self._selection,
            how.values(identity_of(self._model)), torch_context(),
        )  # fmt: skip
        replaced, rows = {}, []
        for linear, (algorithm, reason) in zip(self._linears, quantizer.choices, strict=True):
            after, sqnr_db = linear.bytes, 0.0
            if algorithm:
                _require_bytes(linear)
                held, sqnr_db = quantizer.layer(linear.name)
                replaced[linear.name] = QuantLinear(*held)
                after = replaced[linear.name].nbytes
            row = (linear.name, algorithm or "FLOAT", reason, *linear.weight.shape, linear.bytes, after)
            rows.append((*row, sqnr_db))
        parts = {"layers": rows, "unmatched": [], "notes": quantizer.notes}
        parts["summary"] = _core.summary([row[:7] for row in rows])
        return finish(self._model, self._linears, replaced, Report._of(parts), None)


def _tensors_of(linear: FoundLinear) -> list[tuple[str, torch.Tensor]]:
    """As a file would hold them; none on the meta device."""
    named = [("weight", linear.weight), ("bias", linear.bias)]
    return [
        (f"{linear.name}.{key}", tensor.detach().cpu().contiguous())
        for key, tensor in named
        if tensor is not None and not tensor.is_meta
    ]


def _require_bytes(linear: FoundLinear) -> None:
    if linear.weight.is_meta:
        raise ValueError(f"layer {linear.name} is on the meta device: there is no weight to quantize")
