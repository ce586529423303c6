"""One recipe per folder of testdata/upstream, in the words of msmodelslim's own YAML files."""

import dataclasses

import torch

MINDIE = {"type": "mindie_format_saver", "part_file_size": 0}
ASCEND = {"type": "ascendv1_saver", "part_file_size": 0}
ASCEND_SHARDS = {"type": "ascendv1_saver", "part_file_size": 4}
MINDIE_SHARDS = {"type": "mindie_format_saver", "part_file_size": 4}


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    process: list
    save: dict
    model: str = "tiny"
    dtype: torch.dtype = torch.float32
    smoothed: tuple = ()  # groups of layers with a common input
    # Whether outputs are kept: no, where its simulation computes another formula than its files hold.
    simulated: bool = True
    # The older exporter, pytorch.llm_ptq: arguments of its QuantConfig.
    calibrator: dict | None = None
    calibrated: bool = True
    excluded: tuple = ("head",)
    max_dynamic_step: int | None = None


def config(scope, dtype, symmetric=True, method="minmax", **ext):
    result = {"scope": scope, "dtype": dtype, "symmetric": symmetric, "method": method}
    return result | ({"ext": ext} if ext else {})


def linear(act, weight, include=("*",), exclude=()):
    qconfig = {"weight": weight} | ({} if act is None else {"act": act})
    return {
        "type": "linear_quant",
        "qconfig": qconfig,
        "include": list(include),
        "exclude": list(exclude),
    }


def autoround(act, weight):
    return {
        "type": "autoround_quant",
        "iters": 2,
        "enable_round_tuning": True,
        "strategies": [{"qconfig": {"act": act, "weight": weight}, "include": ["*"]}],
    }


TOKEN8 = config("per_token", "int8")
CHANNEL8 = config("per_channel", "int8")
TENSOR8 = config("per_tensor", "int8", symmetric=False)
MXFP8 = config("per_block", "mxfp8")
MXFP4 = config("per_block", "mxfp4")
DUAL = config("dual_scale", "mxfp4", method="dualscale", dual_block_size=512)
SVD = {"type": "svd_res", "rank": 4, "include": ["*"]}
SMOOTH = {"type": "iter_smooth", "alpha": 0.5, "enable_subgraph_type": ["norm-linear"]}
GROUPS = (
    ("blocks.0.to_q", "blocks.0.to_k", "blocks.0.ff_in"),
    ("blocks.0.ff_out",),
)
ROTATE = {"type": "online_quarot", "include": ["*"]}
FA3 = {"type": "fa3_quant", "qconfig": config("per_token", "fp8_e4m3"), "include": ["*attn"]}
OLD = {"type": "safe_tensor"}
OLD_ASCEND = {"type": "ascendV1"}
W8A8 = {"mm_tensor": False}
W8A16 = {"a_bit": 16, "mm_tensor": False}
W4A16 = {"a_bit": 16, "w_bit": 4, "mm_tensor": False}
GROUP32 = {"is_lowbit": True, "open_outlier": False, "group_size": 32}

CASES = [
    Case("w8a8", [linear(TENSOR8, CHANNEL8)], MINDIE),
    Case("w8a8_smooth_bf16", [SMOOTH, linear(TENSOR8, CHANNEL8)], MINDIE, dtype=torch.bfloat16,
         smoothed=GROUPS),
    Case("w8a8_ascend_i64", [linear(TENSOR8, CHANNEL8, exclude=["*ff_out"])], ASCEND),
    Case("w8a8_dynamic", [linear(TOKEN8, CHANNEL8)], MINDIE, simulated=False),
    Case("w8a8_dynamic_smooth", [SMOOTH, linear(TOKEN8, CHANNEL8)], MINDIE, smoothed=GROUPS,
         simulated=False),
    Case("w8a8_dynamic_group32_ascend",
         [linear(TOKEN8, config("per_group", "int8", method="gptq", group_size=32),
                 exclude=["*ff_out"])],
         ASCEND, simulated=False),
    Case("w8a16_ascend", [linear(None, CHANNEL8)], ASCEND),
    Case("w8a16_smooth_ascend", [SMOOTH, linear(None, CHANNEL8)], ASCEND, smoothed=GROUPS),
    Case("w8a16_group32_gptq_ascend",
         [linear(None, config("per_group", "int8", symmetric=False, method="gptq", group_size=32),
                 exclude=["*ff_out"])],
         ASCEND_SHARDS),
    Case("w4a4_dynamic_ascend",
         [autoround(config("per_token", "int4"), config("per_channel", "int4", method="autoround"))],
         ASCEND, model="decoder"),
    Case("w8a8_mxfp8", [linear(MXFP8, MXFP8)], MINDIE),
    Case("w4a4_mxfp4", [linear(MXFP4, MXFP4)], MINDIE),
    Case("w4a4_mxfp4_dualscale", [linear(DUAL, DUAL)], MINDIE, model="wide"),
    Case("w4a4_mxfp4_svd", [SVD, linear(MXFP4, MXFP4)], MINDIE),
    Case("w8a8_svd_dynamic", [SVD, linear(TOKEN8, CHANNEL8)], MINDIE, simulated=False),
    Case("w4a4_mxfp4_svd_smooth", [SMOOTH, SVD, linear(MXFP4, MXFP4)], MINDIE, smoothed=GROUPS,
         simulated=False),
    Case("w4a4_mxfp4_svd_then_smooth", [SVD, SMOOTH, linear(MXFP4, MXFP4)], MINDIE,
         smoothed=GROUPS, simulated=False),
    Case("mixed_shards",
         [linear(MXFP8, MXFP8, include=["*to_*"]), linear(TOKEN8, CHANNEL8, include=["*ff_in"])],
         MINDIE_SHARDS, simulated=False),
    Case("foreign_w4a8_mxfp_ascend", [linear(MXFP8, MXFP4)], ASCEND, simulated=False),
    Case("fp8_attention", [linear(MXFP8, MXFP8), ROTATE, FA3], MINDIE, model="attention"),
    Case("old_w8a8_bf16", [], OLD, calibrator=W8A8, dtype=torch.bfloat16),
    Case("old_w8a8_timestep", [], OLD, calibrator=W8A8, max_dynamic_step=2,
         simulated=False),
    Case("old_w8a16_asymmetric", [], OLD, calibrator=W8A16 | {"w_sym": False}, calibrated=False),
    Case("old_w8a16_one_scale", [], OLD, calibrator=W8A16 | {"mm_tensor": True}, calibrated=False),
    Case("old_w4a16_gptq", [], OLD, calibrator=W4A16 | {"w_method": "GPTQ"}),
    Case("old_w4a16_group32", [], OLD, calibrator=W4A16 | GROUP32, calibrated=False,
         excluded=("head", "blocks.0.ff_out")),
    Case("old_w4a16_ascend_packed_k", [], OLD_ASCEND, calibrator=W4A16 | {"w_sym": False},
         calibrated=False),
    Case("old_w4a16_ascend_packed_n", [], OLD_ASCEND,
         calibrator=W4A16 | GROUP32 | {"w_sym": False}, calibrated=False,
         excluded=("head", "blocks.0.ff_out")),
]  # fmt: skip
