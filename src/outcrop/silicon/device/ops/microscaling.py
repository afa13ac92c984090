"""Microscaled (MX) data: quantising to it on the vector engine, multiplying it on the tensor engine.

32 values share a scale, a power of two: 8 partitions times the 4 values of one packed element. A quadrant of 32
partitions has 4 rows of scales, which lie in the same quadrant, 0, 4, 8 or 12 partitions into it; so the scales of data
with P partitions take rows 0-3, 32-35, ... of the scale tensor, and its other rows are neither read nor written.

Values are scaled to float32 before they are multiplied: where a value times its scale leaves float32, so does the
product. Not documented and so ours: a group with an infinity or NaN gets the scale of exponent 255, its finite values
vanish, and an infinity becomes what the target type makes of it (NaN in float8_e4m3fn).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import access, checks, dtypes, indirection, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.matmul import multiply
from outcrop.silicon.device.ops.tensor_engine import (
    as_read,
    check_indirect,
    check_output,
    check_psum,
    check_sizes,
    check_tiling,
    run_time_operands,
)
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import ElementIndex, Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

MX_PARTITIONS = rules.rule(
    "mx-partitions", "MX data has a multiple of 32 partitions: whole groups of 8 in whole quadrants.", rules.NKI_ISA
)
MX_SCALE_LAYOUT = rules.rule(
    "mx-scale-layout",
    "Scales lie in the quadrant of their data, 0, 4, 8 or 12 partitions into it, one for each packed element.",
    "AWS Neuron, MXFP Matrix Multiplication with NKI: scale tensor, packing scale values",
)

_QUADRANT, _GROUP, _LANES = 32, 8, 4  # partitions; partitions sharing a scale; values in a packed element
_ROWS = _QUADRANT // _GROUP  # of scales in a quadrant
_PACKED = (dtypes.float8_e5m2_x4, dtypes.float8_e4m3fn_x4, dtypes.float4_e2m1fn_x4)
_SCALES = (dtypes.float8_e8m0fnu, dtypes.uint8)
_LARGEST_EXPONENT = {dtypes.float8_e4m3fn_x4: 8, dtypes.float8_e5m2_x4: 15}
_BIAS = 127

_POWERS = np.full(256, np.nan, np.float32)  # what a scale's byte stands for
_POWERS[:255] = np.ldexp(np.float32(1), np.arange(255) - _BIAS)
_INVERSES = np.ldexp(np.float32(1), _BIAS - np.arange(256)).astype(np.float32)
_VALUES = {
    kind: np.arange(2 ** (8 * kind.itemsize // _LANES), dtype=np.uint8).view(kind.lane).astype(np.float32)
    for kind in _PACKED
}
_PAIRS = np.stack([np.tile(_VALUES[_PACKED[2]], 16), np.repeat(_VALUES[_PACKED[2]], 16)], axis=1)  # two in a byte


def nc_matmul_mx(
    core: Core,
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    stationary_scale: Tensor,
    moving_scale: Tensor,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    accumulate: bool | None = None,
    name: str | None = None,
) -> Instruction:
    """``dst (+)= stationary.T @ moving``, contracted over partitions and over the 4 values of each element."""
    dst, stationary, moving = as_read(dst), as_read(stationary), as_read(moving)
    stationary_scale, moving_scale = as_read(stationary_scale), as_read(moving_scale)
    params = core.checked(
        _check_matmul, dst, stationary, moving, stationary_scale, moving_scale, tile_position, tile_size, accumulate
    )
    if core.values:
        one, two = _scaled(core, stationary, stationary_scale), _scaled(core, moving, moving_scale)
        multiply(core, dst, one, two, accumulate)
    operands = (stationary, moving, stationary_scale, moving_scale)
    reads = (*operands, *run_time_operands(dst, *operands))
    return core.record("nc_matmul_mx", Engine.tensor, (dst,), reads, params, name)


def quantize_mx(core: Core, dst: Tensor, src: Tensor, dst_scale: Tensor, name: str | None = None) -> Instruction:
    """Each group of 32 values divided by its scale and rounded to the float8 type of ``dst``."""
    largest = core.checked(_check_quantize, dst, src, dst_scale)
    if core.values:
        partitions, columns = dst.shape[0], dst.free_size
        values = core.read_float32(src, defined=True).reshape(partitions // _GROUP, _GROUP, columns, _LANES)
        exponents = np.ascontiguousarray(values).view(np.uint32) >> np.uint32(23) & np.uint32(0xFF)
        scales = np.maximum(exponents.max(axis=(1, 3)).astype(np.int32) - (largest - 1), 0)
        with np.errstate(all="ignore"):
            rounded = (values * _INVERSES[scales][:, None, :, None]).astype(dst.dtype.lane)
        core.write(dst, rounded.reshape(partitions, -1).view(dst.dtype.numpy).reshape(dst.shape))
        stored = scales.astype(np.uint8).view(dst_scale.dtype.numpy)
        for quadrant, rows in enumerate(_scale_rows(core, dst_scale, partitions)):
            core.write(rows, stored[quadrant * _ROWS : (quadrant + 1) * _ROWS].reshape(rows.shape))
    return core.record("quantize_mx", Engine.vector, (dst, dst_scale), (src,), {"dtype": dst.dtype.name}, name)


def unpacked(packed: Array, kind: dtypes.DType) -> Array:
    """The float32 values of packed elements, in a new last dimension; the first lies in the lowest bits."""
    as_bytes = np.ascontiguousarray(packed).view(np.uint8)
    if kind is dtypes.float4_e2m1fn_x4:
        return _PAIRS.take(as_bytes, axis=0).reshape(*packed.shape, _LANES)
    return _VALUES[kind].take(as_bytes).reshape(*packed.shape, _LANES)


def _scaled(core: Core, data: Tensor, scale: Tensor) -> Array:
    """The values of MX data as a float32 matrix ``[4 K, free]``."""
    partitions, columns = data.shape[0], data.free_size
    values = unpacked(core.read(data, defined=True), data.dtype).reshape(partitions // _GROUP, _GROUP, columns, _LANES)
    rows = [core.read(each, defined=True).reshape(_ROWS, columns) for each in _scale_rows(core, scale, partitions)]
    factors = _POWERS.take(np.concatenate(rows).view(np.uint8))
    with np.errstate(all="ignore"):
        scaled = values * factors[:, None, :, None]
    return scaled.reshape(partitions, columns, _LANES).swapaxes(1, 2).reshape(partitions * _LANES, columns)


def _scale_rows(core: Core, scale: Tensor, partitions: int) -> Iterator[Tensor]:
    """The rows of scales of each quadrant of the data."""
    if scale.dynamic is not None:
        scale = access.resolve(core, scale, skip_invalid=False)
    for first in range(0, partitions, _QUADRANT):
        index = scale.index
        if index is not None:
            rows = slice(first, first + _ROWS)
            index = ElementIndex(index.elements[rows], None if index.valid is None else index.valid[rows])
        yield Tensor(
            scale.storage,
            (_ROWS, *scale.shape[1:]),
            scale.strides,
            scale.offset + first * scale.strides[0],
            scale.dtype,
            None,
            index,
        )


# -- static rules -----------------------------------------------------------------------------------------------------


def _check_matmul(
    core: Core,
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    stationary_scale: Tensor,
    moving_scale: Tensor,
    tile_position: tuple[int, ...],
    tile_size: tuple[int, ...],
    accumulate: bool | None,
) -> Mapping[str, Any]:
    op = "nc_matmul_mx"
    checks.feature(core, op, "matmul_mx", "the matmul of microscaled data")
    pairs = (("stationary", stationary, stationary_scale), ("moving", moving, moving_scale))
    for role, data, scale in pairs:
        checks.engine_operand(core, op, role, data, checks.SBUF_ONLY)
        checks.dtype_in(core, op, role, data, _PACKED)
        _check_partitions(op, role, data)
        _check_scale(core, op, f"{role}_scale", scale, data)
        if _index_of(data) != _index_of(scale):
            refuse(
                indirection.TENSOR_INDIRECTION,
                f"{op} got {role} {data.describe()} and {role}_scale {scale.describe()}, which are not indirect alike.",
                "Data and scales are one logical tensor: make both indirect with the same index, or neither.",
            )
    checks.engine_operand(core, op, "dst", dst, checks.PSUM_ONLY)
    check_output(core, op, dst)
    check_sizes(core, op, dst, stationary, moving, stationary.free_size, moving.free_size)
    if stationary.free_size % 2:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got stationary {stationary.describe()} with a free size of {stationary.free_size}.",
            "It must be even: pad it with a column of zeros.",
        )
    check_tiling(core, op, stationary, stationary.free_size, tile_position, tile_size, by_column=False)
    check_indirect(op, dst, (stationary, moving), tile_position)
    check_psum(core, op, dst)
    return {"accumulate": accumulate, "tile_position": tile_position, "tile_size": tile_size}


def _index_of(tensor: Tensor) -> tuple[Any, ...] | None:
    dynamic = tensor.dynamic
    return None if dynamic is None or dynamic.columns is None else dynamic.columns.signature


def _check_quantize(core: Core, dst: Tensor, src: Tensor, dst_scale: Tensor) -> int:
    op = "quantize_mx"
    checks.feature(core, op, "quantize_mx", "quantising to microscaled data")
    for role, tensor in (("src", src), ("dst", dst)):
        checks.engine_operand(core, op, role, tensor, checks.SBUF_ONLY)
    checks.dtype_in(core, op, "src", src, (dtypes.float16, dtypes.bfloat16))
    checks.dtype_in(core, op, "dst", dst, tuple(_LARGEST_EXPONENT))
    _check_partitions(op, "src", src)
    if dst.shape[0] != src.shape[0] or _LANES * dst.free_size != src.free_size:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got src {src.describe()} and dst {dst.describe()}.",
            "dst packs 4 values into an element: the same partitions, and a quarter of the elements in each.",
        )
    _check_scale(core, op, "dst_scale", dst_scale, dst)
    return _LARGEST_EXPONENT[dst.dtype]


def _check_partitions(op: str, role: str, data: Tensor) -> None:
    if data.shape[0] % _QUADRANT:
        refuse(
            MX_PARTITIONS,
            f"{op} got {role} {data.describe()} with {data.shape[0]} partitions.",
            f"Use a multiple of {_QUADRANT}; pad with zeros.",
        )


def _check_scale(core: Core, op: str, role: str, scale: Tensor, data: Tensor) -> None:
    """The scales of ``data``; unlike other operands they may start inside a quadrant."""
    if not isinstance(scale, Tensor) or scale.buffer not in checks.SBUF_ONLY or scale.dynamic is not None:
        checks.engine_operand(core, op, role, scale, checks.SBUF_ONLY)
    checks.dtype_in(core, op, role, scale, _SCALES)
    needed = data.shape[0] - _QUADRANT + _ROWS
    if scale.free_size != data.free_size or scale.shape[0] < needed:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {scale.describe()} for {data.describe()}.",
            f"It needs at least {needed} partitions and {data.free_size} elements in each: one scale for 8 partitions, "
            "those of each quadrant in its own first rows.",
        )
    if scale.start_partition % _QUADRANT not in range(0, 4 * _ROWS, _ROWS) or (
        scale.start_partition // _QUADRANT != data.start_partition // _QUADRANT
    ):
        refuse(
            MX_SCALE_LAYOUT,
            f"{op} got {role} {scale.describe()} for {data.describe()}, which starts at partition "
            f"{data.start_partition}.",
            "Start the scales 0, 4, 8 or 12 partitions into the quadrant in which the data starts.",
        )
