"""Kernels of the older language without values: masks leave the same trace as with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.silicon.nki.activate import activate
from outcrop.silicon.nki.defaults import defaults

with activate():
    import neuronxcc.nki as nki
    import neuronxcc.nki.isa as nisa
    import neuronxcc.nki.language as nl


@nki.jit
def halved(x: Any) -> Any:
    made = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    i_p, i_f = nl.arange(128)[:, None], nl.arange(x.shape[1])[None, :]
    for at in nl.affine_range((x.shape[0] + 127) // 128):
        inside = at * 128 + i_p < x.shape[0]
        tile = nl.load(x[at * 128 + i_p, i_f], mask=inside)
        half = nisa.tensor_scalar(tile, op0=nl.multiply, operand0=0.5, mask=inside)
        nl.store(made[at * 128 + i_p, i_f], half, mask=inside)
    return made


def test_masked_kernels_run_without_values() -> None:
    x = np.ones((300, 64), np.float32)
    with defaults(target="trn2"):
        whole = halved.run(x)
    with defaults(target="trn2", timing_only=True):
        bare = halved.run(np.broadcast_to(np.float32(0), x.shape))
    assert np.array_equal(whole.result, x / 2)
    assert [each.op for each in bare.trace] == [each.op for each in whole.trace]
