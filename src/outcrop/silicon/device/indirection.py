"""Tensor indirection: which instructions take operands made with ``indirect()``, and where their indices must lie.

An index tensor of ``[P, K]`` lies in SBUF beside the data. In each group of G partitions, offset i comes from
``index[i % G, i // G]``, and the whole group uses it. G is 16, on the tensor engine 32.
Source: the paragraphs "Tensor indirection" of the instructions in the NKI ISA API (NKI 0.6.0), NkiTensor.indirect.

Not covered: the type of the index is not documented; any integer type is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outcrop.silicon.device import rules
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import SBUF

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core
    from outcrop.silicon.device.tensor import Tensor

TENSOR_INDIRECTION = rules.rule(
    "tensor-indirection",
    "Indirect operands go to instructions that take them, with indices where the engines look for them.",
    rules.NKI_ISA,
)
GROUP, TENSOR_ENGINE_GROUP = 16, 32

_OPERANDS = {
    "nc_matmul": ("dst", "stationary", "moving"),
    "nc_matmul_mx": ("dst", "stationary", "stationary_scale", "moving", "moving_scale"),
    "tensor_tensor": ("dst", "data1"),
    "tensor_scalar": ("dst", "data"),
    "tensor_reduce": ("dst", "data"),
    "tensor_copy": ("dst", "src"),
    "tensor_copy_predicated": ("dst", "predicate"),
    "tensor_scalar_reduce": ("dst", "data"),
    "tensor_scalar_cumulative": ("dst", "src"),
    "activation": ("dst", "data"),
    "activation_reduce": ("dst", "data"),
    "activate2": ("dst", "data"),
    "exponential": ("dst", "src"),
}


def require(core: Core, op: str, role: str, tensor: Tensor) -> None:
    """The static rules of one operand made with ``indirect()``; the target's generation is checked by the caller."""
    assert tensor.dynamic is not None
    index: Tensor = tensor.dynamic.columns
    takes = _OPERANDS.get(op, ())
    if role not in takes:
        refuse(
            TENSOR_INDIRECTION,
            f"{op} got {role} {tensor.describe()}, an indirect() view.",
            f"{op} takes one as: {', '.join(takes)}." if takes else f"{op} takes none: tensor_copy gathers first.",
        )
    if index.buffer is not SBUF or not index.dtype.is_integer or index.dynamic is not None:
        refuse(
            TENSOR_INDIRECTION,
            f"{op} got {role} {tensor.describe()} with the index {index.describe()}.",
            "The index must be a tensor of integers in SBUF.",
        )
    if index.shape[0] != tensor.shape[0]:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()} with the index {index.describe()}.",
            f"The index must have {tensor.shape[0]} partitions, as many as the data.",
        )
    group = tensor.dynamic.group
    if tensor.shape[0] % group:
        refuse(
            TENSOR_INDIRECTION,
            f"{op} got {role} {tensor.describe()}: {tensor.shape[0]} partitions.",
            f"Offsets are laid out over groups of {group} partitions: use a multiple of {group}.",
        )
        group = tensor.shape[0] % group
    if tensor.shape[1] > group * index.free_size:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()}: {tensor.shape[1]} offsets, but each group of {group} partitions of "
            f"the index {index.describe()} holds {group * index.free_size}.",
            f"Give indirect() num_elem={group * index.free_size} or fewer, or an index with more columns.",
        )
    quadrant = core.limits.quadrant
    data_start = tensor.start_partition
    if index.start_partition % quadrant or (role != "dst" and data_start != index.start_partition):
        refuse(
            TENSOR_INDIRECTION,
            f"{op} got {role} {tensor.describe()} with the index {index.describe()}.",
            f"An index starts at a multiple of {quadrant}, and the operand it is read with at the same partition.",
        )


def require_beside(op: str, dst: Tensor, source: Tensor) -> None:
    """The index of a scattered ``dst`` starts where the instruction's main input does (in SBUF), or its index."""
    if dst.dynamic is None or dst.dynamic.columns is None:
        return
    index: Tensor = dst.dynamic.columns
    beside = source
    if source.buffer is not SBUF:
        if source.dynamic is None or source.dynamic.columns is None:
            return
        beside = source.dynamic.columns
    if index.start_partition != beside.start_partition:
        refuse(
            TENSOR_INDIRECTION,
            f"{op} scatters to {dst.describe()} with the index {index.describe()}, and reads {beside.describe()}.",
            "The index of dst must start at the same partition as the input (in PSUM: as the input's index).",
        )


def on_tensor_engine(tensor: Tensor) -> Tensor:
    """The operand as the tensor engine takes it: groups of 32 partitions for indirect() views, else as it is."""
    dynamic = getattr(tensor, "dynamic", None)  # kernels are not type-checked: what is no tensor is refused later
    if dynamic is None or dynamic.columns is None:
        return tensor
    return tensor._with(
        tensor.shape, tensor.strides, tensor.offset, dynamic=dynamic._replace(group=TENSOR_ENGINE_GROUP)
    )
