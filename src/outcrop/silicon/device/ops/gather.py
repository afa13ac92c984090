"""The gpsimd engine's instructions with run-time positions: gathers, segment bounds, nonzero positions, top k.

Each of the engine's cores serves 16 partitions: local_gather and topk work on such groups, nonzero_with_count on the
first partition of each. Source: NKI ISA API (NKI 0.6.0) of the five instructions.

Not covered, for want of documentation: positions outside the data are refused (undefined there). topk writes its K
results as a snake like its input: result j lies in partition j % 16 of the group, column j // 16, ascending; the rest
of val_dst and idx_dst becomes 0. Of equal values it takes the lowest positions, and NaN by its bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import access, checks, dtypes, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

GROUP = 16  # partitions of one core of the gpsimd engine
_RUNS = (1, 2, 4, 8, 16, 32)
_MOST_INDICES = 4096
_TOPK_SHORTEST, _TOPK_LONGEST, _TOPK_MOST = 8, 65536, 32768
_SIGNED_32 = range(-(2**31), 2**31)


def local_gather(
    core: Core,
    dst: Tensor,
    src_buffer: Tensor,
    index: Tensor,
    num_elem_per_idx: int,
    num_valid_indices: int | None,
    name: str | None,
) -> Instruction:
    """Runs of elements of each partition, at offsets that its group of 16 partitions shares.

    Offset i of a group lies at ``index[i % 16, i // 16]`` and counts elements; a run has ``num_elem_per_idx``.
    """
    run = int(num_elem_per_idx)
    count = core.checked(_check_local_gather, dst, src_buffer, index, run, num_valid_indices)
    if core.values:
        groups = src_buffer.shape[0] // GROUP
        held = access.read_needed(core, index, (_snake_order(index) < count).reshape(index.shape))
        snake = held.reshape(groups, GROUP, -1).transpose(0, 2, 1).reshape(groups, -1)
        offsets = snake[:, :count].astype(np.int64)
        _require_inside(src_buffer, "local_gather", offsets, src_buffer.free_size - run + 1)
        source = core.read(src_buffer).reshape(groups, GROUP, -1)
        elements = (offsets[:, :, None] + np.arange(run)).reshape(groups, -1)
        gathered = np.empty((groups, GROUP, count * run), source.dtype)
        for each, group in enumerate(source):  # at most eight; inside the range, so "clip" is only faster
            group.take(elements[each], axis=1, out=gathered[each], mode="clip")
        core.carry_as(lambda missing: _gathered(missing, elements).reshape(dst.shape), src_buffer)
        core.write(dst, gathered.reshape(dst.shape))
    params = {"num_elem_per_idx": run, "num_valid_indices": count}
    return core.record("local_gather", Engine.gpsimd, (dst,), (src_buffer, index), params, name)


def _gathered(missing: Array, elements: Array) -> Array:
    """Of ``[groups, count]`` elements of each partition, which ones nothing wrote."""
    each = missing.reshape(elements.shape[0], GROUP, -1)
    taken: Array = np.take_along_axis(each, np.broadcast_to(elements[:, None], (*each.shape[:2], elements.shape[1])), 2)
    return taken


def nc_n_gather(core: Core, dst: Tensor, data: Tensor, indices: Tensor, name: str | None) -> Instruction:
    """Elements of each partition at the flattened positions that the same partition of ``indices`` holds."""
    core.checked(_check_n_gather, dst, data, indices)
    if core.values:
        positions = core.read(indices, defined=True).reshape(indices.shape[0], -1)
        _require_inside(data, "nc_n_gather", positions, data.free_size)
        rows = np.arange(data.shape[0])[:, None] * data.free_size
        flat = core.read(data).reshape(-1)
        core.carry_as(lambda missing: missing.reshape(-1)[positions + rows].reshape(dst.shape), data)
        core.write(dst, flat.take(positions + rows, mode="clip").reshape(dst.shape))  # checked above: "clip" is faster
    return core.record("nc_n_gather", Engine.gpsimd, (dst,), (data, indices), name=name)


def sequence_bounds(core: Core, dst: Tensor, segment_ids: Tensor, name: str | None) -> Instruction:
    """For each element where its run of equal ids begins, then where it ends (exclusive); id 0 gives n and -1."""
    core.checked(_check_sequence_bounds, dst, segment_ids)
    if core.values:
        ids = core.read(segment_ids).reshape(-1)
        if (ids < 0).any():
            refuse(
                rules.PARAMETER,
                f"sequence_bounds found a negative id in {segment_ids.describe()}.",
                "Segment ids are 0 for padding, or positive.",
            )
        count = len(ids)
        at = np.arange(count)
        changes = ids[1:] != ids[:-1]
        begins = np.maximum.accumulate(np.where(np.concatenate(([True], changes)), at, 0))
        ends = np.minimum.accumulate(np.where(np.concatenate((changes, [True])), at + 1, count)[::-1])[::-1]
        both = np.stack((np.where(ids == 0, count, begins), np.where(ids == 0, -1, ends)))
        core.write(dst, both.reshape(dst.shape))
    return core.record("sequence_bounds", Engine.gpsimd, (dst,), (segment_ids,), name=name)


def nonzero_with_count(
    core: Core, dst: Tensor, src: Tensor, index_offset: int, padding_val: int, name: str | None
) -> Instruction:
    """In partitions 0, 16, … only: the positions of elements that are not 0, then padding, and last their number.

    The cores work alone: where some of these partitions were not written, their results count as not written either.
    """
    offset, padding = int(index_offset), int(padding_val)
    core.checked(_check_nonzero, dst, src, offset, padding)
    if core.values:
        rows = _first_of_groups(src)
        unwritten = _unwritten_rows(rows)
        values = rows.array if unwritten is not None else core.read(rows)
        found = values.reshape(rows.shape[0], -1) != 0
        counts = found.sum(axis=1, dtype=np.int64)[:, None]
        positions = np.argsort(~found, axis=1, kind="stable") + offset
        positions[np.arange(found.shape[1]) >= counts] = padding
        target = _first_of_groups(dst)
        core.write(target, np.concatenate((positions, counts), axis=1).astype(np.int32).reshape(target.shape))
        if unwritten is not None:
            shape = (-1,) + (1,) * (len(target.shape) - 1)
            target.storage.forget(target, np.broadcast_to(unwritten.reshape(shape), target.shape))
    params = {"index_offset": offset, "padding_val": padding}
    return core.record("nonzero_with_count", Engine.gpsimd, (dst,), (src,), params, name)


def topk(core: Core, val_dst: Tensor, idx_dst: Tensor, src: Tensor, n: int, name: str | None) -> Instruction:
    """The K largest of ``n`` elements that lie as a snake over each group of 16 partitions, ascending, as a snake."""
    count = int(n)
    core.checked(_check_topk, val_dst, idx_dst, src, count)
    if core.values:
        groups, k = src.shape[0] // GROUP, val_dst.free_size
        held = access.read_needed(core, src, (_snake_order(src) < count).reshape(src.shape))
        bits = held.astype(dtypes.bfloat16.numpy, copy=False).view(np.uint16)
        snake = bits.reshape(groups, GROUP, -1).transpose(0, 2, 1).reshape(groups, -1)[:, :count]
        ordered = np.where(snake & 0x8000, ~snake, snake | 0x8000).astype(np.uint32)  # as unsigned as the floats are
        keys = ordered << 16 | (0xFFFF - np.arange(count, dtype=np.uint32))  # of equal values the lowest position
        largest = np.sort(np.partition(keys, count - k, axis=1)[:, count - k :], axis=1)
        positions = 0xFFFF - (largest & 0xFFFF)
        values = np.take_along_axis(snake, positions.astype(np.int64), axis=1)
        core.write(val_dst, _as_snake(values, val_dst).view(dtypes.bfloat16.numpy))
        core.write(idx_dst, _as_snake(positions, idx_dst))
    params = {"n": count, "k": val_dst.free_size}
    return core.record("topk", Engine.gpsimd, (val_dst, idx_dst), (src,), params, name)


def _snake_order(tensor: Tensor) -> Array:
    """``[P, elements]``: which place of its group's snake each element has."""
    columns = np.arange(tensor.free_size) * GROUP
    order: Array = columns[None, :] + (np.arange(tensor.shape[0]) % GROUP)[:, None]
    return order


def _as_snake(results: Array, target: Tensor) -> Array:
    """``[groups, K]`` results laid over 16 partitions for each group; zeros behind them."""
    groups, k = results.shape
    columns = -(-k // GROUP)
    padded = np.zeros((groups, columns * GROUP), results.dtype)
    padded[:, :k] = results
    laid = np.zeros((groups * GROUP, target.free_size), results.dtype)
    laid[:, :columns] = padded.reshape(groups, columns, GROUP).transpose(0, 2, 1).reshape(-1, columns)
    return laid.reshape(target.shape)


def _first_of_groups(tensor: Tensor) -> Tensor:
    """Partitions 0, 16, … of a view."""
    shape = (-(-tensor.shape[0] // GROUP), *tensor.shape[1:])
    return tensor._with(shape, (tensor.strides[0] * GROUP, *tensor.strides[1:]), tensor.offset)


def _unwritten_rows(rows: Tensor) -> Array | None:
    """Which rows have bytes that nothing wrote; ``None`` where none has, or all have and the read is to be refused."""
    if rows.is_indirect() or rows.storage.whole:
        return None
    missing = rows.storage.unwritten(rows)
    if missing is None:
        return None
    found: Array = np.any(missing.reshape(rows.shape[0], -1), axis=1)
    return None if found.all() else found


def _require_inside(data: Tensor, op: str, positions: Array, limit: int) -> None:
    """Positions must lie in ``[0, limit)``."""
    highest, lowest = int(positions.max()), int(positions.min())
    if lowest < 0 or highest >= limit:
        refuse(
            rules.OUT_OF_BOUNDS,
            f"{op} got positions {lowest} to {highest} in {data.describe()}.",
            f"They must be 0 to {limit - 1}: elements of the flattened free dimensions, with room for the whole run.",
        )


# -- static rules ------------------------------------------------------------------------------------------------------


def _in_sbuf(core: Core, op: str, **operands: Tensor) -> None:
    for role, tensor in operands.items():
        checks.engine_operand(core, op, role, tensor, checks.SBUF_ONLY)


def _same_type(op: str, role: str, dst: Tensor, source: Tensor) -> None:
    if dst.dtype is not source.dtype:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got {role} {source.describe()} and dst {dst.describe()}.",
            "It moves bits: both must have the same data type.",
        )


def _groups(op: str, role: str, tensor: Tensor) -> None:
    if tensor.shape[0] % GROUP:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()}.",
            f"It works on groups of {GROUP} partitions: use a multiple of {GROUP}.",
        )


def _check_local_gather(core: Core, dst: Tensor, src_buffer: Tensor, index: Tensor, run: int, valid: int | None) -> int:
    op = "local_gather"
    _in_sbuf(core, op, dst=dst, src_buffer=src_buffer, index=index)
    checks.dtype_in(core, op, "index", index, (dtypes.uint16,))
    _same_type(op, "src_buffer", dst, src_buffer)
    _groups(op, "src_buffer", src_buffer)
    held = index.free_size * GROUP
    count = held if valid is None else int(valid)
    if run not in _RUNS or not 1 <= count <= min(held, _MOST_INDICES):
        refuse(
            rules.PARAMETER,
            f"{op} got num_elem_per_idx={run} and {count} indices per group; index {index.describe()} holds {held}.",
            f"num_elem_per_idx is one of {', '.join(map(str, _RUNS))}; a group has 1 to {min(held, _MOST_INDICES)} "
            "indices (num_valid_indices).",
        )
    if not dst.shape[0] == src_buffer.shape[0] == index.shape[0] or dst.free_size != count * run:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got dst {dst.describe()}, src_buffer {src_buffer.describe()} and index {index.describe()} for "
            f"{count} indices of {run} elements.",
            f"All have the same partitions, and dst has {count * run} elements in each.",
        )
    if index.start_partition != src_buffer.start_partition:
        refuse(
            rules.START_PARTITION,
            f"{op} got src_buffer {src_buffer.describe()} and index {index.describe()}.",
            f"Each core reads data and indices from its own {GROUP} partitions: both start at the same partition.",
        )
    return count


def _check_n_gather(core: Core, dst: Tensor, data: Tensor, indices: Tensor) -> None:
    op = "nc_n_gather"
    _in_sbuf(core, op, dst=dst, data=data, indices=indices)
    checks.dtype_in(core, op, "indices", indices, (dtypes.uint32,))
    _same_type(op, "data", dst, data)
    checks.same_elements(core, op, indices=indices, dst=dst)
    if data.shape[0] != dst.shape[0]:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got data {data.describe()} and dst {dst.describe()}.",
            "Both must have the same partitions.",
        )


def _check_sequence_bounds(core: Core, dst: Tensor, segment_ids: Tensor) -> None:
    op = "sequence_bounds"
    _in_sbuf(core, op, dst=dst, segment_ids=segment_ids)
    for role, tensor in (("dst", dst), ("segment_ids", segment_ids)):
        checks.dtype_in(core, op, role, tensor, (dtypes.float32, dtypes.int32))
    count = segment_ids.free_size
    if segment_ids.shape[0] != 1 or dst.shape[0] != 1 or dst.free_size != 2 * count:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got segment_ids {segment_ids.describe()} and dst {dst.describe()}.",
            f"Both have one partition, and dst is [1, 2, {count}]: starts, then ends.",
        )


def _check_nonzero(core: Core, dst: Tensor, src: Tensor, offset: int, padding: int) -> None:
    op = "nonzero_with_count"
    checks.feature(core, op, "nonzero_with_count", "the instruction")
    _in_sbuf(core, op, dst=dst, src=src)
    checks.dtype_in(core, op, "src", src, (dtypes.float32, dtypes.int32))
    checks.dtype_in(core, op, "dst", dst, (dtypes.int32,))
    if dst.shape[0] != src.shape[0] or dst.free_size != src.free_size + 1:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got src {src.describe()} and dst {dst.describe()}.",
            f"dst has the partitions of src and one element more in each: {src.free_size + 1}.",
        )
    if offset not in _SIGNED_32 or padding not in _SIGNED_32:
        refuse(
            rules.PARAMETER,
            f"{op} got index_offset={offset} and padding_val={padding}.",
            "Both are signed integers of 32 bits.",
        )


def _check_topk(core: Core, val_dst: Tensor, idx_dst: Tensor, src: Tensor, n: int) -> None:
    op = "topk"
    _in_sbuf(core, op, val_dst=val_dst, idx_dst=idx_dst, src=src)
    checks.dtype_in(core, op, "src", src, (dtypes.bfloat16,))
    checks.dtype_in(core, op, "val_dst", val_dst, (dtypes.bfloat16,))
    checks.dtype_in(core, op, "idx_dst", idx_dst, (dtypes.uint32,))
    _groups(op, "src", src)
    k = val_dst.free_size
    checks.same_elements(core, op, val_dst=val_dst, idx_dst=idx_dst)
    if val_dst.shape[0] != src.shape[0] or src.free_size * GROUP < n:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got src {src.describe()} and val_dst {val_dst.describe()} for n={n}.",
            f"All have the same partitions, and src has at least {-(-n // GROUP)} elements in each.",
        )
    if not (_TOPK_SHORTEST <= n < _TOPK_LONGEST and k < _TOPK_MOST and k <= n):
        refuse(
            rules.PARAMETER,
            f"{op} got n={n} and K={k}, the free size of val_dst.",
            f"n is {_TOPK_SHORTEST} to {_TOPK_LONGEST - 1}, and K is at most n and below {_TOPK_MOST}.",
        )
