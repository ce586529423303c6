"""QuantLinear: the module that takes the place of a linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mezzotint import _core, _ops
from mezzotint._adapters import Adapter, stacked
from mezzotint._tensors import from_bytes, to_bytes, to_tuple
from mezzotint._threads import torch_context
from mezzotint.timestep import TimestepManager, TimestepPolicyConfig

DTYPE_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_ALIGNMENT = 64  # bytes, of packed

Identity = tuple[str, str, bool, str]  # name, algorithm, upstream's results, timestep policy
FileBytes = dict[str, tuple[torch.Tensor, str, list[int]]]  # name: bytes, dtype, shape


class _NoBackward(torch.autograd.Function):
    """Gradients do not pass a quantized layer: says so when somebody asks for them."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: QuantLinear) -> torch.Tensor:
        ctx.layer = layer
        return layer._run(x.detach())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> None:
        ctx.layer._refuse_backward()


class QuantLinear(nn.Module):
    """y = x @ W.T + b with a quantized weight, computed by C++ on the CPU.

    ``packed`` (uint8) is the only copy of the weight; what else the layer needs are small float32
    buffers. None of them is in ``state_dict``, which holds the tensors of the file instead, byte
    for byte; ``load_state_dict`` packs them again. Copies and pickles go through that form.

    x may be float32, bfloat16 or float16 with any leading dimensions; y has its dtype.
    """

    # Buffers, by name; those a layer has not are None.
    packed: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self,
        layer: _core.Layer,
        parts: dict[str, torch.Tensor],
        *,
        dtype: torch.dtype | None = None,
        policy: TimestepPolicyConfig | None = None,
    ) -> None:
        super().__init__()
        self.in_features: int = layer.in_features
        self.out_features: int = layer.out_features
        self.dtype = dtype  # x is rounded to it; None: x is taken as it comes
        self._policy = policy if layer.steps else None
        self.adapters: dict[str, Adapter] = {}  # LoRA by name; set_adapters() changes them
        self._adopt(layer, parts)

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            raise AttributeError(
                f"layer {self.name} holds no float weight: it is packed; file_tensors() gives the "
                "tensors of the file"
            )
        return super().__getattr__(name)

    @property
    def name(self) -> str:
        return self._layer.name

    @property
    def algorithm(self) -> str:
        return self._layer.algorithm

    @property
    def is_upstream(self) -> bool:
        """Whether it computes upstream's results (compat="upstream")."""
        return self._layer.upstream

    @property
    def timestep_policy(self) -> TimestepPolicyConfig | None:
        """Of W8A8_TIMESTEP layers, else None."""
        if self._steps and self._policy is None:
            self._policy = TimestepPolicyConfig.parse(self._layer.policy)
        return self._policy if self._steps else None

    @property
    def qweight(self) -> torch.Tensor:
        """What peft looks for where it would find ``weight``."""
        return self.packed

    @property
    def nbytes(self) -> int:
        """Of all buffers."""
        return sum(buffer.nbytes for buffer in self._parts())

    def kernel(self, m: int) -> str:
        """Name of the kernel row that serves m rows of x."""
        return self._bind(self._parts()).kernel(m)

    # --- running ---------------------------------------------------------------------------------

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():
            return _ops.linear(x, self._number, self.out_features)
        if not isinstance(x, torch.Tensor) or torch.jit.is_tracing():
            self._refuse(x)
        if x.requires_grad and torch.is_grad_enabled():
            return _NoBackward.apply(x, self)
        return self._run(x)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        if self.dtype is not None and x.dtype != self.dtype:
            return self._run_bound(x.to(self.dtype)).to(x.dtype)
        return self._run_bound(x)

    def _run_bound(self, x: torch.Tensor) -> torch.Tensor:
        code = DTYPE_CODES.get(x.dtype)
        if code is None or not x.is_cpu or x.ndim == 0:
            self._refuse(x)
        if x.is_neg():
            x = x.resolve_neg()
        cols = x.shape[-1]
        if x.ndim == 2 and x.stride(1) == 1 and x.stride(0) >= cols:
            rows, row_stride = x.shape[0], x.stride(0)
        else:
            x = x.contiguous()
            rows, row_stride = (x.numel() // cols if cols else 0), cols
        y = torch.empty((*x.shape[:-1], self.out_features), dtype=x.dtype)
        bound, step, _buffers = self._ready()  # kept alive while C++ reads them
        bound.run(x.data_ptr(), y.data_ptr(), code, rows, cols, row_stride, step, torch_context())
        return y

    def _ready(self) -> tuple[_core.BoundLinear, int, list[torch.Tensor]]:
        """What runs on the buffers as they are now, the denoising step or -1, and those buffers."""
        buffers = self._parts()
        addresses, bound = self._bound
        if addresses != [buffer.data_ptr() for buffer in buffers]:
            bound = self._bind(buffers)
        step = self._step() if self._steps else -1
        if self._policy_version != (self._policy.version if self._policy else 0):
            bound = self._bind(buffers)
        return bound, step, buffers

    def _step(self) -> int:
        step = TimestepManager.get_timestep_idx()
        return -1 if step is None else step

    def _refuse_backward(self) -> None:
        raise RuntimeError(
            f"backward: layer {self.name} is quantized, gradients cannot pass it; "
            "use torch.no_grad() or torch.inference_mode(), or train the float model"
        )

    def _refuse(self, x: Any) -> None:
        if torch.jit.is_tracing():
            raise RuntimeError(
                f"torch.jit.trace() cannot record layer {self.name}, which C++ computes\n"
                "  fix: torch.compile() or torch.export.export()"
            )
        is_tensor = isinstance(x, torch.Tensor)
        found = f"{x.dtype} {list(x.shape)} on {x.device}" if is_tensor else type(x).__name__
        raise TypeError(
            f"x: expected [..., {self.in_features}] of float32, bfloat16 or float16 on the CPU, "
            f"got {found} (layer {self.name})"
        )

    # --- buffers ---------------------------------------------------------------------------------

    def _adopt(self, layer: _core.Layer, parts: dict[str, torch.Tensor]) -> None:
        for name in (*self.__dict__.get("_names", ()), "bias"):
            self._buffers.pop(name, None)
            self._parameters.pop(name, None)
        self._names = [self._buffer_name(name) for name, _, _ in layer.parts]
        for name, tensor in zip(self._names, parts.values(), strict=True):
            self._buffers[name] = tensor
            self._non_persistent_buffers_set.add(name)
        if "bias" not in parts:
            self.register_parameter("bias", None)
        self._layer = layer
        if "_number" not in self.__dict__:  # copies have their own
            self._number = _ops.number(self)
        self._steps: int = layer.steps
        self._bound: tuple[list[int], _core.BoundLinear | None] = ([], None)
        self._policy_version = 0 if self._policy is None else -1  # -1: not yet the layer's
        if self.adapters:
            self.set_adapters(self.adapters)

    def set_adapters(self, adapters: dict[str, Adapter]) -> None:
        """Low-rank branches that are added to y, in place of those before; the weight stays as it is.

        They are no part of state_dict. Raises mezzotint.Error for shapes that do not fit.
        """
        down, up = stacked(adapters.values())
        factors = (None, None) if down is None else (to_tuple(down), to_tuple(up))
        layer, part = self._layer.with_adapter(*factors)
        self._layer, self.adapters = layer, dict(adapters)
        self._buffers.pop("adapter", None)
        self._names = [name for name in self._names if name != "adapter"]
        if part is not None:
            self._names.append("adapter")
            self._buffers["adapter"] = part
            self._non_persistent_buffers_set.add("adapter")
        self._bound = ([], None)

    @staticmethod
    def _buffer_name(part: str) -> str:
        return part

    def _parts(self) -> list[torch.Tensor]:
        buffers = self._buffers
        return [buffers[name] for name in self._names]

    def _bind(self, buffers: list[torch.Tensor]) -> _core.BoundLinear:
        """For buffers at new addresses, or after a change of the policy."""
        if self._policy is not None:
            self._policy_version = self._policy.version
            self._layer = self._layer.with_policy(self._policy.text())
        for buffer, (name, dtype, shape) in zip(buffers, self._layer.parts, strict=True):
            self._check_part(name, buffer, dtype, shape)
        for i, name in enumerate(self._names):
            if buffers[i].dtype == torch.uint8 and buffers[i].data_ptr() % _ALIGNMENT:
                self._buffers[name] = buffers[i] = buffers[i].clone()
        addresses = [buffer.data_ptr() for buffer in buffers]
        bound = self._layer.bind(addresses)
        self._bound = (addresses, bound)
        return bound

    def _check_part(
        self, name: str, buffer: torch.Tensor, dtype: str, shape: tuple[int, ...]
    ) -> None:
        expected = torch.uint8 if dtype == "U8" else torch.float32
        right = buffer is not None and buffer.dtype == expected and list(buffer.shape) == list(shape)
        if right and buffer.is_cpu and buffer.is_contiguous():
            return
        found = "None" if buffer is None else f"{buffer.dtype} {list(buffer.shape)} on {buffer.device}"
        raise RuntimeError(
            f"{name}: expected {expected} {list(shape)} on the CPU, got {found} (layer {self.name})\n"
            "  fix: this version computes on the CPU: .to('cpu'), or load_state_dict() where the "
            "bytes are gone"
        )

    def _apply(self, fn: Any, recurse: bool = True) -> QuantLinear:
        """Moves buffers; scales stay float32 whatever the model's dtype becomes."""
        for name in self._names:
            buffer = self._buffers[name]
            moved = fn(buffer)
            self._buffers[name] = moved if moved.dtype == buffer.dtype else buffer.to(moved.device)
        return self

    # --- the tensors of the file -----------------------------------------------------------------

    def file_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of the file by their names below the layer's, unpacked: "weight", ..."""
        if any(buffer.is_meta for buffer in self._parts()):
            return {name: from_bytes(None, *form) for name, *form in self._layer.forms}
        return {name: from_bytes(*tensor) for name, tensor in self._file_bytes().items()}

    def _file_bytes(self) -> FileBytes:
        buffers = [buffer.cpu() for buffer in self._parts()]
        return self._layer.file_tensors([buffer.data_ptr() for buffer in buffers])

    def _repack(self, identity: Identity, tensors: FileBytes) -> None:
        name, algorithm, upstream, policy = identity
        self._adopt(*_core.Layer.from_tensors(
            name, algorithm, self.out_features, self.in_features, upstream, policy,
            [(key, (data.data_ptr(), dtype, shape)) for key, (data, dtype, shape) in tensors.items()],
        ))  # fmt: skip

    def _identity(self) -> Identity:
        layer = self._layer
        return layer.name, layer.algorithm, layer.upstream, layer.policy

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        for name, tensor in self.file_tensors().items():
            destination[prefix + name] = tensor

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, strict: bool,
        missing_keys: list, unexpected_keys: list, error_msgs: list,
    ) -> None:  # fmt: skip
        given = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        wanted = [name for name, _, _ in self._layer.forms]
        missing = [name for name in wanted if name not in given]
        missing_keys.extend(prefix + name for name in missing)
        if not given or len(missing) == len(wanted):
            return
        try:
            tensors = {**(self.file_tensors() if missing else {}), **given}
            self._repack(self._identity(), {name: to_bytes(t) for name, t in tensors.items()})
        except _core.Error as error:
            error_msgs.append(str(error))
            return
        if strict:
            known = {name for name, _, _ in self._layer.forms}
            unexpected_keys.extend(prefix + name for name in given if name not in known)

    # --- copies ----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_layer"], state["_bound"], state["_number"]
        state["_buffers"] = {
            name: buffer for name, buffer in self._buffers.items() if name not in self._names
        }
        state["_file"] = (self._identity(), self._file_bytes())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = state.copy()
        identity, tensors = state.pop("_file")
        super().__setstate__(state)
        self._repack(identity, tensors)

    def extra_repr(self) -> str:
        layer = self._layer
        group = f", group={layer.group}" if layer.group else ""
        lora = f", LoRA {' '.join(self.adapters)}" if self.adapters else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, {layer.algorithm}, {layer.bits} bits{group}, "
            f"{self.nbytes} bytes{lora}"
        )
