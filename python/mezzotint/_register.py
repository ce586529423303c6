"""What mezzotint adds to diffusers and to peft, as soon as they are imported: they have no entry points."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from typing import Any

# Module of theirs that must be there: module of ours that follows it.
_FOLLOWERS = {
    "diffusers.quantizers.auto": "mezzotint.diffusers",
    "diffusers.loaders.lora_pipeline": "mezzotint._diffusers_lora",
    "peft.tuners.lora.config": "mezzotint._peft_config",
}


def register() -> None:
    for theirs, ours in _FOLLOWERS.items():
        if theirs in sys.modules:
            _import_ours(ours)
        else:
            sys.meta_path.insert(0, _Finder(theirs, ours))


class _Finder:
    """Finds what the others find, and lets ours follow their module."""

    def __init__(self, theirs: str, ours: str) -> None:
        self._theirs = theirs
        self._ours = ours

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._theirs:
            return None
        others = (finder for finder in list(sys.meta_path) if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            sys.meta_path.remove(self)
            _import_ours(self._ours)

        loader.exec_module = exec_module


def _import_ours(ours: str) -> None:
    try:
        importlib.import_module(ours)
    except ImportError as error:  # theirs must go on
        warnings.warn(f"mezzotint: this {_library(ours)} cannot use it: {error}", stacklevel=2)


def _library(ours: str) -> str:
    return next(theirs.partition(".")[0] for theirs, name in _FOLLOWERS.items() if name == ours)
