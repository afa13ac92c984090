"""The front of the older kernel language, ``neuronxcc.nki``: instructions that return tiles, masks, index expressions.

It stands on the same device as the current one; nothing here computes by itself. ``modules`` gives what to install
under the vendor's import names (``nki.activate`` does).
"""

from __future__ import annotations

import inspect
import math
from types import ModuleType
from typing import Any

from outcrop.silicon.nki.isa import constants, target
from outcrop.silicon.nki.language.tile_size import tile_size
from outcrop.silicon.nki.legacy import (
    compiler as _compiler,
)
from outcrop.silicon.nki.legacy import (
    dtypes as _dtypes,
)
from outcrop.silicon.nki.legacy import (
    functions as _functions,
)
from outcrop.silicon.nki.legacy import (
    indices as _indices,
)
from outcrop.silicon.nki.legacy import (
    matrix_instructions as _matrix_instructions,
)
from outcrop.silicon.nki.legacy import (
    memory as _memory,
)
from outcrop.silicon.nki.legacy import (
    programs as _programs,
)
from outcrop.silicon.nki.legacy import (
    selection_instructions as _selection_instructions,
)
from outcrop.silicon.nki.legacy import (
    transfer as _transfer,
)
from outcrop.silicon.nki.legacy import (
    typing as _typing,
)
from outcrop.silicon.nki.legacy import (
    vector_instructions as _vector_instructions,
)
from outcrop.silicon.nki.legacy.kernel import (
    LegacyKernel,
    baremetal,
    benchmark,
    jit,
    profile,
    run_kernel,
    simulate_kernel,
    trace,
)  # fmt: skip
from outcrop.silicon.nki.legacy.tile import Tile

ROOT = "neuronxcc"


def _named(*sources: ModuleType) -> dict[str, Any]:
    """The functions and values that modules define themselves, under their names."""
    made: dict[str, Any] = {}
    for source in sources:
        for name, value in vars(source).items():
            own = getattr(value, "__module__", source.__name__) == source.__name__
            if not name.startswith("_") and not inspect.ismodule(value) and own:
                made[name] = value
    return made


def _language() -> dict[str, Any]:
    made = _named(_functions)
    types = {
        name: getattr(_dtypes, name)
        for name in (
            "bfloat16", "bfp16", "bool_", "finfo", "float16", "float32", "float8_e4m3", "float8_e5m2", "fp32", "int16",
            "int32", "int8", "static_cast", "tfloat32", "uint16", "uint32", "uint8",
        )
    }  # fmt: skip
    indices = {name: getattr(_indices, name) for name in ("arange", "mgrid")}
    memory = {
        name: getattr(_memory, name)
        for name in (
            "empty_like", "full", "hbm", "ndarray", "ones", "par_dim", "private_hbm", "psum", "sbuf", "shared_constant",
            "shared_hbm", "shared_identity_matrix", "zeros", "zeros_like",
        )
    }  # fmt: skip
    programs = {
        name: getattr(_programs, name)
        for name in (
            "affine_range", "nc", "num_programs", "program_id", "program_ndim", "sequential_range", "spmd_dim",
            "static_range",
        )
    }  # fmt: skip
    transfer = {name: getattr(_transfer, name) for name in ("atomic_rmw", "load", "load_transpose2d", "store")}
    return {
        **made,
        **types,
        **indices,
        **memory,
        **programs,
        **transfer,
        "tile_size": tile_size,
        "tensor": Tile,
        "Tensor": Tile,
    }


def _instruction_set() -> dict[str, Any]:
    made = _named(_vector_instructions, _selection_instructions, _matrix_instructions)
    engines = {
        f"{name}_engine": getattr(constants.engine, name)
        for name in ("tensor", "vector", "scalar", "gpsimd", "unknown")
    }
    enums = {name: getattr(constants, name) for name in ("dge_mode", "engine", "nc_version", "oob_mode", "reduce_cmd")}
    return {
        **made,
        **engines,
        **enums,
        "dma_engine": constants.engine.dma,
        "dma_copy": _transfer.dma_copy,
        "dma_transpose": _transfer.dma_transpose,
        "fp32": _dtypes.fp32,
        "get_nc_version": target.get_nc_version,
    }


def _module(name: str, attributes: dict[str, Any]) -> ModuleType:
    made = ModuleType(name, f"Outcrop's {name}: the older kernel language on the simulated device.")
    made.__dict__.update(attributes)
    made.__dict__["__outcrop__"] = True
    made.__path__ = []  # a package, so that what it lacks is reported as missing
    return made


def allclose(one: Any, two: Any, **kwargs: Any) -> bool:
    """``numpy.allclose`` of both as float32."""
    import numpy as np  # noqa: PLC0415

    return bool(np.allclose(np.asarray(one, np.float32), np.asarray(two, np.float32), **kwargs))


_made: dict[str, ModuleType] = {}


def modules() -> dict[str, ModuleType]:
    """Every module of the older front by its import name."""
    if _made:
        return _made
    nki = f"{ROOT}.nki"
    parts: dict[str, dict[str, Any]] = {
        ROOT: {"__version__": "2.0.0+outcrop"},
        nki: {
            "FrameworkKernel": LegacyKernel, "baremetal": baremetal, "benchmark": benchmark, "jit": jit,
            "profile": profile, "simulate_kernel": simulate_kernel, "tensor": Tile, "trace": trace,
        },
        f"{nki}.language": _language(),
        f"{nki}.language.constants": {"sizeinbytes": _dtypes.sizeinbytes, "tile_size": tile_size},
        f"{nki}.isa": _instruction_set(),
        f"{nki}.isa.constants": {
            name: getattr(constants, name) for name in ("dge_mode", "engine", "nc_version", "oob_mode", "reduce_cmd")
        },
        f"{nki}.isa.neuron_isa": _instruction_set(),
        f"{nki}.typing": {
            "mutable": _typing.mutable, "mutable_tensor": _typing.mutable_tensor, "scalar": _typing.scalar,
            "tensor": _typing.tensor,
        },
        f"{nki}.compiler": {
            name: getattr(_compiler, name)
            for name in (
                "allocation_scope", "enable_stack_allocator", "force_auto_alloc", "multi_buffer", "no_reorder", "psum",
                "sbuf", "skip_middle_end_transformations",
            )
        },
        f"{ROOT}.starfish": {},
        f"{ROOT}.starfish.support": {},
        f"{ROOT}.starfish.support.dtype": {
            **{name: getattr(_dtypes, name) for name in (
                "bfloat16", "float8_e4m3", "float8_e5m2", "tfloat32", "static_cast",
            )},
        },
        f"{ROOT}.starfish.support.util": {"allclose": allclose, "ceil_div": lambda a, b: math.ceil(a / b)},
    }  # fmt: skip
    for name, attributes in parts.items():
        _made[name] = _module(name, attributes)
    for name, module in _made.items():
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(_made[parent], leaf, module)
    return _made


__all__ = [
    "LegacyKernel", "Tile", "baremetal", "benchmark", "jit", "modules", "profile", "run_kernel", "simulate_kernel",
    "trace",
]  # fmt: skip
