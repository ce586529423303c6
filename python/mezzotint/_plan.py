"""What quantize_model() is asked to do, and which layers and attentions that means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from mezzotint import _core
from mezzotint._attention_choice import find_attentions
from mezzotint._linears import FoundLinear, LinearMap, find_linears
from mezzotint._presets import choose_preset
from mezzotint._tensors import from_bytes
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.modules import QuantLinear
from mezzotint.report import LayerReport, Report

Rules = Mapping[str, str] | Sequence[tuple[str, str]]

_LARGEST_RANK = 4096  # of --svd-rank, too


@dataclass
class Wishes:
    """Arguments of quantize_model(), which explains them."""

    algo: str = ""
    rules: Rules = ()
    exclude: Iterable[str] = ()
    group_size: int = 0
    svd_rank: int = 0
    preset: str = "auto"
    attention: str = ""
    upstream: bool = False


class Plan:
    """For one model, which may be on the meta device and is not changed."""

    def __init__(self, model: nn.Module, wishes: Wishes, map: LinearMap | None = None) -> None:
        _check(wishes)
        self.wishes = wishes
        self.linears = find_linears(model, map)
        preset = choose_preset(wishes.preset, [name for name, _ in model.named_parameters()])
        self._attentions = (
            list(find_attentions(model, wishes.attention, preset)) if wishes.attention else []
        )
        self._rotating = {name: _rotating(name, dim) for name, _, dim in self._attentions}
        rules = wishes.rules
        self.rules = [
            _checked_rule(rule) for rule in (rules.items() if isinstance(rules, Mapping) else rules)
        ]
        self.exclude = [wishes.exclude] if isinstance(wishes.exclude, str) else list(wishes.exclude)
        slots = [linear.slot() for linear in self.linears]
        choices = _core.choose_algorithms(
            slots, wishes.algo, self.rules, self.exclude, wishes.svd_rank, preset.kept if preset else None
        )
        self._choices = dict(zip((linear.name for linear in self.linears), choices, strict=True))

    @property
    def chosen(self) -> list[FoundLinear]:
        """Those that do not stay float."""
        return [linear for linear in self.linears if self._choices[linear.name][0]]

    @property
    def kept_by_preset(self) -> list[str]:
        return [name for name, (_, reason) in self._choices.items() if reason.startswith("preset ")]

    def quantized(self, linear: FoundLinear) -> QuantLinear:
        """`linear` has its weight, whatever the model's is."""
        algorithm, _ = self._choices[linear.name]
        wishes = self.wishes
        return linear.quantized(algorithm, wishes.group_size, wishes.svd_rank, wishes.upstream)

    def report(self, replaced: Mapping[str, QuantLinear]) -> Report:
        rows = []
        for linear in self.linears:
            algorithm, reason = self._choices[linear.name]
            after = replaced[linear.name].nbytes if algorithm else linear.bytes
            rows.append(
                (linear.name, algorithm or "FLOAT", reason, *linear.weight.shape, linear.bytes, after)
            )
        report = report_of(rows + self.attention_rows())
        report.notes += self._notes_on_groups()
        return report

    def _notes_on_groups(self) -> list[str]:
        without: dict[str, int] = {}
        for linear in self.chosen:
            algorithm, _ = self._choices[linear.name]
            group = _core.wanted_group(algorithm, self.wishes.group_size)
            if group and linear.weight.shape[1] % group:
                without[algorithm] = without.get(algorithm, 0) + 1
        return [
            f"{algorithm}: {count} layers have one scale per row, as K is no multiple of the group size"
            for algorithm, count in without.items()
        ]

    def attention_rows(self) -> list[tuple]:
        return [attention_row(name, attention) for name, attention in self._rotating.items()]

    def add_attentions(self, report: Report) -> None:
        """Into the model."""
        for name, module, _ in self._attentions:
            add_fa_quant(module, self._rotating[name], strict=True, report=report)


def _check(wishes: Wishes) -> None:
    if not isinstance(wishes.algo, str):
        raise TypeError(f"algo: expected the name of an algorithm, got {wishes.algo!r}")
    size = wishes.group_size
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 63:
        raise ValueError(f"group_size: expected a whole number, 0 or more, got {size!r}")
    check_svd_rank(wishes.svd_rank)


def check_svd_rank(rank: object) -> None:
    """0: the default."""
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 <= rank <= _LARGEST_RANK:
        raise ValueError(f"svd_rank: expected a whole number from 1 to {_LARGEST_RANK}, got {rank!r}")


def _checked_rule(rule: object) -> tuple[str, str]:
    if not isinstance(rule, str) and len(pair := tuple(rule)) == 2:
        if all(isinstance(part, str) for part in pair):
            return pair
    raise TypeError(f"rules: expected pairs (pattern, algorithm), got {rule!r}")


def attention_row(name: str, attention: FP8Attention) -> tuple:
    dim, nbytes = len(attention.q_rot), attention.q_rot.nbytes + attention.k_rot.nbytes
    return name, "FP8_DYNAMIC", "", dim, dim, 0, nbytes


def report_of(rows: list[tuple]) -> Report:
    return Report([LayerReport(*row) for row in rows], summary=_core.summary(rows))


def _rotating(name: str, head_dim: int) -> FP8Attention:
    """With the rotation that an export writes."""
    rotation = from_bytes(*_core.make_rotation(head_dim))
    return FP8Attention(name, rotation, rotation.clone())
