"""The coloured Fashion-MNIST set: images, prompts and the pixel <-> token layout.

Everything that decides what the demo model sees is in this file. `demo/pixels.json` is written from
these constants, so that other programs need not read Python.
"""

import gzip
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")  # dataset-fashion-mnist of Debian
IMAGE_SIZE = 32  # 28 x 28 with a ring of 2 empty pixels
UNSHUFFLE = 2  # pixels -> latent; Flux' own 2 x 2 packing follows
TEXT_TOKENS = 16

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip
PALETTE = {
    "red": (230, 25, 25),
    "green": (30, 160, 50),
    "blue": (30, 60, 220),
    "yellow": (250, 225, 40),
    "purple": (140, 30, 170),
    "orange": (245, 125, 10),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
COLOR_NAMES = tuple(PALETTE)


def palette_tensor():
    """[8, 3] in [0, 1]."""
    return torch.tensor(list(PALETTE.values()), dtype=torch.float32) / 255


def prompt_index(label, object_color, background_color):
    """Row of a (class, object colour, background colour) triple in `all_prompts`."""
    return (label * 8 + object_color) * 8 + background_color


def prompt_text(label, object_color, background_color):
    def with_article(word):
        return f"an {word}" if word[0] in "aeiou" else f"a {word}"

    color, background = COLOR_NAMES[object_color], COLOR_NAMES[background_color]
    return f"{with_article(color)} {CLASS_NAMES[label]} on {with_article(background)} background"


def all_prompts():
    """640 texts in `prompt_index` order; the 80 with equal colours are never drawn."""
    return [prompt_text(c, o, b) for c in range(10) for o in range(8) for b in range(8)]


def load_split(split, root=FASHION_MNIST):
    """(images uint8 [n, 32, 32] zero padded, labels int64 [n]); split is 'train' or 't10k'."""
    root = pathlib.Path(root)
    with gzip.open(root / f"{split}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(root / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def synthetic_split(count, generator):
    """Rectangles whose size is the label: stands in for the images where they are not installed."""
    labels = torch.randint(0, 10, (count,), generator=generator)
    row = torch.arange(IMAGE_SIZE)
    inside = (row[None, :] - 16).abs() <= (labels[:, None] + 3)
    images = (inside[:, :, None] & inside[:, None, :]).to(torch.uint8) * 200
    return images, labels


def colorize(grey, object_color, background_color):
    """grey [b, 32, 32] in [0, 1] and two colour index vectors -> RGBA [b, 4, 32, 32] in [-1, 1].

    RGB = (1 - grey) background + grey object, A = grey.
    """
    palette = palette_tensor()
    alpha = grey[:, None]
    foreground = palette[object_color][:, :, None, None]
    background = palette[background_color][:, :, None, None]
    rgb = background + alpha * (foreground - background)
    return torch.cat([rgb, alpha], dim=1) * 2 - 1


def to_tokens(images):
    """RGBA [b, 4, 32, 32] -> latent [b, 16, 16, 16] -> tokens [b, 64, 64]."""
    latent = F.pixel_unshuffle(images, UNSHUFFLE)
    return F.pixel_unshuffle(latent, 2).flatten(2).transpose(1, 2).contiguous()


def from_tokens(tokens):
    """Inverse of `to_tokens`."""
    side = IMAGE_SIZE // (2 * UNSHUFFLE)
    packed = tokens.transpose(1, 2).unflatten(2, (side, side))
    return F.pixel_shuffle(F.pixel_shuffle(packed, 2), UNSHUFFLE)


def measure_colors(images):
    """RGBA [b, 4, 32, 32] in [-1, 1] -> (object index, background index), each [b].

    background = mean RGB of the two outermost pixel rings (240 pixels; they never hold object).
    object     = least squares of rgb = background + alpha (object - background) over all pixels:
                 background + sum(alpha (rgb - background)) / sum(alpha^2).
    Values are first brought to [0, 1] and clamped; each estimate goes to the nearest palette entry
    (Euclidean, RGB), the first one on a tie. An image with sum(alpha^2) < 1 has no object: -1.
    """
    unit = ((images.float() + 1) / 2).clamp(0, 1)
    rgb, alpha = unit[:, :3], unit[:, 3:]
    ring = torch.ones(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    ring[2:-2, 2:-2] = False
    background = rgb[:, :, ring].mean(-1)
    energy = alpha.square().sum((2, 3))
    pull = (alpha * (rgb - background[:, :, None, None])).sum((2, 3))
    foreground = background + pull / energy.clamp_min(1.0)
    palette = palette_tensor()
    object_index = torch.cdist(foreground, palette).argmin(1)
    background_index = torch.cdist(background, palette).argmin(1)
    return torch.where(energy[:, 0] < 1.0, -1, object_index), background_index
