"""install_as(): our upstream-shaped package under upstream's name."""

from __future__ import annotations

import importlib
import pkgutil
import sys


def install_as(name: str = "mindiesd") -> None:
    """From here on ``import NAME`` gives mezzotint.mindiesd, for unmodified scripts.

    Only on request, and before anything of that name is imported.
    """
    if not name.isidentifier():
        raise ValueError(f"install_as: expected the name of a package, got {name!r}")
    package = importlib.import_module("mezzotint.mindiesd")
    there = sys.modules.get(name)
    if there is not None and there is not package:
        raise ImportError(
            f"install_as: {name} is imported already, from {getattr(there, '__file__', None)}; "
            "call install_as() before the first import"
        )
    sys.modules[name] = package
    for module in pkgutil.walk_packages(package.__path__, "mezzotint.mindiesd."):
        importlib.import_module(module.name)
        alias = name + module.name.removeprefix("mezzotint.mindiesd")
        sys.modules[alias] = sys.modules[module.name]
