"""quantize(): files into any nn.Module. quantize_model(): the same without files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from mezzotint import _core
from mezzotint._arguments import one_of, reject_unknown
from mezzotint._linears import FoundLinear, LinearMap, find_linears
from mezzotint._meta import MetaTensors
from mezzotint._plan import Plan, Rules, Wishes
from mezzotint._tensors import from_bytes
from mezzotint._threads import torch_context
from mezzotint.attention import FP8Attention, add_fa_quant
from mezzotint.modules import QuantLinear
from mezzotint.report import LayerReport, Report
from mezzotint.timestep import TimestepPolicyConfig

Path = str | os.PathLike[str]

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
    check_arguments(model, path, policy, dtype, compat, strict)
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
        torch_context(),
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
    _adopt(model)
    return model


def _adopt(model: nn.Module) -> None:
    """So that save_pretrained() of diffusers' models writes what was done."""
    modeling = sys.modules.get("diffusers.models.modeling_utils")
    if modeling is not None and isinstance(model, modeling.ModelMixin):
        from mezzotint import diffusers

        diffusers.adopt(model)


def quantize_model(
    model: nn.Module,
    *,
    algo: str = "",
    rules: Rules = (),
    exclude: Iterable[str] = (),
    group_size: int = 0,
    svd_rank: int = 0,
    preset: str = "auto",
    attention: str = "",
    map: LinearMap | None = None,
    compat: str | None = None,
    stats: Path | None = None,
    range: str = "mse",
    smooth: bool = True,
    gptq: bool = False,
    act_order: str = "auto",
    static_tolerance: float | None = None,
) -> nn.Module:
    """Quantizes the linears of a float model in memory, in place, and returns the model.

    algo, rules, exclude
        ``exclude`` wins, then the first of ``rules`` (pattern, algorithm or "float"), then what the
        preset keeps float, then ``algo``; layers with fewer than 32 input features stay float unless
        a rule names them. Patterns are globs over layer names ("*" crosses dots) or "re:..."; one
        that matches nothing is an error.
    preset
        What is known of an architecture: "auto" finds it by the names of the parameters.
    attention
        "fp8_dynamic[:PATTERN[:HEAD_DIM]]": which attentions compute on FP8 codes; without a pattern
        all that the preset knows.
    group_size, svd_rank
        Weights per scale (0: the algorithm's default); columns of the low-rank branch of _SVD algorithms
        (1 to 4096, at most the layer's features; 0: 32).
    map, compat
        As of quantize().
    stats
        What collect() wrote of this very model: for algorithms that need statistics, and for better
        results with the others. ``range`` (of static scales: "mse", "minmax" or "percentile"),
        ``smooth`` (whether outliers of activations may move into weights) and ``gptq`` (error feedback
        for every algorithm) say how they are used, as ``mezzotint quantize`` does.
    act_order
        Of error feedback, whether columns with large inputs are rounded first: "auto" (int4 with one
        scale per row), "on" or "off".
    static_tolerance
        Of W8A8_TIMESTEP: a step is static where its error is at most this many times the dynamic one's.
        Default: 1.1; 0: none, a large number: all.
    """
    _check_model(model)
    _check_compat(compat)
    if not (algo or rules or attention):
        raise TypeError(
            "quantize_model: give algo=, rules= or attention= (mezzotint list-algorithms)"
        )
    wishes = Wishes(algo, rules, exclude, group_size, svd_rank, preset, attention, compat == "upstream")
    how = {
        "range": range, "smooth": smooth, "gptq": gptq, "act_order": act_order,
        "static_tolerance": static_tolerance,
    }  # fmt: skip
    _check_calibration(stats, how)
    plan = Plan(model, wishes, map)
    if stats is not None:
        from mezzotint._calibrated import CalibratedPlan, Calibration

        CalibratedPlan(model, plan).apply(Calibration(os.fspath(stats), **how))
        model.mezzotint_report.layers += [LayerReport(*row) for row in plan.attention_rows()]
    else:
        replaced = {linear.name: plan.quantized(linear) for linear in plan.chosen}
        finish(model, plan.linears, replaced, plan.report(replaced), None)
    plan.add_attentions(model.mezzotint_report)
    _adopt(model)
    return model


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
    for linear in linears:
        if id(linear.module) in by_module:
            _move_hooks(linear.module, by_module[id(linear.module)])
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if id(child) in by_module:
                module._modules[name] = by_module[id(child)]
    if meta is not None:
        meta.put()
    model.mezzotint_report = report
    print(f"mezzotint: {report.summary}")
    return model


_HOOKS = (
    "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks",
    "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
)  # fmt: skip


def _move_hooks(before: nn.Module, after: nn.Module) -> None:
    """What a caller registered goes on running; the same dictionaries, from which handles remove.
    Those of torch.nn.utils (weight_norm, ...) make the float weight, and end with it."""
    for name in _HOOKS:
        hooks = getattr(before, name)
        for key in [k for k, hook in hooks.items() if type(hook).__module__.startswith("torch.nn.utils")]:
            del hooks[key]
        setattr(after, name, hooks)


# --- arguments ---------------------------------------------------------------------------------------


_WITHOUT_STATISTICS = {
    "range": "mse", "smooth": True, "gptq": False, "act_order": "auto", "static_tolerance": None,
}  # fmt: skip


def _check_calibration(stats: object, how: dict[str, object]) -> None:
    """What only statistics give a meaning is not ignored without them."""
    tolerance = how["static_tolerance"]
    if tolerance is not None and not isinstance(tolerance, (int, float)):
        raise TypeError(f"static_tolerance: expected a number, got {tolerance!r}")
    if stats is not None:
        return
    given = [name for name, value in how.items() if value != _WITHOUT_STATISTICS[name]]
    if given:
        raise ValueError(
            f"quantize_model: {', '.join(given)} need{'s' if len(given) == 1 else ''} statistics: "
            "give stats=, what mezzotint.collect() wrote"
        )


def check_arguments(
    model: object, path: object, policy: object, dtype: object, compat: object, strict: object
) -> None:
    _check_model(model)
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(
            f"quant_json_path: expected the path of a descriptor or of its folder, got {path!r}"
        )
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"quant_json_path: expected a name in UTF-8, got {path!r}; rename the folder, or link to it"
        ) from None
    if not isinstance(strict, bool):
        raise TypeError(f"strict: expected True or False, got {strict!r}")
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


def _distributed_rank() -> int | None:
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank() if distributed.get_world_size() > 1 else None
