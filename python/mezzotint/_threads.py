"""The context of calls that take torch's tensors."""

from __future__ import annotations

import functools

import torch

from mezzotint import _core

_context = functools.cache(_core.Context)
_env_threads = functools.cache(_core.env_threads)  # MEZZOTINT_NUM_THREADS, or None


def torch_context() -> _core.Context:
    """torch's own threads, as many as torch uses (torch.set_num_threads); the environment wins."""
    return _context(_env_threads() or torch.get_num_threads())
