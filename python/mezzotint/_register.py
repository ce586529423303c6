"""mezzotint.diffusers, as soon as diffusers is imported: it has no entry points for quantizers."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from typing import Any

_REGISTRY = "diffusers.quantizers.auto"


def register() -> None:
    if _REGISTRY in sys.modules:
        _import_ours()
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds what the others find, and lets ours follow the registry's module."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != _REGISTRY:
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
            _import_ours()

        loader.exec_module = exec_module


def _import_ours() -> None:
    try:
        importlib.import_module("mezzotint.diffusers")
    except ImportError as error:  # diffusers itself must go on
        warnings.warn(f"mezzotint: this diffusers cannot use it: {error}", stacklevel=2)
