"""The models that the files are made from, and the adapter through which msmodelslim sees them."""

import pathlib
import types

import torch
from msmodelslim.core.base.protocol import ProcessRequest
from msmodelslim.core.graph.adapter_types import AdapterConfig, MappingConfig
from msmodelslim.core.runner.pipeline_interface import PipelineInterface
from msmodelslim.processor.anti_outlier.iter_smooth.interface import IterSmoothInterface
from msmodelslim.processor.quant.fa3.interface import (
    FA3QuantAdapterInterface,
    FA3QuantPlaceHolder,
)
from msmodelslim.processor.quarot.online_quarot.online_quarot_interface import OnlineQuaRotInterface
from torch import nn


class TinyBlock(nn.Module):
    """Linears with and without bias, odd N, K that 64 does not divide."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(64)
        self.to_q = nn.Linear(64, 10)
        self.to_k = nn.Linear(64, 10, bias=False)
        self.ff_in = nn.Linear(64, 34)
        self.ff_out = nn.Linear(34, 7)

    def forward(self, x):
        h = self.norm(x)
        gate = torch.sigmoid((self.to_q(h) * self.to_k(h)).mean(-1, keepdim=True))
        return gate * self.ff_out(nn.functional.gelu(self.ff_in(h)))


class TinyModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([TinyBlock()])
        self.head = nn.Linear(7, 5)
        self.config = types.SimpleNamespace(torch_dtype=torch.float32)  # the Calibrator asks for it

    device = property(lambda self: self.head.weight.device)
    dtype = property(lambda self: self.head.weight.dtype)

    def forward(self, x):
        return self.head(self.blocks[0](x))


class DecoderBlock(TinyBlock):
    """Takes and returns what a layer of a language model does: autoround asks for that."""

    def forward(self, x, *_, **__):
        return (super().forward(x),)


class DecoderModel(TinyModel):
    def __init__(self):
        super().__init__()
        self.blocks[0] = DecoderBlock()


class WideBlock(nn.Module):
    """K of one, and of two and a bit, blocks of 512."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Linear(512, 2, bias=False)
        self.wide = nn.Linear(1088, 3)

    def forward(self, x):
        return self.narrow(x[..., :512]).sum(-1, keepdim=True) + self.wide(x)


class WideModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([WideBlock()])


class RotatedAttention(nn.Module):
    """One head of 64, one projection for q, k and v.

    msmodelslim puts rotations into q_rot and k_rot and hangs fa3_q, fa3_k, fa3_v into it.
    """

    def __init__(self):
        super().__init__()
        self.to_qkv = nn.Linear(32, 64)
        self.q_rot = nn.Identity()
        self.k_rot = nn.Identity()

    def forward(self, x):
        h = self.to_qkv(x)
        q, k = self.q_rot(h), self.k_rot(h)
        return nn.functional.scaled_dot_product_attention(q, k, h)


class AttentionBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = RotatedAttention()

    def forward(self, x):
        return self.attn(x)


class AttentionModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([AttentionBlock()])


class Adapter(
    PipelineInterface, IterSmoothInterface, OnlineQuaRotInterface, FA3QuantAdapterInterface
):
    """One request per block, as the adapters of the package do it."""

    def __init__(self, model, calibration, folder, smoothed=()):
        self.model = model
        self.calibration = calibration
        self.folder = pathlib.Path(folder)
        self.smoothed = list(smoothed)

    model_type = property(lambda self: "tiny")
    model_path = property(lambda self: self.folder)
    trust_remote_code = property(lambda self: False)

    def handle_dataset(self, dataset, device=None):
        return self.calibration

    def init_model(self, device=None):
        return self.model

    def generate_model_visit(self, model):
        for i, block in enumerate(model.blocks):
            yield ProcessRequest(f"blocks.{i}", block, (), {})

    def generate_model_forward(self, model, inputs):
        x = inputs
        for i, block in enumerate(model.blocks):
            x = yield ProcessRequest(f"blocks.{i}", block, (x,), {})

    def enable_kv_cache(self, model, need_kv_cache):
        pass

    def get_adapter_config_for_subgraph(self):
        """Groups of linears that share an input; no source: the factor stays beside the linear."""
        return [
            AdapterConfig(subgraph_type="norm-linear", mapping=MappingConfig(targets=list(group)))
            for group in self.smoothed
        ]

    def get_online_rotation_configs(self, model=None):
        """As the package's Flux adapter: the same seeded Hadamard matrix for q and for k."""
        names = [
            name for name, module in model.named_modules() if name.endswith(("q_rot", "k_rot"))
        ]
        return {
            name: OnlineQuaRotInterface.RotationConfig(
                rotation_type="replace",
                rotation_size=64,
                rotation_mode=OnlineQuaRotInterface.QuaRotMode.HADAMARD,
                block_size=-1,
                seed=1234,
                dtype=torch.bfloat16,
            )
            for name in names
        }

    def inject_fa3_placeholders(self, root_name, root_module, should_inject):
        for name, _ in list(root_module.named_modules()):
            if name.endswith("attn") and should_inject(f"{root_name}.{name}"):
                for part in ("fa3_q", "fa3_k", "fa3_v"):
                    root_module.set_submodule(f"{name}.{part}", FA3QuantPlaceHolder(ratio=1.0))
