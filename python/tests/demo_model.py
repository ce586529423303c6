"""The shipped model, cut short, and the tutorial's pipeline around it."""

import importlib.util
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]


def first_blocks_of_the_demo(folder):
    """Its trained weights, one block of each kind: a third of the demo's work, on every line of the program."""
    shutil.copytree(ROOT / "demo", folder, symlinks=True, ignore=shutil.ignore_patterns("transformer"))
    config = json.loads((ROOT / "demo" / "transformer" / "config.json").read_text())
    (folder / "transformer").mkdir()
    kept = {}
    for file in (ROOT / "demo" / "transformer").glob("*.safetensors"):
        tensors = load_file(file)
        kept |= {name: t for name, t in tensors.items() if "blocks." not in name or "blocks.0." in name}
    save_file(kept, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    config |= {"num_layers": 1, "num_single_layers": 1}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    return folder


def tutorial_pipeline(folder):
    """As examples/python/quantize_demo_model.py makes it."""
    script = ROOT / "examples" / "python" / "quantize_demo_model.py"
    spec = importlib.util.spec_from_file_location("quantize_demo_model", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Pipeline(folder)
