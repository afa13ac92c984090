"""Attention, backward: gradients of queries, keys and values from the saved logarithms of the sums.

Design. Queries lie in partitions, 512 keys in the free dimension. The probabilities come back from the scores in one
activation, whose bias is the negated logarithm of each query's sum, so that no reduction is needed and any scores are
safe. Four of the five products take what is in SBUF as it is; only the gradient of the scores is turned, for that of
the queries. Blocks of keys are the outer loop: gradients of keys and values are summed in PSUM over all queries, those
of the queries in SBUF. Vector takes the gradient of the scores in one instruction, and Scalar shares the copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.silicon.kernels import attention as forward
from outcrop.silicon.kernels.base import Array, KernelCase, Sizes, Tolerance, Tuning, Values, Work, choice, wide
from outcrop.silicon.kernels.front import jit, nisa, nl
from outcrop.silicon.kernels.moves import P, copy, steps, tile_of
from outcrop.silicon.kernels.turned import load_chunks, turn_chunks


@dataclass(frozen=True)
class AttentionBackwardTuning(Tuning):
    """Keys in a block, and the engine that copies turned gradients out of PSUM."""

    keys: int = choice(512, 128, 256)
    copy_engine: str = choice("scalar", "vector")


@jit
def attention_backward(
    q: nl.NkiTensor,
    k: nl.NkiTensor,
    v: nl.NkiTensor,
    out: nl.NkiTensor,
    logs: nl.NkiTensor,
    grad: nl.NkiTensor,
    causal: bool = True,
    window: int = 0,
    tuning: AttentionBackwardTuning = AttentionBackwardTuning(),
) -> tuple[nl.NkiTensor, nl.NkiTensor, nl.NkiTensor]:
    """Gradients of ``q``, ``k``, ``v`` for ``grad``; ``out`` and ``logs`` are what the forward kernels returned."""
    heads, size = q.shape[0], q.shape[2]
    groups = k.shape[0]
    q_grad = nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm)
    k_grad = nl.ndarray(k.shape, k.dtype, buffer=nl.shared_hbm)
    v_grad = nl.ndarray(v.shape, v.dtype, buffer=nl.shared_hbm)
    for group in range(groups):
        keys = load_chunks(k[group])
        turned = [turn_chunks(keys), turn_chunks(load_chunks(v[group]))]
        totals = []
        for _ in range(2):
            total = nl.ndarray((P, len(keys), size), nl.float32)
            nisa.memset(total, 0.0, engine=nisa.engine.gpsimd)
            totals.append(total)
        for head in range(group * (heads // groups), (group + 1) * (heads // groups)):
            sums = head_gradients(
                [q[head], out[head], logs[head], grad[head]], keys, turned, totals, causal, window, tuning
            )
            store_chunks(q_grad[head], sums, size**-0.5)
        store_chunks(k_grad[group], totals[0], size**-0.5)
        store_chunks(v_grad[group], totals[1], 1.0)
    return q_grad, k_grad, v_grad


def head_gradients(
    head: list[nl.NkiTensor],
    keys: list[nl.NkiTensor],
    turned: list[nl.NkiTensor],
    totals: list[nl.NkiTensor],
    causal: bool,
    window: int,
    tuning: AttentionBackwardTuning,
) -> nl.NkiTensor:
    """Add one head's gradients of keys and values to ``totals``; returns those of its queries ``[128, T/128, d]``."""
    q, out, logs, grad = head
    length, size = q.shape
    queries, grads = load_chunks(q), load_chunks(grad)
    turned_queries, turned_grads = turn_chunks(queries), turn_chunks(grads)
    products, biases = row_constants(out, logs, grads)
    q_total = nl.ndarray((P, len(queries), size), nl.float32)
    nisa.memset(q_total, 0.0, engine=nisa.engine.gpsimd)
    for key, width in steps(length, tuning.keys):
        parts = steps(width, P)
        k_sum = nl.ndarray((P, len(parts), size), nl.float32, buffer=nl.psum)
        v_sum = nl.ndarray((P, len(parts), size), nl.float32, buffer=nl.psum)
        for at in range(len(queries)):
            start, height = at * P, queries[at].shape[0]
            seen = seen_columns(start, height, key, width, causal, window)
            if seen[0] < seen[1]:
                here = slice(start, start + height)
                powers, slopes = probabilities(
                    [turned_queries[:, here], turned_grads[:, here]],
                    turned,
                    [products[at], biases[at]],
                    (start, key, seen[0], seen[1]),
                    causal,
                    window,
                )
                add_sums(powers, slopes, parts, seen, queries[at], grads[at], k_sum, v_sum)
                add_query_sums(q_total[0:height, at, :], slopes, parts, seen, keys[key // P :], tuning)
        for part in range(len(parts)):
            rows = parts[part][1]
            for total, made in ((totals[0], k_sum), (totals[1], v_sum)):
                target = total[0:rows, key // P + part, :]
                nisa.tensor_tensor(target, target, made[0:rows, part, :], nl.add)
    return q_total


def row_constants(
    out: nl.NkiTensor, logs: nl.NkiTensor, grads: list[nl.NkiTensor]
) -> tuple[list[nl.NkiTensor], list[nl.NkiTensor]]:
    """For each 128 queries: the sums of ``out * grad``, and the negated logarithms of the sums."""
    products, biases = [], []
    outs = load_chunks(out)
    for at in range(len(outs)):
        height, size = outs[at].shape
        held = nl.ndarray((height, size), nl.float32)
        product = nl.ndarray((height, 1), nl.float32)
        nisa.tensor_tensor(held, outs[at], grads[at], nl.multiply)
        nisa.tensor_reduce(product, nl.add, held, 1)
        bias = tile_of(logs[at * P : at * P + height].expand_dim(1))
        nisa.tensor_scalar(bias, bias, nl.multiply, -1.0)
        products.append(product)
        biases.append(bias)
    return products, biases


def seen_columns(start: int, height: int, key: int, width: int, causal: bool, window: int) -> tuple[int, int]:
    """Which keys of a block some of the queries see, in whole 128s: ``(first, last + 1)`` within the block."""
    low, high = 0, width
    if causal:
        high = min(width, start + height - key)
    if window:
        low = max(0, (start - window + 1 - key) // P * P)
    return low, high


def probabilities(
    moved: list[nl.NkiTensor],
    turned: list[nl.NkiTensor],
    constants: list[nl.NkiTensor],
    place: tuple[int, int, int, int],
    causal: bool,
    window: int,
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """Probabilities of 128 queries over a block of keys, and the gradients of their scores before scaling."""
    start, key, low, high = place
    size, height = moved[0].shape
    columns = slice(key + low, key + high)
    scores = nl.ndarray((height, high - low), nl.float32, buffer=nl.psum)
    through = nl.ndarray((height, high - low), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(scores, moved[0], turned[0][:, columns])
    nisa.nc_matmul(through, moved[1], turned[1][:, columns])
    powers = nl.ndarray((height, high - low), moved[0].dtype)
    slopes = nl.ndarray((height, high - low), moved[0].dtype)
    nisa.activation(powers, nl.exp, scores, bias=constants[1], scale=size**-0.5)
    mask(powers, start, key + low, causal, window)
    nisa.scalar_tensor_tensor(slopes, through, nl.subtract, constants[0], nl.multiply, powers)
    return powers, slopes


def mask(powers: nl.NkiTensor, start: int, key: int, causal: bool, window: int) -> None:
    """Zero the probabilities of keys that a query does not see."""
    height, width = powers.shape
    distance = start - key
    if causal and distance < width - 1:
        first = max(0, distance) // P * P
        part = powers[:, first:width]
        nisa.affine_select(part, [[-1, width - first]], 1, part, 0.0, nl.greater_equal, offset=distance - first)
    if window and distance + height - 1 >= window:
        last = min(width, distance + height - window)
        part = powers[:, 0:last]
        nisa.affine_select(part, [[1, last]], -1, part, 0.0, nl.greater_equal, offset=window - 1 - distance)


def add_sums(
    powers: nl.NkiTensor,
    slopes: nl.NkiTensor,
    parts: list[tuple[int, int]],
    seen: tuple[int, int],
    queries: nl.NkiTensor,
    grads: nl.NkiTensor,
    k_sum: nl.NkiTensor,
    v_sum: nl.NkiTensor,
) -> None:
    """Add what 128 queries give to the gradients of the keys and values of a block."""
    for part in range(len(parts)):
        first, last = parts[part][0], min(parts[part][0] + parts[part][1], seen[1])
        if first >= seen[0] and first < last:
            columns = slice(first - seen[0], last - seen[0])
            nisa.nc_matmul(v_sum[0 : last - first, part, :], powers[:, columns], grads)
            nisa.nc_matmul(k_sum[0 : last - first, part, :], slopes[:, columns], queries)


def add_query_sums(
    total: nl.NkiTensor,
    slopes: nl.NkiTensor,
    parts: list[tuple[int, int]],
    seen: tuple[int, int],
    keys: list[nl.NkiTensor],
    tuning: AttentionBackwardTuning,
) -> None:
    """Turn the gradients of the scores, and add their product with the keys to those of the queries."""
    height, size = total.shape
    even = height + height % 2
    bank = nl.ndarray((P, len(parts), even), slopes.dtype, buffer=nl.psum)
    held = nl.ndarray((P, len(parts), height), slopes.dtype)
    added = nl.ndarray((height, size), nl.float32, buffer=nl.psum)
    visible = []
    for part in range(len(parts)):
        first, last = parts[part][0], min(parts[part][0] + parts[part][1], seen[1])
        if first >= seen[0] and first < last:
            visible.append((part, last - first))
            nisa.nc_transpose(bank[0 : last - first, part, 0:height], slopes[:, first - seen[0] : last - seen[0]])
    is_scalar = tuning.copy_engine == "scalar" and nisa.get_nc_version() >= nisa.nc_version.gen3
    engine = nisa.engine.scalar if is_scalar else nisa.engine.vector
    whole = []
    for part, rows in visible:
        if rows == P:
            whole.append(part)
        else:
            nisa.tensor_copy(held[0:rows, part, :], bank[0:rows, part, 0:height], engine=engine)
    if len(whole) > 0:
        there = slice(whole[0], whole[-1] + 1)
        nisa.tensor_copy(held[:, there, :], bank[:, there, 0:height], engine=engine)
    for part, rows in visible:
        nisa.nc_matmul(added, held[0:rows, part, :], keys[part][0:rows, :])
    nisa.tensor_tensor(total, total, added, nl.add)


def store_chunks(dst: nl.NkiTensor, chunks: nl.NkiTensor, scale: float) -> None:
    """Store ``[128, T/128, d]`` to ``[T, d]``, scaled: here once, rather than every gradient of a score."""
    length, size = dst.shape
    for start, height in steps(length, P):
        tile = nl.ndarray((height, size), dst.dtype)
        nisa.tensor_scalar(tile, chunks[0:height, start // P, :], nl.multiply, scale)
        copy(dst[start : start + height, :], tile, start // P)


def reference(
    q: Array, k: Array, v: Array, out: Array, logs: Array, grad: Array, causal: bool = True, window: int = 0
) -> tuple[Array, Array, Array]:
    """The gradients in float64, from ``q``, ``k``, ``v`` and ``grad`` alone."""
    del out, logs
    queries, keys, values, back = wide(q, k, v, grad)
    heads, length, size = queries.shape
    groups = keys.shape[0]
    keys, values = (np.repeat(each, heads // groups, axis=0) for each in (keys, values))
    scores = queries @ keys.transpose(0, 2, 1) / np.sqrt(size)
    scores = np.where(forward.visible(length, causal, window), scores, -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    through = back @ values.transpose(0, 2, 1)
    slopes = powers * (through - (powers * through).sum(axis=-1, keepdims=True)) / np.sqrt(size)
    grouped = groups, heads // groups, length, size
    k_grad = (slopes.transpose(0, 2, 1) @ queries).reshape(grouped).sum(axis=1)
    v_grad = (powers.transpose(0, 2, 1) @ back).reshape(grouped).sum(axis=1)
    return slopes @ keys, k_grad, v_grad


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    """For the causal kernel without a window."""
    q, k, v = forward.inputs(sizes, dtype, values)
    grad = values.normal(q.shape, dtype)
    if values.seed is None:
        return q, k, v, grad, values.normal(q.shape[:2], "fp32"), grad
    out, logs = forward.reference(q, k, v)
    return q, k, v, out.astype(q.dtype), logs.astype(np.float32), grad


def work(sizes: Sizes, dtype: str) -> Work:
    """Five products over the pairs that the causal mask lets through."""
    once = forward.work(sizes, dtype)
    return Work(once.flops * 2.5, once.bytes * 2.0)


CASES = (
    KernelCase(
        name="attention_backward",
        summary="gradients of causal attention, grouped queries",
        kernel=attention_backward,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=AttentionBackwardTuning,
        small={"H": 4, "G": 2, "T": 300, "d": 64},
        large={"H": 2, "G": 1, "T": 4096, "d": 128},
        tolerance={"fp32": Tolerance(1e-4, 2e-5), "bf16": Tolerance(4e-2, 6e-2)},
        bound="tensor",
    ),
)
