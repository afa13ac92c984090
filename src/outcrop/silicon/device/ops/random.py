"""Random numbers of the vector and gpsimd engines, their states, and dropout.

Each partition is a lane with a state of its own. The numbers are a stand-in (see ``random_words``): what is documented
holds, that is types, ranges, distributions, and that seeds and states reproduce. Before a seed is set, the run's own
seed (``Settings.seed``) decides. Source: NKI ISA API (NKI 0.6.0) of the six instructions.

Not covered: the streams of a device. set_rng_seed seeds the vector engine for rng, rand2 and dropout alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import checks, dtypes, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.random_words import WORDS, Generator, uniform
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

_INTEGERS = (dtypes.uint32, dtypes.int32, dtypes.uint16, dtypes.int16, dtypes.uint8, dtypes.int8)
_RAND2 = (
    dtypes.float32, dtypes.tfloat32, dtypes.bfloat16, dtypes.float16, dtypes.float8_e4m3, dtypes.float8_e5m2,
    *_INTEGERS,
)  # fmt: skip
_ENGINES = (Engine.vector, Engine.gpsimd)
_SEED_BYTES = 4


def rng(core: Core, dst: Tensor, engine: Engine, name: str | None) -> Instruction:
    """32 random bits for each element, of which an integer type keeps the lowest."""
    engine = core.checked(_check_rng, dst, engine)
    if core.values:
        words = _generator(core, engine).draw(dst.start_partition, dst.shape[0], dst.free_size)
        kind = dst.dtype.numpy
        core.write(dst, words.astype(f"u{kind.itemsize}").view(kind).reshape(dst.shape))
    return core.record("rng", engine, (dst,), (), name=name)


def rand2(core: Core, dst: Tensor, low: float | Tensor, high: float | Tensor, name: str | None) -> Instruction:
    """Uniform float32 values from ``low`` to ``high``, rounded to the type of ``dst``."""
    bounds = (_bound(low), _bound(high))
    core.checked(_check_rand2, dst, *bounds)
    vectors = tuple(each for each in bounds if isinstance(each, Tensor))
    if core.values:
        least, most = (_per_partition(core, each) for each in bounds)
        if not (least < most).all():
            refuse(
                rules.PARAMETER,
                f"rand2 got min={low!r} and max={high!r}, and min < max does not hold in every partition.",
                "The range must not be empty.",
            )
        unit = uniform(_generator(core, Engine.vector).draw(dst.start_partition, dst.shape[0], dst.free_size))
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.minimum(least + unit * (most - least), most)
        core.write(dst, values.reshape(dst.shape))
    params = {"min_vector": isinstance(low, Tensor), "max_vector": isinstance(high, Tensor)}
    return core.record("rand2", Engine.vector, (dst,), vectors, params, name)


def set_rng_seed(core: Core, src_seeds: Tensor, name: str | None) -> Instruction:
    """Seed the vector engine with one 32-bit value."""
    core.checked(_check_seed, src_seeds)
    if core.values:
        _generator(core, Engine.vector).seed(
            int.from_bytes(core.read(src_seeds, defined=True).tobytes()[:_SEED_BYTES], "little")
        )
    return core.record("set_rng_seed", Engine.vector, (), (src_seeds,), name=name)


def rand_set_state(core: Core, src_seeds: Tensor, engine: Engine, name: str | None) -> Instruction:
    """Each partition's words become the state of its lane."""
    engine = core.checked(_check_state, "rand_set_state", "src_seeds", src_seeds, engine)
    if core.values:
        lanes = _lanes(core, engine, src_seeds)
        lanes[...] = core.read(src_seeds, defined=True).reshape(lanes.shape)
    return core.record("rand_set_state", engine, (), (src_seeds,), name=name)


def rand_get_state(core: Core, dst: Tensor, engine: Engine, name: str | None) -> Instruction:
    """Each partition takes the state of its lane."""
    engine = core.checked(_check_state, "rand_get_state", "dst", dst, engine)
    if core.values:
        core.write(dst, _lanes(core, engine, dst).reshape(dst.shape))
    return core.record("rand_get_state", engine, (dst,), (), name=name)


def dropout(core: Core, dst: Tensor, data: Tensor, prob: float | Tensor, name: str | None) -> Instruction:
    """``data`` with each element replaced by 0 with a probability, the same everywhere or one for each partition."""
    chance = _bound(prob)
    core.checked(_check_dropout, dst, data, *((chance,) if isinstance(chance, Tensor) else ()))
    reads = (data, chance) if isinstance(chance, Tensor) else (data,)
    if core.values:
        limit = _per_partition(core, chance)
        unit = uniform(_generator(core, Engine.vector).draw(dst.start_partition, dst.shape[0], dst.free_size))
        values = core.read(data).reshape(unit.shape)
        core.write(dst, np.where(unit < limit, np.zeros(1, values.dtype), values).reshape(dst.shape))
    return core.record("dropout", Engine.vector, (dst,), reads, {"prob_vector": len(reads) > 1}, name)


# -- states ------------------------------------------------------------------------------------------------------------


def _states_per_lane(core: Core, engine: Engine) -> int:
    figure = core.settings.target.core.vector.random_states_per_lane
    return figure.int_in("count") if engine is Engine.vector and figure is not None else 1


def _generator(core: Core, engine: Engine) -> Generator:
    key = f"random:{engine.name}"
    made = core.state.get(key)
    if made is None:
        entropy = (core.settings.seed, core.rank, core.index, engine.value)
        made = core.state[key] = Generator(core.limits.partitions, _states_per_lane(core, engine), entropy)
    assert isinstance(made, Generator)
    return made


def _lanes(core: Core, engine: Engine, tensor: Tensor) -> Array:
    start = tensor.start_partition
    return _generator(core, engine).states[start : start + tensor.shape[0]]


def _bound(value: object) -> float | Tensor:
    if isinstance(value, Tensor):
        return value
    if not hasattr(value, "__float__"):
        refuse(rules.PARAMETER, f"Got {value!r}, a {type(value).__name__}.", "Give a number or a [P, 1] tensor.")
    return float(value)  # type: ignore[arg-type]


def _per_partition(core: Core, value: float | Tensor) -> Array:
    """``[1, 1]`` or ``[P, 1]`` of float32."""
    if isinstance(value, Tensor):
        return core.read_float32(value).reshape(-1, 1)
    return np.array([[value]], np.float32)


# -- static rules ------------------------------------------------------------------------------------------------------


def _check_rng(core: Core, dst: Tensor, engine: Engine) -> Engine:
    engine = checks.engine_in(core, "rng", engine, _ENGINES)
    on_gpsimd = engine is Engine.gpsimd
    if on_gpsimd:
        checks.feature(core, "rng", "gpsimd_rng", "rng on the gpsimd engine")
    checks.engine_operand(core, "rng", "dst", dst, checks.SBUF_ONLY if on_gpsimd else checks.ON_CHIP)
    checks.dtype_in(core, "rng", "dst", dst, _INTEGERS)
    return engine


def _check_rand2(core: Core, dst: Tensor, low: float | Tensor, high: float | Tensor) -> None:
    checks.feature(core, "rand2", "rand2", "the instruction")
    checks.engine_operand(core, "rand2", "dst", dst)
    checks.dtype_in(core, "rand2", "dst", dst, _RAND2)
    for role, bound in (("min", low), ("max", high)):
        if isinstance(bound, Tensor):
            checks.dtype_in(core, "rand2", role, bound, (dtypes.float32,))
            _check_vector(core, "rand2", role, bound, dst)


def _check_seed(core: Core, src_seeds: Tensor) -> None:
    checks.engine_operand(core, "set_rng_seed", "src_seeds", src_seeds)
    if src_seeds.size != 1:
        refuse(
            rules.OPERAND_SHAPE, f"set_rng_seed got src_seeds {src_seeds.describe()}.", "src_seeds is a [1, 1] tensor."
        )
    if src_seeds.dtype.itemsize != _SEED_BYTES:
        refuse(
            rules.OPERAND_DTYPE, f"set_rng_seed got src_seeds {src_seeds.describe()}.", "A seed is a value of 32 bits."
        )


def _check_state(core: Core, op: str, role: str, tensor: Tensor, engine: Engine) -> Engine:
    engine = checks.engine_in(core, op, engine, (Engine.gpsimd, Engine.vector))
    needs = "gpsimd_rng" if engine is Engine.gpsimd else "vector_random_state"
    checks.feature(core, op, needs, f"a random state of the {engine.name} engine that can be set and read")
    stays_in_sbuf = engine is Engine.gpsimd or role != "dst"
    checks.engine_operand(core, op, role, tensor, checks.SBUF_ONLY if stays_in_sbuf else checks.ON_CHIP)
    checks.dtype_in(core, op, role, tensor, (dtypes.uint32,))
    words = WORDS * _states_per_lane(core, engine)
    if len(tensor.shape) != 2 or tensor.free_size != words:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()} for the {engine.name} engine.",
            f"{role} is [lanes, {words}]: {words} words for each lane of that engine.",
        )
    return engine


def _check_dropout(core: Core, dst: Tensor, data: Tensor, prob: Tensor | None = None) -> None:
    checks.engine_operand(core, "dropout", "dst", dst)
    checks.engine_operand(core, "dropout", "data", data)
    checks.same_elements(core, "dropout", data=data, dst=dst)
    checks.dtype_in(core, "dropout", "dst", dst, (data.dtype,))
    if prob is not None:
        _check_vector(core, "dropout", "prob", prob, data)
        if not (prob.dtype.is_float and (data.dtype.is_float or prob.dtype is dtypes.float32)):
            refuse(
                rules.OPERAND_DTYPE,
                f"dropout got data {data.describe()} and prob {prob.describe()}.",
                "prob is float32, or any float type where data is of a float type.",
            )


def _check_vector(core: Core, op: str, role: str, vector: Tensor, beside: Tensor) -> None:
    checks.engine_operand(core, op, role, vector)
    if vector.shape[0] != beside.shape[0] or vector.free_size != 1:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {vector.describe()} beside {beside.describe()}.",
            f"{role} is a number or a tensor [{beside.shape[0]}, 1]: one value for each partition.",
        )
