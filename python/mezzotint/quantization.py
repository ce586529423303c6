"""quantize(): files into any nn.Module. quantize_model(): the same without files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mezzotint import _core
from mezzotint._arguments import one_of, reject_unknown
from mezzotint._meta import MetaTensors
from mezzotint._tensors import from_bytes, to_tuple
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.linear import default_context
from mezzotint.modules import QuantLinear
from mezzotint.report import Report
from mezzotint.timestep import TimestepPolicyConfig

Path = str | os.PathLike[str]
Weights = tuple[torch.Tensor, torch.Tensor | None]
LinearMap = Mapping[type[nn.Module], Callable[[nn.Module], Weights]]
Rules = Mapping[str, str] | Sequence[tuple[str, str]]

_OTHER_NAMES = {"quant_des_path": "quant_json_path", "timestep_config": "timestep_policy"}
_PARAMETERS = (
    "quant_json_path", "timestep_policy", "dtype", "map", "strict", "compat", *_OTHER_NAMES,
)  # fmt: skip
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def quantize(
    model: nn.Module,
    quant_json_path: Path | None = None,
    *,
    timestep_policy: TimestepPolicyConfig | None = None,
    dtype: torch.dtype | None = None,
    map: LinearMap | None = None,
    strict: bool = True,
    compat: str | None = None,
    **other_names: object,
) -> nn.Module:
    """Puts the layers of a quantized folder, or descriptor, into a model, and returns the model.

    model
        Any nn.Module, in place; also one on the meta device, whose remaining parameters then come
        from the same folder. When this raises, the model is as it was.
    quant_json_path
        The descriptor or its folder. ``quant_des_path`` is another name.
    timestep_policy
        Of W8A8_TIMESTEP layers. Default: what the descriptor says, else every step is dynamic.
        ``timestep_config`` is another name.
    dtype
        Layers round x to it, as upstream does; parameters that come from the folder are converted
        to it. Default: x and the parameters as they are. The result has the dtype of x.
    map
        ``{UserClass: fn(module) -> (weight, bias or None)}`` for linears of other classes.
    strict
        False: what would be an error (an entry without a layer, an algorithm that is not served)
        is listed in the report, and attention that is called with another mask than a padding
        mask is left float.
    compat
        "upstream": its results bit for bit where they are known (docs/compatibility.md). Slow.

    Prints one line; ``model.mezzotint_report`` says what became of every layer.
    """
    reject_unknown("quantize", other_names, _PARAMETERS, _OTHER_NAMES)
    path = one_of("quant_json_path", quant_json_path, "quant_des_path", other_names)
    policy = one_of("timestep_policy", timestep_policy, "timestep_config", other_names)
    check_arguments(model, path, policy, dtype, compat)
    options = LoadOptions(policy, dtype, map, strict, compat == "upstream")
    return load_into(model, path, options, Classes())


@dataclass
class LoadOptions:
    policy: TimestepPolicyConfig | None = None
    dtype: torch.dtype | None = None
    map: LinearMap | None = None
    strict: bool = True
    upstream: bool = False


@dataclass(frozen=True)
class Classes:
    """What stands in for the layers: ``linear(layer, parts, dtype=, policy=)`` and
    ``attention(name, q_rot, k_rot)``."""

    linear: Callable[..., QuantLinear] = QuantLinear
    attention: Callable[..., FP8Attention] = FP8Attention


def load_into(
    model: nn.Module, path: Path, options: LoadOptions, classes: Classes
) -> nn.Module:
    """quantize() with checked arguments."""
    linears = find_linears(model, options.map)
    modules = {name: module for name, module in model.named_modules() if name}
    rank = _distributed_rank()
    parts, layers, attentions = _core.load_model(
        [linear.slot() for linear in linears],
        list(modules),
        os.fspath(path),
        options.strict,
        rank,
        None if options.policy is None else options.policy.text(),
        options.upstream,
        default_context(),
    )
    report = Report._of(parts)
    replaced = {
        layer.name: classes.linear(layer, buffers, dtype=options.dtype, policy=options.policy)
        for layer, buffers in layers
    }
    rotating = [
        classes.attention(name, *(from_bytes(*rotation).clone() for rotation in rotations))
        for name, *rotations in attentions
    ]
    finish(model, linears, replaced, report, MetaTensors(path, rank, options.dtype))
    for attention in rotating:
        add_fa_quant(
            modules[attention.name], attention, strict=options.strict, report=report
        )
    return model


def quantize_model(
    model: nn.Module,
    *,
    algo: str = "",
    rules: Rules = (),
    exclude: Iterable[str] = (),
    group_size: int = 0,
    map: LinearMap | None = None,
    compat: str | None = None,
    stats: Path | None = None,
    range: str = "mse",
    smooth: bool = True,
    gptq: bool = False,
) -> nn.Module:
    """Quantizes the linears of a float model in memory, in place, and returns the model.

    ``exclude`` wins, then the first of ``rules`` (pattern, algorithm or "float"), then ``algo``;
    layers with fewer than 32 input features stay float unless a rule names them. Patterns are globs
    over layer names ("*" crosses dots) or "re:..."; one that matches nothing is an error.

    stats
        What collect() wrote of this very model: for algorithms that need statistics, and for better
        results with the others. ``range`` (of static scales: "mse", "minmax" or "percentile"),
        ``smooth`` (whether outliers of activations may move into weights) and ``gptq`` (error feedback
        for every algorithm) say how they are used, as ``mezzotint quantize`` does.
    """
    _check_model(model)
    _check_compat(compat)
    if stats is not None:
        from mezzotint._calibrated import CalibratedPlan

        plan = CalibratedPlan(model, algo, rules, exclude, group_size, map, compat == "upstream")
        return plan.apply(os.fspath(stats), range, smooth, gptq)
    linears = find_linears(model, map)
    pairs = list(rules.items() if isinstance(rules, Mapping) else rules)
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
    if not algo and not pairs:
        raise TypeError("quantize_model: give algo=, rules= or both (mezzotint list-algorithms)")
    slots = [linear.slot() for linear in linears]
    choices = _core.choose_algorithms(slots, algo, pairs, exclude)
    replaced, rows = {}, []
    for linear, (algorithm, reason) in zip(linears, choices, strict=True):
        after = linear.bytes
        if algorithm:
            quantized = linear.quantized(algorithm, group_size, compat == "upstream")
            replaced[linear.name] = quantized
            after = quantized.nbytes
        shape = linear.weight.shape
        rows.append(
            (linear.name, algorithm or "FLOAT", reason, *shape, linear.bytes, after)
        )
    parts = {"layers": rows, "unmatched": [], "notes": [], "summary": _core.summary(rows)}
    return finish(model, linears, replaced, Report._of(parts), None)


@dataclass
class FoundLinear:
    """A float linear of a model, of whatever class."""

    name: str
    module: nn.Module
    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def bytes(self) -> int:
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def slot(self) -> tuple[str, int, int, bool, int]:
        return (self.name, *self.weight.shape, self.bias is not None, self.bytes)

    def quantized(self, algorithm: str, group_size: int, upstream: bool) -> QuantLinear:
        if self.weight.is_meta:
            raise ValueError(
                f"layer {self.name} is on the meta device: there is no weight to quantize"
            )
        weight = self.weight.detach().cpu().contiguous()
        bias = None if self.bias is None else self.bias.detach().cpu().contiguous()
        return QuantLinear(*_core.Layer.from_float(
            self.name, algorithm, to_tuple(weight), None if bias is None else to_tuple(bias),
            group_size, upstream, default_context(),
        ))  # fmt: skip


def find_linears(model: nn.Module, map: LinearMap | None) -> list[FoundLinear]:
    _check_map(map)
    found: list[FoundLinear] = []
    inside: tuple[str, ...] = ()  # of modules that map= takes as a whole
    for name, module in model.named_modules():
        if not name or name.startswith(inside or "\0"):
            continue
        weights = _mapped_weights(module, map, name)
        if weights is not None:
            inside = (*inside, name + ".")
        elif isinstance(module, nn.Linear):
            weights = (module.weight, module.bias)
        else:
            continue
        found.append(FoundLinear(name, module, *weights))
    return found


def _mapped_weights(module: nn.Module, map: LinearMap | None, name: str) -> Weights | None:
    for cls, weights_of in (map or {}).items():
        if not isinstance(module, cls):
            continue
        weights = weights_of(module)
        right = isinstance(weights, tuple) and len(weights) == 2
        if not right or not isinstance(weights[0], torch.Tensor) or weights[0].ndim != 2:
            raise TypeError(
                f"map[{cls.__name__}]: expected (weight [out, in], bias or None) of layer {name}, "
                f"got {_described(weights)}"
            )
        return weights
    return None


def finish(
    model: nn.Module,
    linears: list[FoundLinear],
    replaced: dict[str, QuantLinear],
    report: Report,
    meta: MetaTensors | None,
) -> nn.Module:
    """Nothing is changed before everything is there."""
    by_module = {}
    for linear in linears:
        quantized = replaced.get(linear.name)
        if quantized is not None:
            quantized.training = linear.module.training
            by_module[id(linear.module)] = quantized
    if meta is not None:
        meta.read(model, by_module)
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if id(child) in by_module:
                module._modules[name] = by_module[id(child)]
    if meta is not None:
        meta.put()
    model.mezzotint_report = report
    print(f"mezzotint: {report.summary}")
    return model


# --- arguments ---------------------------------------------------------------------------------------


def check_arguments(
    model: object, path: object, policy: object, dtype: object, compat: object
) -> None:
    _check_model(model)
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(
            f"quant_json_path: expected the path of a descriptor or of its folder, got {path!r}"
        )
    if policy is not None and not isinstance(policy, TimestepPolicyConfig):
        found = type(policy).__name__
        raise TypeError(f"timestep_policy: expected a TimestepPolicyConfig, got {found}")
    if dtype is not None and dtype not in _FLOATS:
        raise ValueError(
            f"dtype: expected torch.float32, torch.bfloat16, torch.float16 or None, got {dtype!r}"
        )
    _check_compat(compat)


def _check_model(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")


def _check_compat(compat: object) -> None:
    if compat not in (None, "none", "upstream"):
        raise ValueError(f"compat: expected 'upstream' or None, got {compat!r}")


def _check_map(map: LinearMap | None) -> None:
    for cls, weights_of in (map or {}).items():
        if not isinstance(cls, type) or not issubclass(cls, nn.Module):
            raise TypeError(f"map: expected classes of modules as keys, got {cls!r}")
        if not callable(weights_of):
            raise TypeError(
                f"map[{cls.__name__}]: expected fn(module) -> (weight, bias), got {weights_of!r}"
            )


def _described(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(_described(item) for item in value)})"
    return type(value).__name__


def _distributed_rank() -> int | None:
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank() if distributed.get_world_size() > 1 else None
