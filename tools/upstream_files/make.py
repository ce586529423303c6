"""Writes testdata/upstream: files made by msmodelslim on a CPU. See README.md.

make.py           all cases
make.py NAME...   those only
"""

import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from msmodelslim.core.const import DeviceType
from msmodelslim.core.context import ContextFactory
from msmodelslim.core.quant_service.interface import BaseQuantConfig
from msmodelslim.core.quant_service.modelslim_v1.quant_service import (
    ModelslimV1QuantService,
    ModelslimV1QuantServiceConfig,
)
from msmodelslim.pytorch.llm_ptq.llm_ptq_tools import Calibrator, QuantConfig
from safetensors.torch import save_file

import recipes
from tiny_model import Adapter, AttentionModel, DecoderModel, TinyModel, WideModel

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "upstream"
# Model, width of its input, seed of its parameters.
MODELS = {
    "tiny": (TinyModel, 64, 1),
    "decoder": (DecoderModel, 64, 1),
    "wide": (WideModel, 1088, 2),
    "attention": (AttentionModel, 32, 3),
}
ROWS = 3  # of the inputs that outputs are kept for


class NoDataset:
    def get_dataset_by_name(self, name):
        return []


def seeded_model(kind):
    """Parameters of values that bf16 holds; one weight in 200 is ten times as large."""
    make_model, _, seed = MODELS[kind]
    generator = torch.Generator().manual_seed(seed)
    model = make_model()
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator) / 8
        outliers = torch.rand(parameter.shape, generator=generator) < 0.005
        values = torch.where(outliers, values * 10, values)
        if name.endswith("norm.weight"):
            values += 1
        parameter.data = values.to(torch.bfloat16).to(torch.float32)
    return model


def seeded_rows(rows, k, seed):
    """Normal, one channel in 32 four times as large; values that bf16 holds.

    Of width 34: what ff_out reads in the tiny model, the output of an activation.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((rows, k), generator=generator)
    x[:, ::32] *= 4
    x = torch.nn.functional.gelu(x) if k == 34 else x
    return x.to(torch.bfloat16).to(torch.float32)


def linears_of(model):
    return {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


def write_sources():
    """Float weights as BF16, and one input per K."""
    widths = set()
    for kind in ("tiny", "wide", "attention"):
        model = seeded_model(kind)
        tensors = {name: p.to(torch.bfloat16) for name, p in model.state_dict().items()}
        save_file(tensors, FOLDER / f"{kind}.safetensors")
        widths |= {linear.in_features for linear in linears_of(model).values()}
    inputs = {f"x.{k}": seeded_rows(ROWS, k, k).to(torch.bfloat16) for k in sorted(widths)}
    save_file(inputs, FOLDER / "inputs.safetensors")


def outputs_of(model, shapes, dtype):
    """What msmodelslim's own simulation of each quantized layer gives, as F32."""
    outputs = {}
    for name, k in shapes.items():
        module = model.get_submodule(name)
        if isinstance(module, torch.nn.Linear):
            continue
        # Its simulation of bf16 models runs under autocast, as its service for such models does.
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, dtype == torch.bfloat16):
            outputs[name] = module(seeded_rows(ROWS, k, k).to(dtype)).to(torch.float32)
    return outputs


def calibration_of(case):
    width = MODELS[case.model][1]
    return [seeded_rows(16, width, seed).to(case.dtype).unsqueeze(0) for seed in range(101, 105)]


def run_service(case, model, out):
    """The exporter of today: a list of processors, run block by block."""
    with tempfile.TemporaryDirectory() as source:
        (pathlib.Path(source) / "config.json").write_text('{"model_type": "tiny"}\n')
        adapter = Adapter(model, calibration_of(case), source, case.smoothed)
        service = ModelslimV1QuantService(
            ModelslimV1QuantServiceConfig(), NoDataset(), ContextFactory()
        )
        spec = {"runner": "model_wise", "process": case.process, "save": [case.save]}
        config = BaseQuantConfig(apiversion="modelslim_v1", spec=spec)
        service.quantize(config, adapter, out, DeviceType.CPU)
    return model


def run_calibrator(case, model, out):
    """The exporter before that, with compiled arithmetic. It writes features.npy where it runs."""
    model.config.torch_dtype = case.dtype
    data = [[x] for x in calibration_of(case)]
    config = QuantConfig(disable_names=list(case.excluded), **case.calibrator)
    if case.max_dynamic_step is not None:
        config = config.timestep_quant(case.max_dynamic_step)
        data = [{"args": args, "timestep_idx": i} for i, args in enumerate(data)]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        calibrator = Calibrator(model, config, calib_data=data if case.calibrated else None)
        calibrator.run()
        calibrator.save(str(out), save_type=[case.save["type"]])
    return calibrator.model


def make(case, out):
    model = seeded_model(case.model).to(case.dtype)
    shapes = {name: linear.in_features for name, linear in linears_of(model).items()}
    model = (run_calibrator if case.calibrator else run_service)(case, model, out)
    return outputs_of(model, shapes, case.dtype)


def write_case(case):
    out = FOLDER / case.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    outputs = make(case, out)
    if case.simulated:
        save_file(outputs, out / "outputs.safetensors")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:]
    if len(names) == 1:
        write_case(next(case for case in recipes.CASES if case.name == names[0]))
        return
    write_sources()
    # A process each: msmodelslim keeps the first calibration data of a process for all that follow.
    for name in names or [case.name for case in recipes.CASES]:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
