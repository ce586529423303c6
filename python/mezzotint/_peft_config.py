"""Every LoraConfig of peft knows quantized layers: also those that diffusers' load_lora_weights() makes.

peft looks up classes of others in each configuration; there is no place for all of them.
"""

from __future__ import annotations

import functools
from typing import Any

from peft.tuners.lora.config import LoraConfig

from mezzotint._peft import register_peft

_post_init = LoraConfig.__post_init__


@functools.wraps(_post_init)
def _post_init_and_register(self: Any) -> None:
    _post_init(self)
    register_peft(self)


LoraConfig.__post_init__ = _post_init_and_register
