"""``nl.tile_size``: the sizes that tiles are cut to, of the chip that the kernel runs on.

Outside of a kernel they are those of the default target, so that a module may read them when it is imported.
"""

from __future__ import annotations

from outcrop.silicon.device.core import maybe_current
from outcrop.silicon.device.dtypes import float32
from outcrop.silicon.device.settings import Limits, limits_of
from outcrop.silicon.nki.defaults import current_options, find_target

_ALIGNMENT = 4  # bytes; the reference gives no figure; addresses in the vendor's kernels are multiples of it


def _limits() -> Limits:
    core = maybe_current()
    if core is not None:
        return core.limits
    return limits_of(find_target(current_options().target))


class TileSize:
    """Each attribute is read from the target's file when it is asked for."""

    @property
    def pmax(self) -> int:
        """Partitions of a tile at most."""
        return _limits().partitions

    @property
    def psum_bank_fmax(self) -> int:
        """float32 elements in a PSUM bank of one partition."""
        return _limits().psum_bank_bytes // float32.itemsize

    @property
    def psum_fmax(self) -> int:
        """The older name of ``psum_bank_fmax``."""
        return self.psum_bank_fmax

    @property
    def psum_bank_fmax_bytes(self) -> int:
        """Bytes in a PSUM bank of one partition."""
        return _limits().psum_bank_bytes

    @property
    def psum_num_banks(self) -> int:
        """PSUM banks of one partition."""
        return _limits().psum_banks

    @property
    def gemm_stationary_fmax(self) -> int:
        """Free elements of a matmul's stationary operand at most."""
        return _limits().stationary_free

    @property
    def gemm_moving_fmax(self) -> int:
        """Free elements of a matmul's moving operand at most, for a float32 result in one PSUM bank.

        Where an instruction takes more (NeuronCore-v4), this still is a bank: so the vendor's kernels for it assume.
        """
        return min(_limits().moving_free["fp32"], self.psum_bank_fmax)

    @property
    def bn_stats_fmax(self) -> int:
        """Free elements that one ``bn_stats`` takes at most."""
        return _limits().bn_stats_free

    @property
    def psum_min_align(self) -> int:
        """Bytes that a PSUM address is a multiple of."""
        return _ALIGNMENT

    @property
    def sbuf_min_align(self) -> int:
        """Bytes that an SBUF address is a multiple of, at least."""
        return 1

    @property
    def sbuf_size_bytes(self) -> int:
        """Bytes of the whole SBUF."""
        limits = _limits()
        return limits.partitions * limits.sbuf_row_bytes

    @property
    def sbuf_fmax(self) -> int:
        """float32 elements in one partition of SBUF."""
        return _limits().sbuf_row_bytes // float32.itemsize

    @property
    def sbuf_fmax_bytes(self) -> int:
        """Bytes in one partition of SBUF."""
        return _limits().sbuf_row_bytes

    @property
    def total_available_sbuf_size(self) -> int:
        """The older name of ``sbuf_fmax_bytes``."""
        return _limits().sbuf_row_bytes


tile_size = TileSize()
