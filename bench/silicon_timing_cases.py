"""The published times that predictions are compared with, and how to run each kernel from a checkout of its source."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from outcrop.silicon.nki.activate import activate
from outcrop.silicon.nki.defaults import defaults, recording
from outcrop.silicon.nki.run import Run

BF16, FP32 = ml_dtypes.bfloat16, np.float32


@dataclass(frozen=True)
class Case:
    """One published time. ``run`` executes the kernel, given the folder of checkouts."""

    name: str
    chip: str
    measured_us: float
    blind: bool
    source: str
    run: Callable[[Path], object]
    group: str = ""


def run_case(case: Case, sources: Path) -> Run:
    """Execute a case without values and give its run."""
    names = {"target": case.chip, "relaxed": True}
    with activate(**names), defaults(**names, timing_only=True), recording() as runs:  # type: ignore[arg-type]
        case.run(sources)
    return runs[0]


def zeros(*shape: int, dtype: Any = FP32) -> Any:
    """Zeros that take no memory: without values only shapes and types matter."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


# -- attention of trainium-kernel-fusion ------------------------------------------------------------------------------


def _attention(kind: str, dtype: Any, length: int) -> Callable[[Path], object]:
    def run(sources: Path) -> object:
        made = module(sources / "trainium-kernel-fusion" / "kernels" / kind / "attention.py")
        return getattr(made, f"{kind}_attention")(*[zeros(128, length, dtype=dtype)] * 3)

    return run


_P50_US = {
    ("fused", "fp32", 512): 31, ("fused", "bf16", 512): 28, ("baseline", "fp32", 512): 52,
    ("baseline", "bf16", 512): 48,
    ("fused", "fp32", 1024): 69, ("fused", "bf16", 1024): 60, ("baseline", "fp32", 1024): 107,
    ("baseline", "bf16", 1024): 96,
}  # fmt: skip

ATTENTION = [
    Case(
        f"{kind} attention {dtype} {length}", "trn2", us, length == 1024, "trainium-kernel-fusion, device p50",
        _attention(kind, BF16 if dtype == "bf16" else FP32, length), "trn2 attention variants",
    )
    for (kind, dtype, length), us in _P50_US.items()
]  # fmt: skip


# -- tutorials of the SDK ---------------------------------------------------------------------------------------------


def _sdk(path: str, function: str, *args: Any) -> Callable[[Path], object]:
    def run(sources: Path) -> object:
        made = module(sources / "aws-neuron-sdk" / "general" / "nki" / "examples" / path)
        return getattr(made, function)(*args)

    return run


_MATMUL = {"tiled": 51800, "hoist_load": 42960, "block_free_dimension": 22070, "fully_optimized": 6970}

MATMUL = [
    Case(
        f"matmul tutorial: {step}", "trn1", us, False, "aws-neuron-sdk, matmul tutorial",
        _sdk("matrix_multiplication/matrix_multiplication_nki_kernels.py", f"nki_matmul_{step}_",
             zeros(8192, 4096, dtype=BF16), zeros(8192, 8192, dtype=BF16)), "trn1 matmul tutorial steps",
    )
    for step, us in _MATMUL.items()
]  # fmt: skip


def _mamba(version: int, channels: int, length: int) -> Callable[[Path], object]:
    wide, states = zeros(1, channels, length), zeros(1, 16, length)
    args = (wide, wide, zeros(channels, 16), states, states)
    return _sdk("fused_mamba/mamba_nki_kernels.py", f"mamba_v{version}", *args)


_MAMBA = [
    (1, 256, 512, 172.93), (1, 4096, 512, 2340), (2, 4096, 512, 1610), (2, 4096, 1024, 4400), (2, 4096, 2048, 8900),
    (3, 4096, 1024, 3300), (3, 4096, 2048, 6600), (3, 4096, 4096, 13300),
]  # fmt: skip

MAMBA = [
    Case(
        f"mamba tutorial v{version}: {channels} channels, {length} steps", "trn1", us, False,
        "aws-neuron-sdk, Mamba tutorial", _mamba(version, channels, length), "trn1 Mamba tutorial",
    )
    for version, channels, length, us in _MAMBA
]  # fmt: skip


# -- NKIBench ---------------------------------------------------------------------------------------------------------

_NKIBENCH = {
    ("swiglu", "swiglu_M4096_N3072_K1024", 2): 4222,
    ("matmul_add_rmsnorm", "matmul_add_rmsnorm_M4096_N2048_K2048", 1): 2667,
    ("add_rmsnorm_matmul", "add_rmsnorm_matmul_M4096_N2048_K1024", 1): 1222,
    ("rmsnorm_matmul", "rmsnorm_matmul_M4096_N2048_K1024", 1): 1056,
    ("rope", "rope_single_freq_apply_B1_H64_N4096_D128", 1): 4333,
    ("bmm", "bmm_B16_M4096_K64_N4096", 1): 4611,
    ("bmm_softmax", "bmm_softmax_B16_K64_M4096_N4096", 1): 12000,
    ("transpose_matmul", "transpose_matmul_M4096_K2048_N10944", 1): 9610,
    ("adamw", "adamw_M10944_N2048", 1): 2000,
    ("silu", "silu_M4096_N7168", 0): 1333,
    ("mamba", "mamba_M7168_C256_S16", 1): 2889,
    ("matmul", "matmul_M4096_N12288_K5120", 2): 35200,
    ("lora", "lora_M4096_N12288_K5120_R128", 1): 30170,
    ("gqa_full", "gqa_full_B1_N4096_QH16_KH8_D128", 2): 19110,
}


# Looked at before the choice between two DMA rates for trn1 was made.
_NKIBENCH_SEEN = {"swiglu", "matmul_add_rmsnorm", "add_rmsnorm_matmul", "rope", "silu", "adamw", "matmul"}


def _nkibench(file: str, reference: int) -> Callable[[Path], object]:
    def run(sources: Path) -> object:
        folder = sources / "AccelOpt" / "NKIBench"
        task = module(folder / "reference" / f"{file}_numpy_{reference}.py")
        real = np.random.normal
        np.random.normal = lambda loc=0, scale=1, size=None: np.zeros(size, FP32)  # type: ignore[assignment]
        try:
            args: Sequence[Any] = task.transform_to_nki_inputs(task.get_inputs())
        finally:
            np.random.normal = real
        return module(folder / "kernels" / f"{file}_0.py").kernel(*args)

    return run


NKIBENCH = [
    Case(
        f"NKIBench {name}",
        "trn1",
        us,
        name not in _NKIBENCH_SEEN,
        "AccelOpt, baselines",
        _nkibench(file, reference),
        "trn1 NKIBench",
    )
    for (name, file, reference), us in _NKIBENCH.items()
]


# -- searches and hand tuning -----------------------------------------------------------------------------------------

_GEMM_TRACE_US = (20990, 28680, 11800, 8070, 7620, 6960)
_HEADER = (
    "import numpy as np\nimport neuronxcc.nki as nki\nimport neuronxcc.nki.language as nl\n"
    "import neuronxcc.nki.isa as nisa\nimport neuronxcc.nki.typing as nt\n"
    "from neuronxcc.nki.language import par_dim\nK, M, N = 8192, 4096, 8192\n"
)


def _candidates(text: str) -> list[tuple[str, float]]:
    """Kernel and score of each step of a search, first to last: the file is one expression, the last step outermost."""
    calls = [each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.Call)]
    given = [{key.arg: key.value for key in call.keywords} for call in calls]
    return [
        (ast.literal_eval(each["code"]), float(ast.literal_eval(each["score"])))
        for each in reversed(given)
        if "code" in each and "score" in each
    ]


def _gemm_trace(step: int) -> Callable[[Path], object]:
    def run(sources: Path) -> object:
        text = (sources / "autocomp" / "examples" / "trn-tutorial" / "1_gemm_trace.py").read_text()
        code, score = _candidates(text)[step]
        assert round(score * 1000) == _GEMM_TRACE_US[step], "the trace is the one that the figures are from"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"gemm_step_{step}.py"
            path.write_text(_HEADER + code)
            made = module(path)
            kernel = next(getattr(made, name) for name in re.findall(r"^def (test\w*)\(", code, re.MULTILINE))
            return kernel(zeros(8192, 4096, dtype=BF16), zeros(8192, 8192, dtype=BF16))

    return run


GEMM_TRACE = [
    Case(
        f"autocomp GEMM step {step}",
        "trn1",
        us,
        step > 0,
        "autocomp, examples",
        _gemm_trace(step),
        "trn1 autocomp GEMM",
    )
    for step, us in enumerate(_GEMM_TRACE_US)
]


def _autotune(path: str, function: str) -> Callable[[Path], object]:
    def run(sources: Path) -> object:
        made = module(sources / "nki-autotune" / "kernel_library" / path)
        return getattr(made, function)(*[zeros(2048, 2048, dtype=BF16)] * 2)

    return run


AUTOTUNE = [  # seen: their errors decided how transfers are spread over rings
    Case("matmul 2048 cubed, left side transposed", "trn2", 2 * 2048**3 / 79e6 / 0.9092, False,
         "nki-autotune, 90.92 % of the peak", _autotune("matmul/lhsT_rhs/kernel_hand_90.92mfu.py",
                                                        "matmul_lhsT_rhs_nkigym")),
    Case("matmul 2048 cubed", "trn2", 2 * 2048**3 / 79e6 / 0.8926, False, "nki-autotune, 89.26 % of the peak",
         _autotune("matmul/lhs_rhs/kernel_handtuned_89.26mfu.py", "matmul_lhs_rhs_nkigym")),
]  # fmt: skip

CASES: list[Case] = [*ATTENTION, *AUTOTUNE, *MATMUL, *MAMBA, *GEMM_TRACE, *NKIBENCH]
