"""Loads the shipped folder and samples from it: Euler steps and classifier-free guidance."""

import dataclasses
import json
import pathlib

import torch

import dataset
import safetensors_io
from tinyflux import FluxConfig, TinyFlux, rope_tables


def load_transformer(folder):
    """A diffusers folder -> TinyFlux with f32 weights."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    fields = {field.name for field in dataclasses.fields(FluxConfig)}
    values = {key: value for key, value in config.items() if key in fields}
    values["axes_dims_rope"] = tuple(values["axes_dims_rope"])
    model = TinyFlux(FluxConfig(**values))
    tensors, _ = safetensors_io.read_transformer(folder)
    state = {n: torch.from_numpy(safetensors_io.to_float32(t)) for n, t in tensors.items()}
    model.load_state_dict(state)
    return model.eval()


@dataclasses.dataclass
class Prompts:
    """states [n, 16, 384], pooled [n, 768] and those of the null prompt, without the n."""

    states: torch.Tensor
    pooled: torch.Tensor
    null_states: torch.Tensor
    null_pooled: torch.Tensor

    def rows(self, index):
        return dataclasses.replace(self, states=self.states[index], pooled=self.pooled[index])


def load_prompts(path):
    """Reads DEMO/prompts.safetensors, or the cache's prompts_all.safetensors (null prompt last)."""
    tensors, _ = safetensors_io.read(path)
    parts = {n: torch.from_numpy(safetensors_io.to_float32(t)) for n, t in tensors.items()}
    if "null_states" not in parts:
        for name in ("states", "pooled"):
            parts["null_" + name], parts[name] = parts[name][-1], parts[name][:-1]
    return Prompts(**parts)


def sigmas(steps):
    """1, 1 - 1/n, ..., 1/n, 0 (static shift 1)."""
    return torch.cat([torch.linspace(1, 1 / steps, steps), torch.zeros(1)])


@torch.no_grad()
def sample(model, prompts, noise, steps, guidance, on_step=lambda index: None):
    """noise [n, 64, 64] -> tokens [n, 64, 64]. v = v_null + guidance (v_prompt - v_null)."""
    n = len(noise)
    states = torch.cat([prompts.states, prompts.null_states.expand(n, -1, -1)])
    pooled = torch.cat([prompts.pooled, prompts.null_pooled.expand(n, -1)])
    side = dataset.IMAGE_SIZE // (2 * dataset.UNSHUFFLE)
    rope = rope_tables(model.config, dataset.TEXT_TOKENS, side, side)
    sigma, x = sigmas(steps), noise
    for i in range(steps):
        on_step(i)
        t = sigma[i].expand(2 * n)
        with_prompt, without = model(torch.cat([x, x]), states, pooled, t, rope).chunk(2)
        x = x + (sigma[i + 1] - sigma[i]) * (without + guidance * (with_prompt - without))
    return x
