"""The layer classes by upstream's names, with the attributes that its layers hold.

Attributes are computed from ``packed`` on every access: for reading, not for running.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from mezzotint import _core
from mezzotint._tensors import to_bytes
from mezzotint.attention import FP8Attention
from mezzotint.modules import QuantLinear

from ..utils import ParametersInvalid
from .config import TimestepPolicyConfig
from .utils import get_quant_weight

_STATIC = ("quant_bias", "input_scale", "input_offset", "deq_scale")
_OPTIONAL = ("weight_scale", "weight_offset", "svd_lowrank_l1", "svd_lowrank_l2")
_MX_BLOCK_PAIR = 2  # upstream's kernels take block scales in pairs


class _Layer(QuantLinear):
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weights: Any = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> None:
        """`weights`: an open safetensors file, or anything with its keys() and get_tensor()."""
        names = (*self._required(kwargs), *(("bias",) if bias else ()))
        tensors = _tensors_below(prefix, weights, names)
        if kwargs.get("mul_scale") is not None:
            tensors = {f"linear.{name}": tensor for name, tensor in tensors.items()}
            tensors["div.mul_scale"] = kwargs["mul_scale"]
        held = {name: to_bytes(tensor) for name, tensor in tensors.items()}
        addresses = [(n, (t.data_ptr(), dtype, shape)) for n, (t, dtype, shape) in held.items()]
        try:
            layer, parts = _core.Layer.from_tensors(
                prefix or "linear", self._algorithm(kwargs), out_features, in_features, False, "",
                addresses,
            )  # fmt: skip
        except _core.Error as error:
            raise ParametersInvalid(str(error)) from error
        policy = kwargs.get("timestep_config")
        super().__init__(layer, parts, dtype=kwargs.get("dtype"), policy=policy)

    @classmethod
    def held(cls, layer: _core.Layer, parts: dict[str, torch.Tensor], **options: Any) -> _Layer:
        """A layer that quantize() read."""
        self = cls.__new__(cls)
        QuantLinear.__init__(self, layer, parts, **options)
        return self

    @classmethod
    def _required(cls, kwargs: dict[str, Any]) -> tuple[str, ...]:
        return ("weight", "weight_scale")

    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        raise NotImplementedError

    @staticmethod
    def _buffer_name(part: str) -> str:
        """The names of upstream's attributes are properties here."""
        return part if part in ("packed", "bias", "mul_scale") else f"held_{part}"

    def __getattr__(self, name: str) -> Any:
        if name == "mul_scale" and name not in self.__dict__.get("_buffers", {}):
            return None
        return super().__getattr__(name)

    def _stored(self, name: str) -> torch.Tensor:
        tensors = self.file_tensors()
        return tensors[name] if name in tensors else tensors[f"linear.{name}"]

    def _row_scale(self) -> torch.Tensor:
        return self.held_weight_scale.to(self.dtype or torch.float32)

    input_feature = property(lambda self: self.in_features)
    output_feature = property(lambda self: self.out_features)


class WeightQuantLinear(_Layer):
    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W4A16" if kwargs.get("is_w4") else "W8A16"

    @property
    def weight(self) -> torch.Tensor:
        """[K, N]; of int4 codes [K, N/8], eight in an int32."""
        if self._layer.bits == 4:
            return _eight_in_one(_int4_codes(self).t())
        return self._stored("weight").t()

    @property
    def weight_scale(self) -> torch.Tensor:
        """[1, N], or [groups, N]."""
        return self._row_scale().reshape(self.out_features, -1).t()


class W8A8QuantBaseLinear(_Layer):
    @property
    def is_dynamic(self) -> bool:
        return "held_input_scale" not in self._buffers


class W8A8QuantLinear(W8A8QuantBaseLinear):
    @classmethod
    def _required(cls, kwargs: dict[str, Any]) -> tuple[str, ...]:
        return ("weight", "weight_scale") if kwargs.get("is_dynamic") else ("weight", *_STATIC)

    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W8A8_DYNAMIC" if kwargs.get("is_dynamic") else "W8A8"

    @property
    def weight(self) -> torch.Tensor:
        """[K, N] when dynamic, [N, K] when static."""
        weight = self._stored("weight")
        return weight.t() if self.is_dynamic else weight

    @property
    def weight_scale(self) -> torch.Tensor:
        return self._row_scale()

    @property
    def input_scale(self) -> torch.Tensor:
        return self.held_input_scale.expand(self.in_features)

    @property
    def input_offset(self) -> torch.Tensor:
        return self.held_input_offset.to(torch.int8).expand(self.in_features)

    quant_bias = property(lambda self: self._stored("quant_bias"))
    deq_scale = property(lambda self: self._stored("deq_scale"))


class W8A8TimeStepQuantLinear(W8A8QuantLinear):
    @classmethod
    def _required(cls, kwargs: dict[str, Any]) -> tuple[str, ...]:
        return ("weight", "weight_scale", *_STATIC)

    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W8A8_TIMESTEP"

    @property
    def input_scale(self) -> torch.Tensor:
        return self.held_input_scale.reshape(-1, 1).expand(-1, self.in_features)

    @property
    def input_offset(self) -> torch.Tensor:
        offset = self.held_input_offset.to(torch.int8)
        return offset.reshape(-1, 1).expand(-1, self.in_features)

    @property
    def timestep_config(self) -> TimestepPolicyConfig | None:
        return self.timestep_policy


class W8A8MXFP8QuantLinear(W8A8QuantBaseLinear):
    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W8A8_MXFP8"

    weight = property(lambda self: self._stored("weight"))

    @property
    def weight_scale(self) -> torch.Tensor:
        """[N, blocks/2, 2]; a zero byte after an odd number of blocks."""
        scale = self._stored("weight_scale").view(torch.uint8)
        odd = scale.shape[1] % _MX_BLOCK_PAIR
        scale = torch.nn.functional.pad(scale, (0, odd))
        return scale.reshape(self.out_features, -1, _MX_BLOCK_PAIR)


class W4A4MXFP4QuantLinear(W8A8MXFP8QuantLinear):
    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W4A4_MXFP4"


class W4A4MXFP4DualQuantLinear(W4A4MXFP4QuantLinear):
    @classmethod
    def _required(cls, kwargs: dict[str, Any]) -> tuple[str, ...]:
        return ("weight", "weight_scale", "weight_dual_scale")

    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W4A4_MXFP4_DUALSCALE"

    @property
    def weight_dual_scale(self) -> torch.Tensor:
        """[blocks of 512, N]"""
        return self._stored("weight_dual_scale").squeeze(-1).t()


class W4A4QuantLinear(W8A8QuantBaseLinear):
    @classmethod
    def _algorithm(cls, kwargs: dict[str, Any]) -> str:
        return "W4A4_DYNAMIC"

    @property
    def weight(self) -> torch.Tensor:
        """[K/8, N], eight int4 codes in an int32."""
        return _eight_in_one(_int4_codes(self)).t()

    @property
    def weight_scale(self) -> torch.Tensor:
        return self._row_scale()


class FP8RotateQuantFA(FP8Attention):
    """forward(query, key, value, layout="BNSD"); q_rot and k_rot as the file has them."""

    def __init__(self, prefix: str | None = None, weights: Any = None) -> None:
        if weights is None:
            raise ParametersInvalid("weights: expected an open weight file, got None")
        rotations = [get_quant_weight(weights, f"{prefix}.{name}") for name in ("q_rot", "k_rot")]
        try:
            super().__init__(prefix or "attention", *rotations)
        except _core.Error as error:
            raise ParametersInvalid(str(error)) from error

    @classmethod
    def held(cls, name: str, q_rot: torch.Tensor, k_rot: torch.Tensor) -> FP8RotateQuantFA:
        """An attention that quantize() read."""
        self = cls.__new__(cls)
        FP8Attention.__init__(self, name, q_rot, k_rot)
        return self


def class_of(layer: _core.Layer) -> type[_Layer]:
    name = layer.algorithm.replace("_SVD", "")
    if name.startswith("W8A8_MXFP8"):
        return W8A8MXFP8QuantLinear
    if name.startswith("W4A4_MXFP4"):
        dual = name.endswith("_DUALSCALE")
        return W4A4MXFP4DualQuantLinear if dual else W4A4MXFP4QuantLinear
    if name == "W4A4_DYNAMIC":
        return W4A4QuantLinear
    if name.startswith("W8A8"):
        return W8A8TimeStepQuantLinear if layer.steps else W8A8QuantLinear
    return WeightQuantLinear


def _tensors_below(
    prefix: str | None, weights: Any, names: Iterable[str]
) -> dict[str, torch.Tensor]:
    if weights is None:
        raise ParametersInvalid("weights: expected an open weight file, got None")
    tensors = {name: get_quant_weight(weights, f"{prefix}.{name}") for name in names}
    for name in _OPTIONAL:
        if name not in tensors and f"{prefix}.{name}" in weights.keys():
            tensors[name] = weights.get_tensor(f"{prefix}.{name}")
    return tensors


def _int4_codes(layer: _Layer) -> torch.Tensor:
    """[N, K] int8, from whichever form the file has."""
    stored = layer._stored("weight").view(torch.int8)
    n, k = layer.out_features, layer.in_features
    if stored.shape == (n, k):
        return stored
    low, high = stored << 4 >> 4, stored >> 4  # arithmetic shifts: signs are kept
    along = 1 if stored.shape[0] == n else 0
    return torch.stack((low, high), along + 1).reshape(n, -1)[:, :k]


def _eight_in_one(codes: torch.Tensor) -> torch.Tensor:
    """Code i of eight along the last dimension in bits 4i of an int32."""
    if codes.shape[-1] % 8:
        raise ParametersInvalid(
            f"weight: eight int4 codes fit an int32, and {codes.shape[-1]} are no multiple of 8"
        )
    nibbles = (codes.to(torch.int32) & 15).reshape(*codes.shape[:-1], -1, 8)
    shifted = nibbles << torch.arange(0, 32, 4, dtype=torch.int32)
    return shifted.sum(-1, dtype=torch.int64).to(torch.int32)  # disjoint bits
