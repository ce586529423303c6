#!/usr/bin/env python3
"""One layer of a quantized folder, on numpy alone: no torch, no model class.

    python examples/python/one_layer_on_numpy.py flux-w8a8 transformer_blocks.0.attn.to_q
"""

import sys

import numpy as np

import mezzotint


def main() -> None:
    folder, name = sys.argv[1:]
    layer = mezzotint.load_linear(folder, name)
    x = np.random.default_rng(0).normal(size=(16, layer.in_features)).astype(np.float32)
    y = layer.run(x)
    print(f"{layer.algorithm} {list(x.shape)} -> {list(y.shape)} by {layer.kernel(len(x))}")


if __name__ == "__main__":
    main()
