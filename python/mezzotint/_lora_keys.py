"""Which linears of a model the keys of a LoRA file belong to, whoever wrote it.

    transformer.blocks.0.attn.to_q.lora_A.weight            diffusers
    base_model.model.blocks.0.attn.to_q.lora_A.weight       peft
    lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight kohya, on the model's original names
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

_PREFIXES = ("base_model.model.", "transformer.", "diffusion_model.", "unet.", "model.")
_KOHYA_PREFIXES = ("lora_unet_", "lora_transformer_")
_TEXT_ENCODERS = ("text_encoder", "lora_te", "te1.", "te2.", "cond_stage_model")
OF_TEXT_ENCODER = "of a text encoder"
_SUFFIX = re.compile(
    r"^(?P<layer>.+?)\.(?:(?P<down>lora_A|lora_down|lora\.down|down)|(?P<up>lora_B|lora_up|lora\.up|up))"
    r"(?:\.[A-Za-z0-9_]+)?\.weight$"
)
_ALPHA = re.compile(r"^(?P<layer>.+?)(?:\.lora(?:_A|_down|\.down)?)?\.(?:alpha|network_alpha)$")
_OTHER_FORMS = ("dora_scale", "lora_magnitude_vector", "hada_w", "lokr_", "lora_mid", "lora_bias")

# FLUX.1's original names, as kohya, ComfyUI and others write them. Where the original is one fused
# linear, diffusers has several, whose rows follow one another.
_FLUX = [
    (r"double_blocks[._](\d+)[._]img_attn[._]qkv", "transformer_blocks.{}.attn",
     ["to_q", "to_k", "to_v"]),
    (r"double_blocks[._](\d+)[._]txt_attn[._]qkv", "transformer_blocks.{}.attn",
     ["add_q_proj", "add_k_proj", "add_v_proj"]),
    (r"double_blocks[._](\d+)[._]img_attn[._]proj", "transformer_blocks.{}.attn", ["to_out.0"]),
    (r"double_blocks[._](\d+)[._]txt_attn[._]proj", "transformer_blocks.{}.attn", ["to_add_out"]),
    (r"double_blocks[._](\d+)[._]img_mlp[._]0", "transformer_blocks.{}.ff", ["net.0.proj"]),
    (r"double_blocks[._](\d+)[._]img_mlp[._]2", "transformer_blocks.{}.ff", ["net.2"]),
    (r"double_blocks[._](\d+)[._]txt_mlp[._]0", "transformer_blocks.{}.ff_context", ["net.0.proj"]),
    (r"double_blocks[._](\d+)[._]txt_mlp[._]2", "transformer_blocks.{}.ff_context", ["net.2"]),
    (r"double_blocks[._](\d+)[._]img_mod[._]lin", "transformer_blocks.{}.norm1", ["linear"]),
    (r"double_blocks[._](\d+)[._]txt_mod[._]lin", "transformer_blocks.{}.norm1_context", ["linear"]),
    (r"single_blocks[._](\d+)[._]linear1", "single_transformer_blocks.{}",
     ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]),
    (r"single_blocks[._](\d+)[._]linear2", "single_transformer_blocks.{}", ["proj_out"]),
    (r"single_blocks[._](\d+)[._]modulation[._]lin", "single_transformer_blocks.{}.norm", ["linear"]),
]  # fmt: skip


@dataclass
class Factors:
    """The tensors of one layer of a file, under the name the file gives it."""

    layer: str
    keys: list[str] = field(default_factory=list)
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    alpha: float | None = None


def factors_of(state_dict: Mapping[str, torch.Tensor]) -> tuple[list[Factors], dict[str, str]]:
    """By layer, and the keys that are none of these, with the reason."""
    layers: dict[str, Factors] = {}
    others: dict[str, str] = {}
    for key, tensor in state_dict.items():
        suffix, alpha = _SUFFIX.match(key), _ALPHA.match(key)
        if key.startswith(_TEXT_ENCODERS):
            others[key] = OF_TEXT_ENCODER
        elif any(form in key for form in _OTHER_FORMS) or not (suffix or alpha):
            others[key] = "no plain LoRA factor (DoRA, LoHa, LoKr and biases are not served)"
        elif suffix:
            known = layers.setdefault(suffix["layer"], Factors(suffix["layer"]))
            known.keys.append(key)
            if suffix["down"]:
                known.down = _as_matrix(tensor)
            else:
                known.up = _as_matrix(tensor)
        else:
            known = layers.setdefault(alpha["layer"], Factors(alpha["layer"]))
            known.keys.append(key)
            known.alpha = float(tensor)
    return list(layers.values()), others


def _as_matrix(tensor: torch.Tensor) -> torch.Tensor:
    """Some files store linears as 1 x 1 convolutions."""
    return tensor.flatten(1) if tensor.ndim > 2 and tensor[0, 0].numel() == 1 else tensor


def targets_of(layer: str, names: Iterable[str]) -> list[str]:
    """The linears among `names` that a layer of a file stands for, in the order of their rows; []: none."""
    names = set(names)
    for bare in _without_prefixes(layer):
        if bare in names:
            return [bare]
        flat = bare.replace(".", "_")
        fitting = [name for name in names if name.replace(".", "_") == flat]
        if fitting:
            return fitting[:1]
        for pattern, parent, members in _FLUX:
            found = re.fullmatch(pattern, bare)
            targets = [f"{parent.format(*found.groups())}.{member}" for member in members] if found else []
            if targets and names.issuperset(targets):
                return targets
    return []


def _without_prefixes(layer: str) -> list[str]:
    """The name, and what is left of it without one prefix after the other."""
    for prefix in _KOHYA_PREFIXES:
        if layer.startswith(prefix):
            return [layer.removeprefix(prefix)]
    bare, forms = layer, [layer]
    while True:
        prefix = next((p for p in _PREFIXES if bare.startswith(p)), None)
        if prefix is None:
            return forms
        bare = bare.removeprefix(prefix)
        forms.append(bare)


_FUSED = {
    "to_qkv": ("to_q", "to_k", "to_v"),
    "to_kv": ("to_k", "to_v"),
    "to_added_qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
}


def fused_with(layer: str, names: Iterable[str]) -> str | None:
    """The linear of the model that holds a layer fused with others: attn.to_qkv for attn.to_q."""
    names = set(names)
    for bare in _without_prefixes(layer):
        parent, dot, leaf = bare.rpartition(".")
        for fused, members in _FUSED.items():
            if leaf in members and f"{parent}{dot}{fused}" in names:
                return f"{parent}{dot}{fused}"
    return None
