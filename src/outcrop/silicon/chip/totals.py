"""What a chip's parts add up to, computed from the parts alone and compared with what documents print.

Peak rates count a multiply-add as two operations. A machine's sums start from what is documented for its device, and
from what is computed where nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from outcrop.silicon.chip.parts import Chip, Core, Machine, Totals
from outcrop.silicon.chip.quantity import UNITS, Figure, computed
from outcrop.silicon.chip.reader import joined
from outcrop.silicon.chip.walk import walk


def core_totals(core: Core) -> Totals:
    """Capacities and peak rates of one core."""
    tensor, sbuf, psum, dma = core.tensor, core.sbuf, core.psum, core.dma
    multiply_adds = _base(tensor.rows) * _base(tensor.columns) * _base(tensor.clock)
    return Totals(
        peak={
            dtype: computed(2 * multiply_adds * _base(rate), "TFLOP/s", "2 x rows x columns x clock x rate")
            for dtype, rate in tensor.rate.items()
        },
        sbuf_capacity=computed(
            _base(sbuf.partitions) * _base(sbuf.bytes_per_partition),
            "MiB",
            "partitions x bytes per partition",
        ),
        psum_capacity=computed(
            _base(psum.partitions) * _base(psum.banks) * _base(psum.bytes_per_bank),
            "MiB",
            "partitions x banks x bytes per bank",
        ),
        dma_bandwidth=computed(_base(dma.engines) * _base(dma.engine_bandwidth), "GB/s", "engines x engine bandwidth"),
        dma_practical_bandwidth=(
            computed(
                _base(dma.engines) * _base(dma.practical_engine_bandwidth),
                "GB/s",
                "engines x practical engine bandwidth",
            )
            if dma.practical_engine_bandwidth
            else None
        ),
    )


def device_totals(chip: Chip) -> Totals:
    """Sums over the cores and DMA engines of one device, and its memory."""
    core, device = core_totals(chip.core), chip.device
    cores = _base(device.cores)
    assert core.sbuf_capacity is not None
    return Totals(
        peak=_times(core.peak, cores, "cores x peak of a core"),
        sbuf_capacity=computed(cores * _base(core.sbuf_capacity), "MiB", "cores x SBUF of a core"),
        memory_capacity=device.hbm.capacity,
        memory_bandwidth=device.hbm.bandwidth,
        dma_bandwidth=computed(
            _base(device.dma_engines) * _base(chip.core.dma.engine_bandwidth),
            "TB/s",
            "DMA engines of the device x engine bandwidth",
        ),
    )


def machine_totals(chip: Chip, machine: Machine) -> Totals:
    """Sums over the devices of one instance or UltraServer."""
    devices = _base(machine.devices)
    peaks = {**device_totals(chip).peak, **chip.device.totals.peak}
    hbm = chip.device.hbm
    return Totals(
        peak=_times(peaks, devices, "devices x peak of a device (documented, else computed)"),
        memory_capacity=computed(devices * _base(hbm.capacity), "GiB", "devices x device memory"),
        memory_bandwidth=computed(devices * _base(hbm.bandwidth), "TB/s", "devices x device memory bandwidth"),
    )


def _base(figure: Figure) -> Fraction:
    """The figure in the base unit of its dimension (B, B/s, Hz, FLOP/s, ...)."""
    return Fraction(str(figure.value)) * UNITS[figure.unit][1]


def _times(peaks: Mapping[str, Figure], count: Fraction, how: str) -> dict[str, Figure]:
    return {dtype: computed(count * _base(peak), "TFLOP/s", how) for dtype, peak in peaks.items()}


@dataclass(frozen=True, slots=True)
class Total:
    """One sum: computed from the parts, and as documented where a document prints it."""

    key: str
    computed: Figure
    documented: Figure | None

    @property
    def difference(self) -> float | None:
        """How far the computed sum lies above (+) or below (-) the documented one, as a fraction of the latter."""
        if self.documented is None:
            return None
        return float(_base(self.computed) / _base(self.documented) - 1)


def totals(chip: Chip) -> Iterator[Total]:
    """Every sum that can be computed for ``chip``, beside the documented one."""
    yield from _compared("core", core_totals(chip.core), chip.core.totals)
    yield from _compared("device", device_totals(chip), chip.device.totals)
    for kind, machines in (("instances", chip.instances), ("ultraservers", chip.ultraservers)):
        for name, machine in machines.items():
            yield from _compared(joined(kind, name), machine_totals(chip, machine), machine.totals)


def _compared(where: str, sums: Totals, documented: Totals) -> Iterator[Total]:
    printed = dict(walk(documented))
    for key, figure in walk(sums):
        yield Total(f"{where}.{key}", figure, printed.get(key))
