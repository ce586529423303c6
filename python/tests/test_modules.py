"""QuantLinear behaves like a module of torch's."""

import gc
import threading
import time
import weakref

import pytest
import torch
from torch import nn
from upstream_models import UPSTREAM, float_model, input_of

import mezzotint
from mezzotint import QuantLinear, quantize, quantize_model

FOLDER = UPSTREAM / "w8a8_dynamic"


@pytest.fixture
def model():
    return quantize(float_model("tiny"), FOLDER)


@pytest.fixture
def layer(model):
    return model.blocks[0].to_q


def test_one_uint8_buffer_holds_the_weight(layer):
    buffers = dict(layer.named_buffers())
    assert [b.dtype for b in buffers.values()].count(torch.uint8) == 1
    assert buffers["packed"].dtype == torch.uint8
    small = {name: b for name, b in buffers.items() if name != "packed"}
    assert all(b.dtype == torch.float32 for b in small.values())
    assert sum(b.numel() for b in small.values()) <= 2 * layer.out_features
    assert list(layer.parameters()) == []


def test_attributes(layer, model):
    assert (layer.in_features, layer.out_features) == (64, 10)
    assert layer.bias.shape == (10,)
    assert model.blocks[0].to_k.bias is None
    assert layer.name == "blocks.0.to_q"
    assert layer.algorithm == "W8A8_DYNAMIC"
    assert layer.kernel(3)


def test_there_is_no_float_weight(layer):
    with pytest.raises(AttributeError, match="blocks.0.to_q holds no float weight"):
        _ = layer.weight
    assert not hasattr(layer, "weight")


def test_packed_is_the_only_copy(layer):
    x = input_of(64)
    before = layer(x)
    layer.packed[64:] ^= 1
    assert not torch.equal(layer(x), before)


def test_the_weight_goes_when_the_module_goes():
    model = quantize(float_model("tiny"), FOLDER)
    owner = weakref.ref(model.blocks[0].to_q.packed)
    model.blocks[0].to_q = nn.Identity()
    gc.collect()
    assert owner() is None


def test_the_float_weights_are_gone():
    model = float_model("tiny")
    weight = weakref.ref(model.blocks[0].to_q.weight)
    quantize(model, FOLDER)
    gc.collect()
    assert weight() is None


@pytest.mark.parametrize("shape", [(64,), (0, 64), (1, 64), (2, 3, 64), (2, 0, 64), (2, 3, 4, 64)])
def test_leading_dimensions(layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    y = layer(x)
    assert y.shape == (*shape[:-1], 10)
    assert torch.equal(y.reshape(-1, 10), layer(x.reshape(-1, 64)))


def test_views_give_the_same_bits(layer):
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(2))
    y = layer(x)
    wide = torch.full((6, 80), torch.nan)
    wide[:, 8:72] = x
    views = {
        "a slice of columns": wide[:, 8:72],
        "column-major": x.t().contiguous().t(),
        "an odd offset": torch.cat([torch.zeros(1), x.flatten()])[1:].view(6, 64),
        "conjugated": torch.complex(torch.zeros_like(x), -x).conj().imag,
    }
    for name, view in views.items():
        assert torch.equal(view, x)
        assert torch.equal(layer(view), y), name
    assert torch.equal(layer(x[::2]), y[::2])
    assert torch.equal(layer(x[2:3].expand(5, 64)), y[2:3].expand(5, 10))
    three = x.view(2, 3, 64)
    assert torch.equal(layer(three.transpose(0, 1)), y.view(2, 3, 10).transpose(0, 1))


def test_half_keeps_the_scales(model):
    x = input_of(64)
    before = model.blocks[0].to_q(x)
    for changed in (model.half(), model.to(torch.bfloat16), model.float(), model.double()):
        layer = changed.blocks[0].to_q
        assert layer.weight_scale.dtype == torch.float32
        assert torch.equal(layer(x), before)
    assert model.head.weight.dtype == torch.float64  # the others did change


def test_to_the_cpu_changes_nothing(model, layer):
    packed = layer.packed.data_ptr()
    assert model.to("cpu") is model
    assert model.cpu().blocks[0].to_q.packed.data_ptr() == packed


def test_buffers_may_move(layer):
    """As offloading does: other memory, in place or not, even unaligned or shared."""
    x = input_of(64)
    before = layer(x)
    layer._apply(torch.clone)
    assert torch.equal(layer(x), before)
    layer.packed.data = layer.packed.clone()
    assert torch.equal(layer(x), before)
    raw = torch.zeros(layer.packed.numel() + 1, dtype=torch.uint8)
    raw[1:] = layer.packed
    layer._buffers["packed"] = raw[1:]
    assert torch.equal(layer(x), before)
    assert layer.packed.data_ptr() % 64 == 0
    layer.share_memory()
    assert torch.equal(layer(x), before)


def test_a_layer_on_the_meta_device_says_so_and_can_be_filled(model, layer):
    x = input_of(64)
    before, state = layer(x), model.state_dict()
    model.to("meta")
    with pytest.raises(RuntimeError, match=r"packed: expected .*on the CPU, got .*meta.*to_q"):
        layer(x)
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == {
        name: tuple(t.shape) for name, t in state.items()
    }
    model.load_state_dict(state, assign=True)
    assert torch.equal(layer(x), before)


def test_inputs_elsewhere_are_refused(layer):
    with pytest.raises(TypeError, match=r"on the CPU, got .*meta.*blocks.0.to_q"):
        layer(torch.empty(2, 64, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.complex64, torch.bool])
def test_other_dtypes_are_refused(layer, dtype):
    with pytest.raises(TypeError, match=f"float16 on the CPU, got {dtype}.*blocks.0.to_q"):
        layer(torch.zeros(2, 64, dtype=dtype))


def test_an_array_is_refused(layer):
    with pytest.raises(TypeError, match="on the CPU, got ndarray .layer blocks.0.to_q"):
        layer(input_of(64).numpy())


def test_a_wrong_width_is_refused(layer):
    with pytest.raises(mezzotint.Error, match="expected 64, got 63.*blocks.0.to_q") as caught:
        layer(torch.zeros(2, 63))
    assert caught.value.code == 2


def test_backward_names_the_layer(layer):
    x = input_of(64).requires_grad_()
    y = layer(x)
    assert torch.equal(y.detach(), layer(x.detach()))
    with pytest.raises(RuntimeError, match="backward: layer blocks.0.to_q is quantized"):
        y.sum().backward()
    with torch.no_grad():
        assert not layer(x).requires_grad
    with torch.inference_mode():
        assert torch.equal(layer(x), y.detach())


def test_hooks_run(model, layer):
    seen = []
    layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    handle = layer.register_forward_hook(lambda module, args, y: y * 0)
    assert layer(input_of(64)).abs().max() == 0
    handle.remove()
    assert layer(input_of(64)).abs().max() > 0
    assert len(seen) == 2


@pytest.mark.filterwarnings("ignore::FutureWarning")  # weight_norm is old
def test_hooks_of_the_float_layer_stay():
    model = float_model("tiny")
    layer = nn.utils.weight_norm(model.blocks[0].to_q)  # its hook makes a float weight
    seen = []
    handle = layer.register_forward_hook(lambda module, args, y: seen.append(type(module)))
    quantize_model(model, algo="w8a16")
    model(input_of(64))
    handle.remove()
    model(input_of(64))
    assert seen == [QuantLinear]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_trace_is_refused(layer):
    with pytest.raises(RuntimeError, match=r"jit.trace\(\) cannot record layer blocks.0.to_q"):
        torch.jit.trace(layer, input_of(64))


def test_threads_and_models(model):
    """Several threads in one model, and two models at once."""
    other = quantize(float_model("tiny"), UPSTREAM / "w4a4_mxfp4")
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    expected = {id(m): m(x) for m in (model, other)}
    wrong = []

    def work(m):
        for _ in range(30):
            if not torch.equal(m(x), expected[id(m)]):
                wrong.append(m)

    threads = [threading.Thread(target=work, args=(m,)) for m in (model, other, model, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_moving_while_others_run(layer):
    """A thread that runs keeps the memory that it reads."""
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    expected = layer(x)
    wrong, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            if not torch.equal(layer(x), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        layer._apply(torch.clone)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_gil_is_free():
    """While one long call runs, another thread never waits for as long as the call takes."""
    model = nn.Sequential(nn.Linear(1024, 1024))
    quantize_model(model, algo="w8a16")
    x = torch.ones(4000, 1024)
    model(x)
    span = []

    def work():
        begin = time.perf_counter()
        model(x)
        span.extend((begin, time.perf_counter()))

    thread = threading.Thread(target=work)
    stamps = [time.perf_counter()]
    thread.start()
    while thread.is_alive():
        stamps.append(time.perf_counter())
    duration = span[1] - span[0]
    assert duration > 0.02, "too short to tell"
    assert max(b - a for a, b in zip(stamps, stamps[1:], strict=False)) < duration / 2


@pytest.mark.parametrize("offload_buffers", [False, True])
def test_cpu_offload_of_accelerate(model, offload_buffers):
    from accelerate import cpu_offload

    x = input_of(64)
    expected = model(x)
    cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=offload_buffers)
    for _ in range(2):
        assert torch.equal(model(x), expected)
    assert isinstance(model.blocks[0].to_q, QuantLinear)


def test_dtype_rounds_x(layer):
    model = quantize(float_model("tiny"), FOLDER, dtype=torch.bfloat16)
    x = input_of(64) * 1.001
    y = model.blocks[0].to_q(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, layer(x.bfloat16()).float())
    assert not torch.equal(y, layer(x))
