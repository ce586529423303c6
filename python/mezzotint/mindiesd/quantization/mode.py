"""Names of algorithms, and what upstream distinguishes about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag, auto

from ..utils import ParametersInvalid


class QuantAlgorithm(str, Enum):
    """Values are what stands on disk."""

    W8A8 = "W8A8"
    W8A8_TIMESTEP = "W8A8_TIMESTEP"
    W8A8_DYNAMIC = "W8A8_DYNAMIC"
    W4A4_DYNAMIC = "W4A4_DYNAMIC"
    W8A8_MXFP8 = "W8A8_MXFP8"
    W4A4_MXFP4_DYNAMIC = "W4A4_MXFP4"
    W8A16 = "W8A16"
    W4A16 = "W4A16"
    W4A16_AWQ = "W4A16_AWQ"
    W4A8_AWQ = "W4A8_AWQ"
    W8A16_GPTQ = "W8A16_GPTQ"
    W4A16_GPTQ = "W4A16_GPTQ"
    W8A8_PER_CHANNEL = "W8A8_PER_CHANNEL"
    W8A8_PER_TENSOR = "W8A8_PER_TENSOR"
    W8A8_PER_CHANNEL_PER_TOKEN = "W8A8_PER_CHANNEL_PER_TOKEN"
    W8A8_PER_CHANNEL_PER_TENSOR = "W8A8_PER_CHANNEL_PER_TENSOR"
    W8A8_PER_TENSOR_PER_TOKEN = "W8A8_PER_TENSOR_PER_TOKEN"
    INT8 = "INT8"
    MIXED_PERCISION = "MIXED_PERCISION"
    FP8_DYNAMIC = "FP8_DYNAMIC"
    NO_QUANT = "NO_QUANT"
    W4A4_MXFP4_SVD = "W4A4_MXFP4_SVD"
    W4A4_MXFP4_DUALSCALE = "W4A4_MXFP4_DUALSCALE"

    __str__ = str.__str__
    __format__ = str.__format__


W8A8_LIST = [
    QuantAlgorithm.W8A8,
    QuantAlgorithm.W8A8_TIMESTEP,
    QuantAlgorithm.W8A8_DYNAMIC,
    QuantAlgorithm.W8A8_PER_CHANNEL,
    QuantAlgorithm.W8A8_PER_TENSOR,
    QuantAlgorithm.W8A8_PER_CHANNEL_PER_TOKEN,
    QuantAlgorithm.W8A8_PER_CHANNEL_PER_TENSOR,
    QuantAlgorithm.W8A8_PER_TENSOR_PER_TOKEN,
    QuantAlgorithm.W8A8_MXFP8,
]
W4A4_LIST = [
    QuantAlgorithm.W4A4_MXFP4_SVD,
    QuantAlgorithm.W4A4_MXFP4_DUALSCALE,
    QuantAlgorithm.W4A4_DYNAMIC,
    QuantAlgorithm.W4A4_MXFP4_DYNAMIC,
]


@dataclass
class QuantModeDescriptor:
    quantize_weights: bool = False
    quantize_activations: bool = False
    per_token: bool = False
    per_channel: bool = False
    per_group: bool = False
    use_int4_weights: bool = False
    use_fa_quant: bool = False


class QuantFlag(IntFlag):
    FA_QUANT = auto()
    INT4_WEIGHTS = auto()
    INT8_WEIGHTS = auto()
    ACTIVATION = auto()
    PER_CHANNEL = auto()
    PER_TENSOR = auto()
    PER_TOKEN = auto()
    PER_GROUP = auto()
    COUNT = auto()
    WEIGHTS_AND_ACTIVATION = INT4_WEIGHTS | INT8_WEIGHTS | ACTIVATION
    VALID_FLAG = COUNT - 1


class QuantMode:
    def __init__(self, flag: QuantFlag = QuantFlag(0)) -> None:
        self.flag = flag

    @staticmethod
    def from_descriptor(desc: QuantModeDescriptor) -> QuantMode:
        if desc.quantize_activations and not desc.quantize_weights:
            raise ParametersInvalid(f"{desc}: quantized activations need quantized weights")
        both = desc.quantize_weights and desc.quantize_activations
        if (desc.per_token or desc.per_channel) and not both:
            raise ParametersInvalid(f"{desc}: per_token and per_channel need both quantized")
        weights = QuantFlag.INT4_WEIGHTS if desc.use_int4_weights else QuantFlag.INT8_WEIGHTS
        chosen = {
            weights: desc.quantize_weights,
            QuantFlag.ACTIVATION: desc.quantize_activations,
            QuantFlag.PER_CHANNEL: desc.per_channel,
            QuantFlag.PER_TOKEN: desc.per_token,
            QuantFlag.PER_GROUP: desc.per_group,
            QuantFlag.FA_QUANT: desc.use_fa_quant,
        }
        flag = QuantFlag(0)
        for part, wanted in chosen.items():
            flag |= part if wanted else QuantFlag(0)
        return QuantMode(flag)

    @staticmethod
    def use_smooth_quant(per_token: bool = False, per_channel: bool = False) -> QuantMode:
        return QuantMode.from_descriptor(QuantModeDescriptor(True, True, per_token, per_channel))

    @staticmethod
    def use_weight_only(use_int4_weights: bool = False, per_group: bool = False) -> QuantMode:
        desc = QuantModeDescriptor(
            quantize_weights=True, per_group=per_group, use_int4_weights=use_int4_weights
        )
        return QuantMode.from_descriptor(desc)

    @staticmethod
    def from_quant_algo(quant_algo: QuantAlgorithm | None = None) -> QuantMode:
        name = "" if quant_algo is None else str(QuantAlgorithm(quant_algo))
        if name == "FP8_DYNAMIC":
            return QuantMode.from_descriptor(QuantModeDescriptor(use_fa_quant=True))
        if name in ("W8A16", "W4A16") or name.endswith(("_AWQ", "_GPTQ")):
            return QuantMode.use_weight_only(name.startswith("W4"), name.endswith(("_AWQ", "_GPTQ")))
        if name in ("W4A4_DYNAMIC", "W4A4_MXFP4"):
            return QuantMode.use_smooth_quant(per_token=True, per_channel=True)
        if name.startswith(("W8A8", "W4A4")):
            return QuantMode.use_smooth_quant("PER_TOKEN" in name, "PER_CHANNEL" in name)
        return QuantMode()

    def check_weight_int8_only(self) -> bool:
        return self._all(QuantFlag.INT8_WEIGHTS, QuantFlag.WEIGHTS_AND_ACTIVATION)

    def check_weight_int4_only(self) -> bool:
        return self._all(QuantFlag.INT4_WEIGHTS, QuantFlag.WEIGHTS_AND_ACTIVATION)

    def check_weight_only_mode(self) -> bool:
        return self.check_weight_int8_only() or self.check_weight_int4_only()

    def check_weight_int8_only_with_group(self) -> bool:
        return self.check_weight_int8_only() and self.contains_per_group_scale()

    def check_weight_int4_only_with_group(self) -> bool:
        return self.check_weight_int4_only() and self.contains_per_group_scale()

    def contains_fa_quantization(self) -> bool:
        return self._any(QuantFlag.FA_QUANT)

    def contains_per_group_scale(self) -> bool:
        return self._any(QuantFlag.PER_GROUP)

    def contains_per_channel_scale(self) -> bool:
        return self._any(QuantFlag.PER_CHANNEL)

    def contains_weight_quantization(self) -> bool:
        return self._any(QuantFlag.INT4_WEIGHTS | QuantFlag.INT8_WEIGHTS)

    def contains_activation_or_weight_quant(self) -> bool:
        return self._any(QuantFlag.WEIGHTS_AND_ACTIVATION)

    def contains_activation_and_weight_quant(self) -> bool:
        both = QuantFlag.INT8_WEIGHTS | QuantFlag.ACTIVATION
        return self._all(both, QuantFlag.WEIGHTS_AND_ACTIVATION)

    def to_dict(self) -> dict[str, object]:
        return {
            "use_smooth_quant": self.contains_activation_and_weight_quant(),
            "use_weight_only": self.check_weight_only_mode(),
            "weight_only_precision": "int8" if self.check_weight_int8_only() else "int4",
        }

    def _all(self, bits: QuantFlag, mask: QuantFlag = QuantFlag.VALID_FLAG) -> bool:
        return (self.flag & mask) == bits

    def _any(self, bits: QuantFlag) -> bool:
        return bool(self.flag & bits)
