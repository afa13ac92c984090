"""The tensor engine: matrix multiplication, transposes, and quantisation for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import matmul, microscaling, transpose
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import engine, matmul_perf_mode

_engine_of_choice = engine.unknown


def nc_matmul(
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    is_stationary_onezero: Any = False,
    is_moving_onezero: Any = False,
    is_transpose: Any = False,
    accumulate: Any = None,
    tile_position: Any = (),
    tile_size: Any = (),
    perf_mode: Any = matmul_perf_mode.none,
    name: Any = None,
) -> Instruction:
    """``dst = stationary.T @ moving`` on the tensor engine, summed in float32.

    ``stationary`` is ``[K, M]`` and ``moving`` ``[K, N]`` in SBUF, ``dst`` ``[M, N]`` in PSUM; further free dimensions
    count as one. K and M are at most 128, N at most 512 (trn3: 4096, or 8192 into bfloat16). Operands are bfloat16,
    float16, float8_e4m3, float8_e5m2 (trn3: float8_e4m3fn), or both float32 or tfloat32. ``dst`` is float32 (trn3: or
    bfloat16) and, on chips before trn3, within one bank.

    ``accumulate``: True adds to ``dst``, False overwrites it, None adds where a matmul wrote before. Adding to bytes
    that nothing wrote, or (before trn3) that another engine wrote, is refused as ``psum-accumulation``.

    ``is_transpose`` (trn2, trn3) moves the bits of ``stationary`` by an identity matrix ``moving``; ``dst`` then has
    the type of ``stationary``, and 8-bit data becomes 16-bit elements. ``perf_mode`` double_row (trn2, trn3) takes
    float8 ``[K, 2, M]`` and ``[K, 2, N]``. ``tile_position`` and ``tile_size`` name a tile of the array,
    ``(row, column)`` each, of 32, 64 or 128 (trn1: 64 or 128). The ``onezero`` hints change time only.

    Source: nki.isa.nc_matmul (NKI 0.6.0).
    """
    return matmul.nc_matmul(
        current(),
        dst,
        stationary,
        moving,
        (bool(is_stationary_onezero), bool(is_moving_onezero)),
        bool(is_transpose),
        None if accumulate is None else bool(accumulate),
        _integers(tile_position, "tile_position") if tile_position else (),
        _integers(tile_size, "tile_size") if tile_size else (),
        "none" if perf_mode is matmul_perf_mode.none else _mode_name(perf_mode),
        name,
    )


def nc_matmul_mx(
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    stationary_scale: Tensor,
    moving_scale: Tensor,
    tile_position: Any = None,
    tile_size: Any = None,
    accumulate: Any = None,
    name: Any = None,
) -> Instruction:
    """``dst = stationary.T @ moving`` of MX data on the tensor engine, scaled as it is multiplied (trn3).

    ``stationary`` ``[K, M]`` and ``moving`` ``[K, N]`` are float8_e5m2_x4, float8_e4m3fn_x4 or float4_e2m1fn_x4 in
    SBUF; the contraction goes over partitions and the 4 values of each element. K is 32, 64, 96 or 128, M even and at
    most 128, N at most 4096 (8192 into bfloat16). Scales are float8_e8m0fnu or uint8, laid out as ``quantize_mx``
    writes them. ``dst`` is float32 or bfloat16 in PSUM. ``accumulate`` as in ``nc_matmul``; tiles by row only.

    Source: nki.isa.nc_matmul_mx (NKI 0.6.0).
    """
    return microscaling.nc_matmul_mx(
        current(),
        dst,
        stationary,
        moving,
        stationary_scale,
        moving_scale,
        _integers(tile_position, "tile_position") if tile_position else (),
        _integers(tile_size, "tile_size") if tile_size else (),
        None if accumulate is None else bool(accumulate),
        name,
    )


def nc_transpose(dst: Tensor, data: Tensor, engine: Any = _engine_of_choice, name: Any = None) -> Instruction:
    """``dst[f, p] = data[p, f]``, with all free dimensions of ``data`` flattened to one.

    On the tensor engine up to ``[128, 128]`` from SBUF to PSUM, on the vector engine up to ``[32, 32]`` between both
    memories. Without ``engine``, from SBUF to PSUM it is the tensor engine, else the vector engine. ``dst`` has the
    type of ``data``. The tensor engine of trn2 and trn3 moves bits, and 8-bit data to 16-bit elements with a zero upper
    byte: ``dst`` then has a step of 2. That of trn1 multiplies with an identity matrix: floats only, NaN and infinity
    spread along their row, and ``dst`` may be float32.

    Source: nki.isa.nc_transpose (NKI 0.6.0).
    """
    return transpose.nc_transpose(current(), dst, data, engine, name)


def quantize_mx(dst: Tensor, src: Tensor, dst_scale: Tensor, name: Any = None) -> Instruction:
    """Quantise float16 or bfloat16 to MX data and scales on the vector engine (trn3).

    ``src`` is ``[P, 4 F]`` in SBUF with P a multiple of 32, ``dst`` float8_e5m2_x4 or float8_e4m3fn_x4 ``[P, F]``,
    ``dst_scale`` float8_e8m0fnu or uint8. The scale of 8 partitions times 4 values is
    ``2 ** (floor(log2(largest)) - (E - 1))`` with E 8 for e4m3fn and 15 for e5m2, at least ``2 ** -127``: twice that
    of the OCP's sample, so that the largest value does not saturate. Scales go to rows 0-3 of each quadrant, counted
    from where ``dst_scale`` starts: 0, 4, 8 or 12 partitions into the data's quadrant.

    Source: nki.isa.quantize_mx (NKI 0.6.0).
    """
    return microscaling.quantize_mx(current(), dst, src, dst_scale, name)


def _integers(values: Sequence[Any], role: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in values)
    except (TypeError, ValueError):
        refuse(rules.PARAMETER, f"{role}={values!r} is not a pair of integers.", f"Pass {role}=(row, column).")
        raise AssertionError("refused") from None


def _mode_name(mode: Any) -> str:
    name = mode.value if isinstance(mode, matmul_perf_mode) else mode
    if name is None:
        return "none"
    if name not in ("none", "double_row"):
        refuse(rules.PARAMETER, f"perf_mode={mode!r} is not a mode of nc_matmul.", "It has none and double_row.")
    return str(name)
