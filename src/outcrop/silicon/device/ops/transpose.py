"""Transposes between partitions and the free dimension, on the tensor and the vector engine.

The vector engine moves the bits of one block of 32x32. The tensor engine multiplies with an identity matrix; where the
chip can, it moves bits instead, and then 8-bit data comes out as 16-bit elements whose upper byte is zero.

Where bits are moved, elements that nothing wrote make unwritten elements of the result, and are refused when something
reads those: kernels transpose whole tiles of which they use a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import access, accumulation, carry, checks, dtypes, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.tensor_engine import check_psum
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

TRANSPOSE_SIZE = rules.rule(
    "transpose-size", "A transpose is at most 32x32 on the vector engine, 128x128 on the tensor engine.", rules.NKI_ISA
)

_ENGINES = (Engine.tensor, Engine.vector)
_VECTOR_BLOCK = 32


def nc_transpose(
    core: Core, dst: Tensor, data: Tensor, engine: Engine = Engine.unknown, name: str | None = None
) -> Instruction:
    """``dst[f, p] = data[p, f]``, with all free dimensions of ``data`` flattened to one."""
    engine = core.checked(_check, dst, data, engine)
    if core.values:
        if engine is Engine.vector or core.has("exact_pe_transpose"):
            held, missing = rows_to_move(core, dst, data)
            unwritten = None if missing is None else missing.T.reshape(dst.shape)
            if engine is Engine.tensor:
                put_exact(core, dst, held.T, unwritten)
            else:
                core.write(dst, held.T.reshape(dst.shape))
                if unwritten is not None:
                    dst.storage.forget(dst, unwritten)
        else:
            _multiply(core, dst, core.read(data, defined=True).reshape(data.shape[0], -1).T, data)
    return core.record("nc_transpose", engine, (dst,), (data,), {}, name)


def _multiply(core: Core, dst: Tensor, moved: Array, data: Tensor) -> None:
    """With an identity matrix, as the older tensor engine does: an infinity or NaN makes NaN of its whole row."""
    with np.errstate(all="ignore"):
        product = np.matmul(dtypes.to_float32(moved, data.dtype), np.eye(moved.shape[1], dtype=np.float32))
        accumulation.overwrite(core, dst, product.reshape(dst.shape))


def rows_to_move(core: Core, dst: Tensor, data: Tensor) -> tuple[Array, Array | None]:
    """``data`` as ``[partitions, elements]``, and where nothing wrote it, which a static ``dst`` remembers."""
    if dst.is_indirect():
        return core.read(data, defined=True).reshape(data.shape[0], -1), None
    held, missing = access.read_to_move(core, data)
    rows = held.reshape(data.shape[0], -1)
    if missing is None:
        return rows, None
    dst.storage.origin = carry.carried(data, missing).origin
    return rows, missing.reshape(rows.shape)


def put_exact(core: Core, dst: Tensor, moved: Array, unwritten: Array | None = None) -> None:
    """Write ``moved`` bit by bit to PSUM; 8-bit elements become 16-bit ones. ``unwritten`` ones stay so."""
    target = dst
    if moved.dtype.itemsize == 1:
        wide = moved.view(np.uint8).astype(np.uint16)
        target = _as_pairs(dst) if dst.dtype.itemsize == 1 else dst
        accumulation.overwrite(core, target, wide.reshape(dst.shape).view(target.dtype.numpy))
    else:
        accumulation.overwrite(core, dst, np.ascontiguousarray(moved).reshape(dst.shape).view(dst.dtype.numpy))
    if unwritten is not None:
        accumulation.forget(target, unwritten)


def _as_pairs(dst: Tensor) -> Tensor:
    """The 16-bit elements of which an 8-bit view with a step of 2 names the lower bytes."""
    strides = tuple(stride // 2 for stride in dst.strides)
    return Tensor(dst.storage, dst.shape, strides, dst.offset // 2, dtypes.uint16)


# -- static rules -----------------------------------------------------------------------------------------------------


def _check(core: Core, dst: Tensor, data: Tensor, engine: Engine) -> Engine:
    op = "nc_transpose"
    checks.engine_operand(core, op, "data", data)
    checks.engine_operand(core, op, "dst", dst)
    if engine is Engine.unknown:
        to_psum = dst.buffer is MemoryRegion.psum and data.buffer is MemoryRegion.sbuf
        engine = Engine.tensor if to_psum else Engine.vector
    checks.engine_in(core, op, engine, _ENGINES)
    _check_size(op, data, _VECTOR_BLOCK if engine is Engine.vector else core.limits.stationary_free, engine)
    if dst.shape[0] != data.free_size or dst.free_size != data.shape[0]:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got data {data.describe()} and dst {dst.describe()}.",
            f"The transpose is [{data.free_size}, {data.shape[0]}].",
        )
    if engine is Engine.vector:
        _check_vector(op, dst, data)
        return engine
    checks.engine_operand(core, op, "data", data, checks.SBUF_ONLY)
    checks.engine_operand(core, op, "dst", dst, checks.PSUM_ONLY)
    if core.has("exact_pe_transpose"):
        require_transposable(core, op, dst, data)
    else:
        _check_products(core, op, dst, data)
    check_psum(core, op, dst)
    return engine


def _check_size(op: str, data: Tensor, most: int, engine: Engine) -> None:
    if data.shape[0] > most or data.free_size > most:
        refuse(
            TRANSPOSE_SIZE,
            f"{op} on the {engine.name} engine got data {data.describe()}.",
            f"That engine transposes at most [{most}, {most}]: tile it"
            + ("." if engine is Engine.tensor else ", or transpose from SBUF to PSUM on the tensor engine."),
        )


def _check_vector(op: str, dst: Tensor, data: Tensor) -> None:
    if dst.dtype is not data.dtype:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got data {data.describe()} and dst {dst.describe()}.",
            "A transpose converts nothing: give dst the type of data.",
        )


def _check_products(core: Core, op: str, dst: Tensor, data: Tensor) -> None:
    """Where a transpose is a matmul: floats only, and the result as the data's type or as float32."""
    floats = (
        dtypes.float32, dtypes.tfloat32, dtypes.bfloat16, dtypes.float16, dtypes.float8_e4m3, dtypes.float8_e5m2,
    )  # fmt: skip
    checks.dtype_in(core, f"{op} on the tensor engine", "data", data, floats)
    checks.dtype_in(core, f"{op} on the tensor engine", "dst", dst, (data.dtype, dtypes.float32))


def require_transposable(core: Core, op: str, dst: Tensor, data: Tensor) -> None:
    """The types of a transpose that moves bits on the tensor engine."""
    if data.dtype.itemsize > 1:
        if dst.dtype is not data.dtype:
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} transposes {data.describe()} to dst {dst.describe()}.",
                f"A transpose on the tensor engine converts nothing: give dst the type {data.dtype.name}.",
            )
        return
    if dst.dtype in (dtypes.uint16, dtypes.int16):
        return
    even = all(stride % 2 == 0 for size, stride in zip(dst.shape, dst.strides, strict=True) if size > 1)
    if dst.dtype is not data.dtype or not even or dst.offset % 2:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} transposes {data.describe()} to dst {dst.describe()} with pattern {dst.get_pattern()}.",
            "8-bit data comes out as 16-bit elements with a zero upper byte: give dst the type of data and a step of 2 "
            "in its free dimension (allocate [.., n, 2] and pass [.., :, 0]), or a 16-bit integer type.",
        )
