"""The parts of a chip and of the machines around it, as typed, frozen records of figures.

Names follow the vendor's documentation; where it prints a number for one data type only, the figure sits in a mapping
by data type. Fields that read ``Figure | None`` are ``None`` where no public source gives the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from outcrop.silicon.chip.quantity import Dimension, Figure
from outcrop.silicon.chip.spec import (
    figure,
    figures,
    optional_figure,
    optional_part,
    optional_text,
    part,
    parts,
    text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums that a document prints for a core, a device or a machine. They are checked against the parts, not used.

    A file that extends another does not inherit them: with other parts they would no longer be true.
    """

    peak: Mapping[str, Figure] = figures(Dimension.FLOPS)
    integer_peak: Mapping[str, Figure] = figures(Dimension.INTEGER_OPS)
    vector_peak: Mapping[str, Figure] = figures(Dimension.FLOPS)
    scalar_peak: Mapping[str, Figure] = figures(Dimension.FLOPS)
    sbuf_capacity: Figure | None = optional_figure(Dimension.SIZE)
    psum_capacity: Figure | None = optional_figure(Dimension.SIZE)
    memory_capacity: Figure | None = optional_figure(Dimension.SIZE)
    memory_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)
    dma_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)
    dma_practical_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEngine:
    """The systolic array. ``rate`` is its speed for an input type as a multiple of dense BF16.

    At rate 1 each of the rows x columns elements does one multiply-add in a cycle.
    """

    clock: Figure = figure(Dimension.FREQUENCY)
    rows: Figure = figure(Dimension.COUNT)
    columns: Figure = figure(Dimension.COUNT)
    smallest_row_tile: Figure = figure(Dimension.COUNT)
    stationary_free_limit: Figure = figure(Dimension.COUNT)
    moving_free_limit: Mapping[str, Figure] = figures(Dimension.COUNT)  # by the data type of the output
    rate: Mapping[str, Figure] = figures(Dimension.RATIO)
    input_width: Mapping[str, Figure] = figures(Dimension.WIDTH)
    output_width: Figure | None = optional_figure(Dimension.WIDTH)
    mx_group_elements: Figure | None = optional_figure(Dimension.COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEngine:
    """VectorE or ScalarE: lanes that elements stream through; ``width`` is by data type, ``other`` all the rest."""

    clock: Figure = figure(Dimension.FREQUENCY)
    width: Mapping[str, Figure] = figures(Dimension.WIDTH)
    dependent_overhead: Figure | None = optional_figure(Dimension.CYCLES)
    bn_stats_free_limit: Figure | None = optional_figure(Dimension.COUNT)
    random_states_per_lane: Figure | None = optional_figure(Dimension.COUNT)
    accumulator_read: Figure | None = optional_figure(Dimension.CYCLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpSimdEngine:
    """General-purpose vector processors, each beside its own partitions of SBUF."""

    clock: Figure = figure(Dimension.FREQUENCY)
    processors: Figure = figure(Dimension.COUNT)
    processor_width: Figure = figure(Dimension.SIZE)
    partitions_per_processor: Figure = figure(Dimension.COUNT)
    local_memory_per_processor: Figure | None = optional_figure(Dimension.SIZE)
    local_memory_latency: Figure | None = optional_figure(Dimension.CYCLES)
    dma_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)
    width: Mapping[str, Figure] = figures(Dimension.WIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sbuf:
    """The state buffer: the main on-chip memory of a core."""

    partitions: Figure = figure(Dimension.COUNT)
    bytes_per_partition: Figure = figure(Dimension.SIZE)
    partitions_per_quadrant: Figure = figure(Dimension.COUNT)
    access_overhead: Figure | None = optional_figure(Dimension.CYCLES)
    partition_address_stride: Figure | None = optional_figure(Dimension.SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Psum:
    """The partial-sum buffer: where TensorE writes and accumulates."""

    partitions: Figure = figure(Dimension.COUNT)
    banks: Figure = figure(Dimension.COUNT)
    bytes_per_bank: Figure = figure(Dimension.SIZE)  # of one partition
    base_address: Figure | None = optional_figure(Dimension.SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dma:
    """The DMA engines that serve one core."""

    engines: Figure = figure(Dimension.COUNT)
    queues_per_engine: Figure = figure(Dimension.COUNT)
    engine_bandwidth: Figure = figure(Dimension.BANDWIDTH)
    practical_engine_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)
    start_latency: Figure | None = optional_figure(Dimension.TIME)
    smallest_useful_transfer: Figure | None = optional_figure(Dimension.SIZE)
    saturating_transfer: Figure | None = optional_figure(Dimension.SIZE)
    descriptor_generators: Figure | None = optional_figure(Dimension.COUNT)
    generator_issue_time: Figure | None = optional_figure(Dimension.TIME)
    service_classes: Figure | None = optional_figure(Dimension.COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One physical NeuronCore."""

    name: str = text()
    generation: Figure = figure(Dimension.COUNT)  # the number in the name
    partitions_per_instruction: Figure = figure(Dimension.COUNT)
    free_dimensions: Figure = figure(Dimension.COUNT)  # of one operand's access pattern
    registers_per_engine: Figure = figure(Dimension.COUNT)
    register_width: Figure = figure(Dimension.SIZE)
    tensor: TensorEngine = part(TensorEngine)
    vector: StreamEngine = part(StreamEngine)
    scalar: StreamEngine = part(StreamEngine)
    gpsimd: GpSimdEngine = part(GpSimdEngine)
    sbuf: Sbuf = part(Sbuf)
    psum: Psum = part(Psum)
    dma: Dma = part(Dma)
    features: Mapping[str, Figure] = figures(Dimension.COUNT)  # 1 where instructions or options exist, by name
    totals: Totals = optional_part(Totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hbm:
    """The device memory."""

    capacity: Figure = figure(Dimension.SIZE)
    bandwidth: Figure = figure(Dimension.BANDWIDTH)
    stacks: Figure = figure(Dimension.COUNT)
    cores_per_stack: Figure | None = optional_figure(Dimension.COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The device's connection to other devices."""

    name: str = text()
    links: Figure | None = optional_figure(Dimension.COUNT)
    bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One chip as it is sold: its cores, memory, DMA engines and links."""

    name: str = text()
    cores: Figure = figure(Dimension.COUNT)
    largest_logical_core: Figure | None = optional_figure(Dimension.COUNT)  # physical cores
    default_logical_core: Figure | None = optional_figure(Dimension.COUNT)  # physical cores
    collective_cores: Figure | None = optional_figure(Dimension.COUNT)
    dma_engines: Figure = figure(Dimension.COUNT)
    hbm: Hbm = part(Hbm)
    link: Link = part(Link)
    totals: Totals = optional_part(Totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """An instance or an UltraServer: devices, their connections and the host around them. Bandwidths are per device."""

    devices: Figure = figure(Dimension.COUNT)
    servers: Figure | None = optional_figure(Dimension.COUNT)
    topology: str = optional_text()
    host_cpus: Figure | None = optional_figure(Dimension.COUNT)
    host_memory: Figure | None = optional_figure(Dimension.SIZE)
    link_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)
    link_bandwidth_by_level: Mapping[str, Figure] = figures(Dimension.BANDWIDTH)
    network_bandwidth: Figure | None = optional_figure(Dimension.BANDWIDTH)  # of the whole machine
    totals: Totals = optional_part(Totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A generation of the accelerator with the machines around it, or a hypothetical one of the same shape."""

    name: str = text()
    title: str = text()
    core: Core = part(Core)
    device: Device = part(Device)
    instances: Mapping[str, Machine] = parts(Machine)
    ultraservers: Mapping[str, Machine] = parts(Machine)
    path: Path
    extends: str = ""
