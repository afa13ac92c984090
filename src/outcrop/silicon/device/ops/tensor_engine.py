"""Static rules that all instructions of the tensor engine share: sizes, tiles of the array, and places in PSUM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outcrop.silicon.device import checks, dtypes, indirection, rules
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

PE_TILING = rules.rule(
    "pe-tiling", "tile_position and tile_size name a row and column tile that the array has.", rules.NKI_ISA
)
MATMUL_FREE_SIZE = rules.rule(
    "matmul-free-size",
    "The free sizes of a matmul's operands stay within the array's columns and what PSUM takes of one instruction.",
    rules.NKI_ISA,
)
PSUM_BANK = rules.rule(
    "psum-bank",
    "A matmul's output lies within one PSUM bank, where the chip's matmul is no longer than a bank.",
    rules.ARCHITECTURE,
)
PSUM_ALIGNMENT = rules.rule(
    "psum-alignment",
    "What the tensor engine writes to PSUM starts at a multiple of 4 bytes.",
    "Compiler verdicts on bf16 PSUM slots at odd elements, as public kernel projects report them",
)


def check_sizes(core: Core, op: str, dst: Tensor, stationary: Tensor, moving: Tensor, columns: int, free: int) -> None:
    """Shapes that fit together, and free sizes within the limits."""
    if stationary.shape[0] != moving.shape[0]:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got stationary {stationary.describe()} and moving {moving.describe()}.",
            "Both have the contraction in the partition dimension: it must have the same size.",
        )
    if columns > core.limits.stationary_free:
        refuse(
            MATMUL_FREE_SIZE,
            f"{op} got stationary {stationary.describe()} with a free size of {columns}.",
            f"At most {core.limits.stationary_free} columns are loaded at once: tile it.",
        )
    limits = core.limits.moving_free
    limit = limits["bf16"] if dst.dtype is dtypes.bfloat16 and "bf16" in limits else limits["fp32"]
    if free > limit:
        refuse(
            MATMUL_FREE_SIZE,
            f"{op} got moving {moving.describe()} with a free size of {free}.",
            f"{core.settings.target.core.name} takes at most {limit} for a {dst.dtype.name} dst: tile it.",
        )
    if dst.shape[0] != columns or dst.free_size != free:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got stationary {stationary.describe()}, moving {moving.describe()} and dst {dst.describe()}.",
            f"The product is [{columns}, {free}]: dst needs as many partitions, and as many elements in each.",
        )


def check_tiling(
    core: Core,
    op: str,
    stationary: Tensor,
    columns: int,
    tile_position: tuple[int, ...],
    tile_size: tuple[int, ...],
    *,
    by_column: bool = True,
) -> None:
    """The tile of the array that an instruction asks for, if any."""
    if not tile_position and not tile_size:
        return
    whole = core.limits.partitions
    asked = f"{op} got tile_position={tile_position} and tile_size={tile_size}"
    if len(tile_position) != 2 or len(tile_size) != 2:
        refuse(PE_TILING, f"{asked}.", "Give both, each as (row, column), or neither.")
        return
    sizes = [size for size in (32, 64, 128) if core.limits.smallest_row_tile <= size <= whole]
    for side, at, size, legal in zip(
        ("row", "column"), tile_position, tile_size, (sizes, sizes if by_column else [whole]), strict=True
    ):
        if size not in legal:
            refuse(
                PE_TILING,
                f"{asked}: the {side} size is {size}.",
                f"On {core.settings.target.core.name} it may be {', '.join(str(each) for each in legal)}.",
            )
        elif at % size or not 0 <= at < whole:
            legal_at = ", ".join(str(each) for each in range(0, whole, size))
            refuse(PE_TILING, f"{asked}: the {side} position is {at}.", f"With that size it may be {legal_at}.")
    if stationary.shape[0] > tile_size[0] or columns > tile_size[1]:
        refuse(
            PE_TILING,
            f"{asked} for stationary {stationary.describe()}.",
            f"Its {stationary.shape[0]} rows and {columns} columns must fit into the tile.",
        )


def check_indirect(op: str, dst: Tensor, sources: tuple[Tensor, ...], tile_position: tuple[int, ...]) -> None:
    """Tensor indirection goes with the whole array, with small types, and with the index of dst beside the data."""
    for tensor in (dst, *sources):
        if not _is_gathered(tensor):
            continue
        if any(tile_position):
            refuse(
                PE_TILING,
                f"{op} got the indirect operand {tensor.describe()} and tile_position={tile_position}.",
                "Tensor indirection works at tile_position (0, 0) only.",
            )
        if tensor.dtype in (dtypes.float32, dtypes.tfloat32):
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} got the indirect operand {tensor.describe()}.",
                "On the tensor engine it must be of 16 or 8 bits: bfloat16, float16 or a float8 type.",
            )
    indirection.require_beside(op, dst, sources[0])


def _is_gathered(tensor: Tensor) -> bool:
    return tensor.dynamic is not None and tensor.dynamic.columns is not None


def as_read(tensor: Tensor) -> Tensor:
    """The operand with offsets in the groups of the tensor engine, where it has offsets."""
    if isinstance(tensor, Tensor) and tensor.dynamic is not None:
        return indirection.on_tensor_engine(tensor)
    return tensor


def run_time_operands(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors from which addresses come at run time; each once."""
    found: dict[int, Tensor] = {}
    for tensor in tensors:
        dynamic = tensor.dynamic
        if dynamic is not None:
            for each in (dynamic.scalar, dynamic.vector, dynamic.columns):
                if isinstance(each, Tensor):
                    found[id(each)] = each
    return tuple(found.values())


def check_output(core: Core, op: str, dst: Tensor) -> None:
    """The type of a sum in PSUM."""
    if dst.dtype is dtypes.bfloat16:
        checks.feature(core, op, "psum_bf16", f"dst {dst.describe()}: a bfloat16 sum in PSUM")
        return
    checks.dtype_in(core, op, "dst", dst, (dtypes.float32,))


def check_psum(core: Core, op: str, dst: Tensor) -> None:
    """Where in PSUM the tensor engine may write: aligned, in one bank, each element once."""
    if dst.start_byte % 4:
        refuse(
            PSUM_ALIGNMENT,
            f"{op} got dst {dst.describe()}.",
            "Start at an even element of a 16-bit PSUM tensor, for instance by giving each slot two elements.",
        )
    if _is_gathered(dst):
        return
    for size, stride in zip(dst.shape, dst.strides, strict=True):
        if size > 1 and stride == 0:
            refuse(
                rules.OPERAND_SHAPE,
                f"{op} got dst {dst.describe()} with pattern {dst.get_pattern()}.",
                "A step of 0 would write the same element several times.",
            )
    bank = core.limits.psum_bank_bytes
    if 4 * core.limits.moving_free["fp32"] > bank:
        return
    reach = sum(stride * (size - 1) for size, stride in zip(dst.shape[1:], dst.strides[1:], strict=True))
    last = dst.start_byte + (reach + 1) * dst.dtype.itemsize - 1
    if dst.start_byte // bank != last // bank:
        refuse(
            PSUM_BANK,
            f"{op} got dst {dst.describe()}, bytes {dst.start_byte} to {last} of each partition.",
            f"Banks have {bank} bytes: start at a multiple of that, or write to each bank with its own matmul.",
        )
