"""The snippets of upstream's document run as they stand, each in a process of its own."""

import shutil

import pytest
from upstream_models import (
    ATTENTION_FOLDER,
    UPSTREAM,
    attention_input,
    attention_model,
    float_model,
    input_of,
    run_script,
)

import mezzotint

# Verbatim, in the document's order; its text has lost the indentation of loops. What it leaves open
# is the test's: from_pretrain(), the model and the timesteps of the third, the arguments of a policy.
IMPORT_LINEAR = """\
from mindiesd import quantize
"""
BASIC = """\
model = from_pretrain()
model = quantize(model, "quant_model_description_w8a16_0.json")
model.to("npu")
"""
TIMESTEP = """\
from mindiesd import TimestepManager
model = quantize(model, "quant_model_description_w8a8_timestep_0.json",
timestep_policy=TimestepPolicyConfig(...))
for i, t in enumerate(timesteps):
TimestepManager.set_timestep_idx(i)
...
"""
IMPORT_FA = """\
from mindiesd import quantize
"""
FA = """\
from mindiesd import quantize
# Load original floating-point model
model = from_pretrain()
# Execute quantization conversion (automatically identifies Attention layers and injects FA quantization)
model = quantize(model, "path/to/exported/quantization/config")
# Move model to NPU and run inference
model.to("npu")
"""


def indented(snippet):
    """With the indentation of what follows a colon."""
    head, colon, body = snippet.partition(":\n")
    return head + colon + "".join(f"    {line}" for line in body.splitlines(keepends=True))


@pytest.fixture
def with_rank_suffix(tmp_path):
    """A folder of upstream's exporter under the names of the document."""

    def make(folder, algorithm):
        weights = next((UPSTREAM / folder).glob("quant_model_weight*.safetensors"))
        descriptor = next((UPSTREAM / folder).glob("quant_model_description*.json"))
        shutil.copy(weights, tmp_path / f"quant_model_weight_{algorithm}_0.safetensors")
        shutil.copy(descriptor, tmp_path / f"quant_model_description_{algorithm}_0.json")
        return tmp_path

    return make


def test_linear_quantization(with_rank_suffix):
    folder = with_rank_suffix("w8a16_ascend", "w8a16")
    prepare = """
    from upstream_models import float_model, input_of
    def from_pretrain(): return float_model("tiny")
    """
    check = """
    print("sum", model(input_of(64)).sum().item())
    """
    done = run_script(folder, prepare, IMPORT_LINEAR, BASIC, check)
    expected = mezzotint.quantize(float_model("tiny"), UPSTREAM / "w8a16_ascend")
    assert f"sum {expected(input_of(64)).sum().item()}" in done.stdout
    assert done.stderr.count("stays on device cpu") == 1


def test_timestep_quantization(with_rank_suffix):
    folder = with_rank_suffix("old_w8a8_timestep", "w8a8_timestep")
    prepare = """
    from upstream_models import float_model, input_of
    import mindiesd
    def TimestepPolicyConfig(_):
        policy = mindiesd.TimestepPolicyConfig()
        policy.register(range(2, 4), "static")
        return policy
    def denoising():
        for t in range(4):
            yield t # to the body of the loop, which sets the step
            print("sum", model(input_of(64)).sum().item())
    model = float_model("tiny")
    timesteps = denoising()
    """
    done = run_script(folder, prepare, IMPORT_LINEAR, indented(TIMESTEP))
    policy = mezzotint.TimestepPolicyConfig(static=range(2, 4))
    model = mezzotint.quantize(
        float_model("tiny"), UPSTREAM / "old_w8a8_timestep", timestep_policy=policy
    )
    sums = []
    for step in range(4):
        with mezzotint.TimestepManager.step(step):
            sums.append(f"sum {model(input_of(64)).sum().item()}")
    assert done.stdout.splitlines()[1:] == sums
    assert len(set(sums)) == 3


def test_fa_quantization(tmp_path):
    """A model with attention and linears, of which the folder quantizes both."""
    shutil.copytree(ATTENTION_FOLDER, tmp_path / "path/to/exported/quantization/config")
    prepare = """
    from upstream_models import attention_input, attention_model
    def from_pretrain(): return attention_model()
    """
    check = """
    print("sum", model(attention_input()).sum().item())
    print("injected", type(model.blocks[0].attn.fa_quant).__name__)
    """
    done = run_script(tmp_path, prepare, IMPORT_FA, FA, check)
    expected = mezzotint.quantize(attention_model(), ATTENTION_FOLDER)(attention_input())
    in_float = attention_model()(attention_input())
    assert f"sum {expected.sum().item()}" in done.stdout
    assert f"sum {in_float.sum().item()}" not in done.stdout
    assert "injected FP8RotateQuantFA" in done.stdout
    assert done.stderr.count("stays on device cpu") == 1
