"""``neuronxcc.nki.isa`` part two: the tensor engine, searches, shuffles, gathers and index generation."""

from __future__ import annotations

from typing import Any

from outcrop.silicon.device import dtypes, rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.legacy import results
from outcrop.silicon.nki.legacy.dtypes import kind
from outcrop.silicon.nki.legacy.indices import Box, as_index
from outcrop.silicon.nki.legacy.operands import index_tile, kind_or, part, rows_of, tile, to_sbuf
from outcrop.silicon.nki.legacy.regions import Region, region_of
from outcrop.silicon.nki.legacy.tile import Tile

_SMALL = 32  # the vector engine's transposes


def nc_matmul(
    stationary: Any,
    moving: Any,
    *,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    tile_position: Any = (),
    tile_size: Any = (),
    mask: Any = None,
    **kwargs: Any,
) -> Tile:
    """``stationary.T @ moving`` in PSUM, float32; assign it, or add it to a PSUM tile with ``+=``.

    ``mask`` takes part on every operand whose dimensions come from the ``arange`` or ``mgrid`` it compares. An operand
    in PSUM, such as what ``nc_transpose`` returned, is copied to SBUF first: the older compiler placed returned tiles
    itself, and kernels pass them on.
    """
    one, two = to_sbuf(tile(stationary, "stationary")), to_sbuf(tile(moving, "moving"))
    perf = str(kwargs.get("perf_mode") or "none").removesuffix("_gen3").removesuffix("_gen4")
    pairs = perf == "double_row"
    columns = one.shape[2:] if pairs else one.shape[1:]
    rows = 1
    for size in columns:
        rows *= size
    shape = (rows, *(two.shape[2:] if pairs else two.shape[1:]))
    core = current()
    exact = is_transpose and core.has("exact_pe_transpose")
    position = tuple(int(each) for each in tile_position)
    start = position[1] if position else 0
    out = results.new((start + rows, *shape[1:]), one.kind if exact else dtypes.float32, MemoryRegion.psum)
    if start:
        out = out[start : start + rows]
    left = right = region = None
    if mask is not None:
        whole = region_of(mask, getattr(mask, "shape", ()))
        if whole is not None and whole.empty:
            return results.finish(out, Region(out.shape, Box(((0, 0),) * out.ndim), None, ()))
        if whole is not None:
            left, right = whole.part_for(one.axes, one.shape), whole.part_for(two.axes, two.shape)
            region = _product_region(out, one, two, left, right)
    isa.nc_matmul(
        out.device(region),
        one.device(left),
        two.device(right),
        is_stationary_onezero,
        is_moving_onezero,
        is_transpose,
        tile_position=position,
        tile_size=tuple(int(each) for each in tile_size),
        perf_mode=isa.matmul_perf_mode(perf),
    )
    return results.finish(out, region)


def _product_region(out: Tile, one: Tile, two: Tile, left: Region | None, right: Region | None) -> Region | None:
    """What of the result is computed where the operands' free dimensions are cut."""
    if one.ndim != 2 or two.ndim != 2:
        return None
    rows = left.box.ranges[1] if left is not None and left.box is not None else (0, out.shape[0])
    columns = right.box.ranges[1] if right is not None and right.box is not None else (0, out.shape[1])
    if rows == (0, out.shape[0]) and columns == (0, out.shape[1]):
        return None
    return Region(out.shape, Box((rows, columns)), None, (0, 0))


def nc_transpose(
    data: Any, *, mask: Any = None, dtype: Any = None, engine: Any = Engine.unknown, **kwargs: Any
) -> Tile:
    """Partitions and free elements exchanged: on the tensor engine into PSUM, on the vector engine into SBUF."""
    given = tile(data, "data")
    region = part(mask, given.shape)
    free = given.size // given.shape[0]
    if engine is Engine.unknown:
        small = free <= _SMALL and given.shape[0] <= _SMALL
        engine = Engine.vector if small or given.buffer is MemoryRegion.psum else Engine.tensor
    if engine is Engine.tensor:
        given = to_sbuf(given)
    core = current()
    byte = given.kind.itemsize == 1 and engine is Engine.tensor and core.has("exact_pe_transpose")
    memory = MemoryRegion.psum if engine is Engine.tensor else MemoryRegion.sbuf
    out = results.new((free, given.shape[0] * (2 if byte else 1)), given.kind, memory)
    if byte:
        out = out[:, ::2]
    if region is None or not region.empty:
        flipped = None
        if region is not None and region.box is not None:
            flipped = Region(out.shape, type(region.box)(region.box.ranges[::-1]), None, (0, 0))
        isa.nc_transpose(out.device(flipped), given.device(region), engine)
    made = results.finish(out, region)
    if dtype is not None and kind(dtype) is not given.kind:
        return results.copied(made, kind(dtype))
    return made


def nc_stream_shuffle(
    src: Any, dst: Any, shuffle_mask: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any
) -> None:
    """Move partitions within each quadrant of 32; 255 leaves a partition of ``dst`` as it is."""
    target, given = tile(dst, "dst"), tile(src, "src")
    region = part(mask, target.shape)
    if region is None or not region.empty:
        isa.nc_stream_shuffle(target.device(region), given.device(), [int(each) for each in shuffle_mask])


def max8(*, src: Any, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """The eight largest elements of each partition, descending."""
    given = tile(src, "src")
    region = part(mask, given.shape)
    out = results.new((given.shape[0], 8), kind_or(dtype, given.kind))
    if region is None or not region.empty:
        isa.max8(out.device(rows_of(region, out.shape)), given.device(region))
    return results.finish(out, region)


def nc_find_index8(*, data: Any, vals: Any, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """The positions of eight values in each partition."""
    given, eight = tile(data, "data"), tile(vals, "vals")
    region = part(mask, given.shape)
    out = results.new((given.shape[0], 8), kind_or(dtype, dtypes.uint32))
    if region is None or not region.empty:
        isa.nc_find_index8(
            out.device(rows_of(region, out.shape)),
            given.device(region),
            eight.device(rows_of(region, eight.shape)),
        )
    return results.finish(out, region)


def nc_match_replace8(
    *, data: Any, vals: Any, imm: Any, dst_idx: Any = None, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Tile:
    """``data`` with the first occurrence of each of eight values replaced; their positions in ``dst_idx``."""
    given, eight = tile(data, "data"), tile(vals, "vals")
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is None or not region.empty:
        where = None
        if dst_idx is not None:
            held = tile(dst_idx, "dst_idx")
            where = held.device(rows_of(region, held.shape))
        isa.nc_match_replace8(
            out.device(region),
            given.device(region),
            eight.device(rows_of(region, eight.shape)),
            float(imm),
            where,
        )
    return results.finish(out, region)


def local_gather(
    src_buffer: Any,
    index: Any,
    num_elem_per_idx: int = 1,
    num_valid_indices: Any = None,
    *,
    mask: Any = None,
    **kwargs: Any,
) -> Tile:
    """Elements that the indices of each group of 16 partitions pick in those partitions."""
    given, picks = tile(src_buffer, "src_buffer"), tile(index, "index")
    group = 16
    free = picks.size // picks.shape[0]
    count = free * group if num_valid_indices is None else int(num_valid_indices)
    shape: tuple[int, ...] = (given.shape[0], count, int(num_elem_per_idx))
    if count == free * group:
        shape = (given.shape[0], free, group, int(num_elem_per_idx))
    out = results.new(shape, given.kind)
    isa.local_gather(out.device(), given.device(), picks.device(), num_elem_per_idx, num_valid_indices)
    return results.finish(out, None)


def sequence_bounds(*, segment_ids: Any, dtype: Any = None, **kwargs: Any) -> Tile:
    """Where the segment of each element starts and ends."""
    given = tile(segment_ids, "segment_ids")
    out = results.new((given.shape[0], 2, given.size // given.shape[0]), kind_or(dtype, given.kind))
    isa.sequence_bounds(out.device(), given.device())
    return results.finish(out, None)


def iota(expr: Any, dtype: Any, *, mask: Any = None, **kwargs: Any) -> Tile:
    """The numbers of an index expression."""
    index = as_index(expr)
    if index is None:
        refuse(
            rules.PARAMETER, f"nisa.iota got {expr!r}.", "It takes an expression of nl.arange or nl.mgrid and integers."
        )
        raise AssertionError("refused")
    return index_tile(index, kind(dtype))
