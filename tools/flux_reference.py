"""diffusers' Flux with weights that the C++ tests can make again without a file.

Every parameter is noise (tools/noise.py) whose seed is FNV-1a of its name plus the model's seed:
matrices / sqrt(k), biases * 0.1, norm weights 1 + 0.1 * noise. Twin: src/models/flux_testing.h.
"""

import math

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

from noise import noise


def seed_of(name, seed):
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return (value + seed) % 2**64


def named_noise(name, seed, shape):
    return noise(seed_of(name, seed), 0, math.prod(shape)).reshape(shape)


def random_parameter(name, seed, shape):
    values = named_noise(name, seed, shape)
    if len(shape) == 2:
        return values * np.float32(1 / math.sqrt(shape[1]))
    offset = 1 if name.endswith(".weight") else 0
    return np.float32(offset) + np.float32(0.1) * values


def random_flux(config, seed):
    model = FluxTransformer2DModel(**config).eval()
    state = {
        name: torch.from_numpy(random_parameter(name, seed, tuple(tensor.shape)))
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def grid_ids(text_tokens, rows, cols):
    """(txt_ids, img_ids) of the pipeline: zeros, and (0, row, col) row-major."""
    image = torch.zeros(rows, cols, 3)
    image[..., 1] = torch.arange(rows)[:, None]
    image[..., 2] = torch.arange(cols)[None, :]
    return torch.zeros(text_tokens, 3), image.reshape(-1, 3)


@torch.no_grad()
def velocity(model, latents, states, pooled, timestep, guidance, ids):
    """All f32; timestep [b] in 0 ... 1; guidance [b] or None."""
    txt_ids, img_ids = ids
    return model(
        hidden_states=latents,
        encoder_hidden_states=states,
        pooled_projections=pooled,
        timestep=timestep,
        guidance=guidance,
        txt_ids=txt_ids,
        img_ids=img_ids,
        return_dict=False,
    )[0]


def sample(model, noise_values, positive, negative, ids, steps, cfg_scale, guidance, shift):
    """The loop of diffusers' Flux pipeline with true CFG; two transformer calls a step."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    x = noise_values
    for t in scheduler.timesteps:
        timestep = (t / 1000).expand(len(x))
        embedded = None if guidance is None else torch.full((len(x),), guidance)
        v = velocity(model, x, *positive, timestep, embedded, ids)
        v_negative = velocity(model, x, *negative, timestep, embedded, ids)
        v = v_negative + cfg_scale * (v - v_negative)
        x = scheduler.step(v, t, x, return_dict=False)[0]
    return x
