"""How fast kernels compute: a tiled matmul against NumPy's own, and small instructions per second, one by one.

    OMP_NUM_THREADS=1 python bench/silicon_functional.py

The matmul is 4096x4096x4096 in bfloat16 as a kernel would tile it, with loads, PSUM accumulation and stores: 8,192
``nc_matmul`` instructions with every check on. It is compared with ``numpy.matmul`` in float32 on the same matrices in
the same process (the best of several runs each), and its result with NumPy's. The table gives the speed of single
instructions on small tiles, where the cost of an instruction is not its arithmetic. Not covered: timing of the chip
(that is ``outcrop kernel profile``) and kernels on several cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from outcrop.base.errors import UserError
from outcrop.silicon import chip
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl

TILE_K, TILE_M, TILE_N = 128, 128, 512


def matmul_kernel(lhs_t: Any, rhs: Any, result: Any) -> None:
    """``result = lhs_t.T @ rhs``; a column of the right side stays in SBUF while the left side streams past it."""
    depth, rows = lhs_t.shape
    columns = rhs.shape[1]
    tiles = depth // TILE_K
    left = lhs_t.reshape((tiles, TILE_K, rows)).permute((1, 0, 2))
    right = rhs.reshape((tiles, TILE_K, columns)).permute((1, 0, 2))
    for n in range(columns // TILE_N):
        moving = nl.ndarray((TILE_K, tiles, TILE_N), dtype=rhs.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=moving, src=right[:, :, n * TILE_N : (n + 1) * TILE_N])
        for m in range(rows // TILE_M):
            stationary = nl.ndarray((TILE_K, tiles, TILE_M), dtype=lhs_t.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=stationary, src=left[:, :, m * TILE_M : (m + 1) * TILE_M])
            total = nl.ndarray((TILE_M, TILE_N), dtype=nl.float32, buffer=nl.psum)
            for k in range(tiles):
                nisa.nc_matmul(dst=total, stationary=stationary[:, k, :], moving=moving[:, k, :])
            block = nl.ndarray((TILE_M, TILE_N), dtype=result.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(dst=block, src=total)
            nisa.dma_copy(
                dst=result[m * TILE_M : (m + 1) * TILE_M, n * TILE_N : (n + 1) * TILE_N],
                src=block,
            )


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def measure_matmul(size: int, target: str, repeats: int) -> dict[str, Any]:
    """Wall times of the kernel and of NumPy, their ratio, and how far apart the results are."""
    random = np.random.default_rng(0)
    lhs_t, rhs = (random.standard_normal((size, size), np.float32).astype(ml_dtypes.bfloat16) for _ in range(2))
    lhs_32, rhs_32 = lhs_t.astype(np.float32), rhs.astype(np.float32)
    expected = np.matmul(lhs_32.T, rhs_32)
    got = np.zeros((size, size), np.float32)
    instructions: dict[str, int] = {}

    def simulate() -> None:
        core = Machine(Settings(target=chip.load(target))).cores[0]
        with core.active():
            operands = (("lhs_t", lhs_t, nl.bfloat16), ("rhs", rhs, nl.bfloat16), ("result", got, nl.float32))
            matmul_kernel(*(core.host_tensor(values, kind, name) for name, values, kind in operands))
        instructions.clear()
        for each in core.trace:
            instructions[each.op] = instructions.get(each.op, 0) + 1

    simulated_s = best_of(repeats, simulate)
    numpy_s = best_of(repeats, lambda: np.matmul(lhs_32.T, rhs_32))
    return {
        "size": size,
        "simulated_s": simulated_s,
        "numpy_s": numpy_s,
        "ratio": simulated_s / numpy_s,
        "instructions": instructions,
        "largest_difference": float(np.abs(got - expected).max() / np.abs(expected).max()),
    }


def small_instructions(core: Core) -> dict[str, Callable[[], object]]:
    """Calls on 128 partitions of 64 elements or fewer."""
    random = np.random.default_rng(0)

    def filled(shape: tuple[int, ...], dtype: Any = nl.float32, region: Any = nl.sbuf) -> Any:
        tensor = nl.ndarray(shape, dtype=dtype, buffer=region)
        core.write(tensor, random.uniform(0.5, 1.5, shape).astype(np.float32))
        return tensor

    one, two, out = filled((128, 64)), filled((128, 64)), filled((128, 64))
    half, half_out = filled((128, 64), nl.bfloat16), filled((128, 64), nl.bfloat16)
    column = filled((128, 1))
    small = filled((32, 32))
    psum = nl.ndarray((64, 64), dtype=nl.float32, buffer=nl.psum)
    turned = nl.ndarray((64, 128), dtype=nl.bfloat16, buffer=nl.psum)
    picked = nl.ndarray((128, 8), dtype=nl.float32, buffer=nl.sbuf)
    return {
        "nc_matmul": lambda: nisa.nc_matmul(dst=psum, stationary=half, moving=half),
        "nc_transpose (tensor)": lambda: nisa.nc_transpose(dst=turned, data=half),
        "nc_transpose (vector)": lambda: nisa.nc_transpose(dst=small, data=small),
        "tensor_copy": lambda: nisa.tensor_copy(dst=out, src=one),
        "memset": lambda: nisa.memset(dst=out, value=0.0),
        "tensor_tensor": lambda: nisa.tensor_tensor(dst=out, data1=one, data2=two, op=nl.add),
        "tensor_tensor (bf16)": lambda: nisa.tensor_tensor(dst=half_out, data1=half, data2=half, op=nl.add),
        "tensor_scalar": lambda: nisa.tensor_scalar(dst=out, data=one, op0=nl.multiply, operand0=2.0),
        "tensor_scalar (vector)": lambda: nisa.tensor_scalar(dst=out, data=one, op0=nl.add, operand0=column),
        "scalar_tensor_tensor": lambda: nisa.scalar_tensor_tensor(
            dst=out, data=one, op0=nl.multiply, operand0=2.0, op1=nl.add, operand1=two
        ),
        "tensor_reduce": lambda: nisa.tensor_reduce(dst=column, op=nl.add, data=one, axis=1),
        "reciprocal": lambda: nisa.reciprocal(dst=out, data=one),
        "activation": lambda: nisa.activation(dst=out, op=nl.exp, data=one),
        "tensor_tensor_scan": lambda: nisa.tensor_tensor_scan(
            dst=out, data0=one, data1=two, initial=0.0, op0=nl.multiply, op1=nl.add
        ),
        "max8": lambda: nisa.max8(dst=picked, src=one),
        "dma_copy": lambda: nisa.dma_copy(dst=out, src=one),
    }


def measure_small(target: str, calls: int, repeats: int) -> dict[str, float | None]:
    """Instructions per second for each; ``None`` for one that is not built yet."""
    core = Machine(Settings(target=chip.load(target))).cores[0]
    speeds: dict[str, float | None] = {}
    with core.active():
        for name, call in small_instructions(core).items():
            try:
                call()
            except UserError:
                speeds[name] = None
                continue
            speeds[name] = calls / best_of(repeats, lambda call=call: [call() for _ in range(calls)])  # type: ignore[misc]
            core.trace.clear()
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--target", default="trn2")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2000, help="of each small instruction")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    matmul = measure_matmul(arguments.size, arguments.target, arguments.repeats)
    small = measure_small(arguments.target, arguments.calls, arguments.repeats)
    found = {
        "target": arguments.target,
        "machine": platform.processor() or platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "numpy": np.__version__,
        "matmul": matmul,
        "instructions_per_s": small,
    }
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"target {arguments.target}, NumPy {np.__version__}, threads {found['threads']}")
    print(
        f"matmul {matmul['size']}: {matmul['simulated_s']:.2f} s simulated, {matmul['numpy_s']:.2f} s numpy.matmul, "
        f"ratio {matmul['ratio']:.2f} (at most 4)"
    )
    for name, speed in small.items():
        print(f"{name:24} {'not built yet' if speed is None else f'{speed:10,.0f} /s'}")
    built = [1 / speed for speed in small.values() if speed]
    print(f"{'all of them':24} {len(built) / sum(built):10,.0f} /s (at least 20,000)")


if __name__ == "__main__":
    main()
