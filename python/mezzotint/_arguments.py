"""Keyword arguments under two names, and suggestions for those under none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mezzotint import _core


def reject_unknown(
    function: str, given: Mapping[str, object], known: Iterable[str], other_names: Iterable[str]
) -> None:
    for name in given:
        if name not in other_names:
            hint = _core.did_you_mean(name, sorted(known), 1)
            raise TypeError(f"{function}() has no argument {name!r}; {hint}")


def one_of(name: str, value: object, other: str, given: Mapping[str, object]) -> object:
    """The value of an argument that may come under either name."""
    if given.get(other) is None:
        return value
    if value is not None and value != given[other]:
        raise TypeError(
            f"{name} and {other} are two names of one argument: got {value!r} and {given[other]!r}"
        )
    return given[other]
