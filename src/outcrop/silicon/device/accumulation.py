"""What PSUM bytes hold: nothing, a sum that TensorE may add to, or values of another engine.

State is kept by element of 4 bytes, the granularity at which TensorE accumulates, not by tensor: two matmuls may cover
partly the same bytes. From the nc_matmul reference: accumulating onto bytes that nothing wrote is undefined everywhere,
and onto bytes that another engine wrote on NeuronCore-v2 and -v3.
"""

from __future__ import annotations

from outcrop.silicon.device.tensor import Tensor


def note_plain_write(tensor: Tensor) -> None:
    """Another engine wrote these bytes of a storage that has accumulation state."""
