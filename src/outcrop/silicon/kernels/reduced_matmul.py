"""Matrix product whose contraction is spread over cores, with its sum over cores: a row-parallel linear layer.

Design. Each rank multiplies its rows of K, and the partial results meet in an all-reduce. The result is made in bands
of rows, and each band is handed to the collective as soon as it is in HBM, so that links carry one band while the
tensor engine works on the next; only the last band's exchange is not hidden. Bands are large enough to be worth an
exchange, and a multiple of the product's own blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.silicon.kernels import matmul as plain
from outcrop.silicon.kernels.base import Array, KernelCase, Sizes, Tolerance, Tuning, Values, Work, choice
from outcrop.silicon.kernels.front import collectives, jit, nl
from outcrop.silicon.kernels.moves import copy, steps
from outcrop.silicon.nki import PerRank

RANKS = 2  # of the case below; the kernel takes any number


@dataclass(frozen=True)
class ReducedMatmulTuning(Tuning):
    """Rows of the result in a band."""

    band: int = choice(1024, 256, 512, 2048)


@jit
def reduced_matmul(
    a_t: nl.NkiTensor, b: nl.NkiTensor, ranks: int = RANKS, tuning: ReducedMatmulTuning = ReducedMatmulTuning()
) -> nl.NkiTensor:
    """The sum over ranks of ``a_t.T @ b``, on each of them: ``a_t`` is the rank's ``[K, M]``, ``b`` its ``[K, N]``."""
    rows, columns = a_t.shape[1], b.shape[1]
    out = nl.ndarray((rows, columns), a_t.dtype, buffer=nl.shared_hbm)
    group = collectives.ReplicaGroup([list(range(ranks))])
    for start, height in steps(rows, tuning.band):
        part = nl.ndarray((height, columns), a_t.dtype, buffer=nl.private_hbm)
        plain.multiply(part, [a_t[:, start : start + height]], [b], plain.MatmulTuning())
        band = nl.ndarray((height, columns), a_t.dtype, buffer=nl.private_hbm)
        collectives.all_reduce([part], [band], group, nl.add)
        copy(out[start : start + height, :], band)
    return out


def reference(a_t: PerRank, b: PerRank) -> Array:
    """The sum in float64."""
    total: Array = np.add.reduce([plain.reference(mine, theirs) for mine, theirs in zip(a_t, b, strict=True)])
    return total


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[PerRank, PerRank]:
    pairs = [plain.inputs({**sizes, "K": sizes["K"] // RANKS}, dtype, values) for _ in range(RANKS)]
    return PerRank(pair[0] for pair in pairs), PerRank(pair[1] for pair in pairs)


def work(sizes: Sizes, dtype: str) -> Work:
    """Of one rank."""
    return plain.work({**sizes, "K": sizes["K"] // RANKS}, dtype)


CASES = (
    KernelCase(
        name="reduced_matmul",
        summary="a_t.T @ b with the contraction spread over cores",
        kernel=reduced_matmul,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=ReducedMatmulTuning,
        small={"M": 300, "K": 280, "N": 520},
        large={"M": 4096, "K": 8192, "N": 4096},
        tolerance={"fp32": Tolerance(1e-5, 1e-5), "bf16": Tolerance(2e-2, 3e-2)},
        bound="tensor",
        ranks=RANKS,
    ),
)
