"""Attention, forward, for any scores: the maximum is kept as keys pass by, and earlier sums are scaled down to it.

Design. 128 queries lie in partitions, 1024 keys in the free dimension, which fills two banks of PSUM: so Vector
finds their maximum in one instruction, and Scalar makes and sums the exponentials in one. Masks are added by the tensor
engine itself, as a product of an identity with a tile of zeros and very small numbers, only where a tile is on the edge
of a mask. The exponentials are turned by the tensor engine, and their way back from PSUM is shared between Vector and
Scalar, which are the busiest engines here; the sum over values stays in PSUM for all keys of the block. The larger the
block, the fewer corrections.
"""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.silicon.kernels import attention as bounded
from outcrop.silicon.kernels.base import KernelCase, Tolerance, Tuning, choice
from outcrop.silicon.kernels.front import jit, nisa, nl
from outcrop.silicon.kernels.moves import P, copy, steps
from outcrop.silicon.kernels.turned import load_chunks, load_turned

_MASKED = -1e30  # times a scale, still a float32; its exponential is 0


@dataclass(frozen=True)
class OnlineTuning(Tuning):
    """Keys in a block, and every how many-th copy of turned exponentials Scalar makes (0: none)."""

    keys: int = choice(1024, 512, 2048)
    scalar_turn: int = choice(2, 0, 3, 4)


@jit
def attention_online(
    q: nl.NkiTensor,
    k: nl.NkiTensor,
    v: nl.NkiTensor,
    causal: bool = True,
    window: int = 0,
    tuning: OnlineTuning = OnlineTuning(),
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """``softmax(q k^T / sqrt(d)) v`` and the logarithms of its sums; arguments as of ``attention``."""
    heads, length = q.shape[0], q.shape[1]
    groups = k.shape[0]
    out = nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm)
    logs = nl.ndarray((heads, length), nl.float32, buffer=nl.shared_hbm)
    identity = nl.shared_identity_matrix(P, q.dtype)
    masks: dict[str, nl.NkiTensor] = {}
    for group in range(groups):
        keys = load_turned(k[group])
        values = load_chunks(v[group])
        for head in range(group * (heads // groups), (group + 1) * (heads // groups)):
            turned = load_turned(q[head])
            for start, height in steps(length, P):
                first = max(0, (start - window + 1) // P * P) if window else 0
                last = min(length, start + height) if causal else length
                state: dict[str, nl.NkiTensor] = {}
                for key, width in steps(last - first, tuning.keys):
                    scores = nl.ndarray((height, width), nl.float32, buffer=nl.psum)
                    for at, columns in steps(width, nl.tile_size.gemm_moving_fmax):
                        there = slice(first + key + at, first + key + at + columns)
                        nisa.nc_matmul(scores[:, at : at + columns], turned[:, start : start + height], keys[:, there])
                    add_masks(scores, start, first + key, causal, window, identity, masks)
                    attend(state, scores, values, first + key, q.shape[2], q.dtype, tuning)
                here = slice(start, start + height)
                finish(out[head, here, :], logs[head, here], state)
    return out, logs


def add_masks(
    scores: nl.NkiTensor,
    start: int,
    key: int,
    causal: bool,
    window: int,
    identity: nl.NkiTensor,
    masks: dict[str, nl.NkiTensor],
) -> None:
    """Add very small numbers to the scores of keys that a query does not see."""
    height, width = scores.shape
    for at, columns in steps(width, P):
        distance = start - (key + at)  # of the first query from the chunk's first key
        is_cut = causal and distance < columns - 1
        is_left = window and distance + height - 1 >= window
        if is_cut or is_left:
            name = str(distance)
            if name not in masks:
                masks[name] = mask_tile(distance, window, identity.dtype)
            nisa.nc_matmul(scores[:, at : at + columns], identity[0:height, 0:height], masks[name][0:height, 0:columns])


def mask_tile(distance: int, window: int, dtype: object) -> nl.NkiTensor:
    """``[query, key]``: 0 where the key is not after the query and in its window, else a very small number."""
    tile = nl.ndarray((P, P), dtype)
    nisa.memset(tile, 0.0)
    nisa.affine_select(tile, [[-1, P]], 1, tile, _MASKED, nl.greater_equal, offset=distance)
    if window:
        nisa.affine_select(tile, [[1, P]], -1, tile, _MASKED, nl.greater_equal, offset=window - 1 - distance)
    return tile


def attend(
    state: dict[str, nl.NkiTensor],
    scores: nl.NkiTensor,
    values: list[nl.NkiTensor],
    key: int,
    size: int,
    dtype: object,
    tuning: OnlineTuning,
) -> None:
    """Take one block of keys into ``state``: the negated maximum, the sum and the mixed values of 128 queries."""
    height, width = scores.shape
    scale = size**-0.5
    shift = nl.ndarray((height, 1), nl.float32)
    total = nl.ndarray((height, 1), nl.float32)
    powers = nl.ndarray((height, width), dtype)
    largest = nl.ndarray((height, 1), nl.float32)
    nisa.tensor_reduce(largest, nl.maximum, scores, 1, negate=True)
    if "shift" in state:
        nisa.tensor_scalar(shift, largest, nl.multiply, scale, op1=nl.minimum, operand1=state["shift"])
    else:
        nisa.tensor_scalar(shift, largest, nl.multiply, scale)
    nisa.activation_reduce(powers, nl.exp, scores, nl.add, total, bias=shift, scale=scale)
    mixed = nl.ndarray((height, size), nl.float32, buffer=nl.psum)
    for first, columns in steps(width, 8 * P):
        parts = steps(columns, P)
        bank = nl.ndarray((P, len(parts), P), dtype, buffer=nl.psum)
        turned = nl.ndarray((P, len(parts), height), dtype)
        for at in range(len(parts)):
            start, count = parts[at]
            nisa.nc_transpose(bank[0:count, at, 0:height], powers[:, first + start : first + start + count])
        is_scalar = tuning.scalar_turn > 0 and (key + first) // (8 * P) % tuning.scalar_turn == 1
        copy_parts(turned, bank[:, :, 0:height], parts, is_scalar)
        for at in range(len(parts)):
            start, count = parts[at]
            nisa.nc_matmul(mixed, turned[0:count, at, :], values[(key + first + start) // P])
    if "shift" in state:
        ratio = nl.ndarray((height, 1), nl.float32)
        nisa.activation(ratio, nl.exp, state["shift"], bias=shift, scale=-1.0)
        nisa.scalar_tensor_tensor(state["mixed"], state["mixed"], nl.multiply, ratio, nl.add, mixed)
        nisa.scalar_tensor_tensor(state["total"], state["total"], nl.multiply, ratio, nl.add, total)
        nisa.tensor_copy(state["shift"], shift)
    else:
        state["shift"], state["total"] = shift, total
        state["mixed"] = nl.ndarray((height, size), nl.float32)
        nisa.tensor_copy(state["mixed"], mixed)


def copy_parts(dst: nl.NkiTensor, src: nl.NkiTensor, parts: list[tuple[int, int]], is_scalar: bool) -> None:
    """Copy turned chunks to SBUF, those of 128 keys at once."""
    engine = nisa.engine.vector
    if is_scalar and nisa.get_nc_version() >= nisa.nc_version.gen3:
        engine = nisa.engine.scalar
    whole = len(parts) if parts[-1][1] == P else len(parts) - 1
    if whole:
        nisa.tensor_copy(dst[:, 0:whole, :], src[:, 0:whole, :], engine=engine)
    if whole < len(parts):
        rest = parts[-1][1]
        nisa.tensor_copy(dst[0:rest, whole, :], src[0:rest, whole, :], engine=engine)


def finish(out: nl.NkiTensor, logs: nl.NkiTensor, state: dict[str, nl.NkiTensor]) -> None:
    """Divide by the sums, and store."""
    height, size = out.shape
    share = nl.ndarray((height, 1), nl.float32)
    nisa.reciprocal(share, state["total"])
    result = nl.ndarray((height, size), out.dtype)
    nisa.tensor_scalar(result, state["mixed"], nl.multiply, share)
    copy(out, result)
    log = nl.ndarray((height, 1), nl.float32)
    nisa.activation(log, nl.log, state["total"])
    nisa.tensor_tensor(log, log, state["shift"], nl.subtract)
    copy(logs.expand_dim(1), log)


CASES = (
    KernelCase(
        name="attention_online",
        summary="causal attention for any scores, grouped queries",
        kernel=attention_online,
        inputs=bounded.inputs,
        reference=bounded.reference,
        work=bounded.work,
        tuning=OnlineTuning,
        small={"H": 4, "G": 2, "T": 300, "d": 64},
        large={"H": 2, "G": 1, "T": 8192, "d": 128},
        tolerance={"fp32": Tolerance(1e-4, 1e-5), "bf16": Tolerance(2e-2, 2e-2)},
        bound="tensor",
    ),
)
