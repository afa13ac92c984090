"""Good kernels, and the same with one mistake each: every mistake is found, and nothing is said of the originals.

A kernel takes ``bug``, the name of its mistake, empty for the original. Originals also run with values, so that they
are known to be right; mutants run without, since many of them would be refused for what they read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from outcrop.silicon import nki
from outcrop.silicon.hazards import Kind, Severity, find_hazards
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl

Array = np.ndarray[Any, Any]
F32 = np.float32
ROW = 2048  # bytes of 512 float32


def numbers(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(F32)


def on_chip(address: int | None = None, columns: int = 512, rows: int = 128, buffer: Any = nl.sbuf) -> Any:
    where = None if address is None else (0, address)
    return nl.ndarray((rows, columns), nl.float32, buffer=buffer, address=where)


def in_hbm(*shape: int, name: str = "") -> Any:
    return nl.ndarray(shape, nl.float32, buffer=nl.shared_hbm, **({"name": name} if name else {}))


# -- the kernels ------------------------------------------------------------------------------------------------------


@nki.jit
def reduce_over_cores(a: Any, bug: str = "") -> Any:
    """Each core squares its half of the columns; both add the halves, in two rounds through the same scratch."""
    core = nl.program_id(0)
    scratch, other = in_hbm(2, 128, 512, name="scratch"), in_hbm(2, 128, 512, name="other")
    out = in_hbm(2, 128, 512, name="out")

    def barrier(name: str) -> None:
        if bug != f"no {name}":
            nisa.core_barrier(other if bug == f"{name} on another tensor" else scratch, (0, 1))

    for step in range(2):
        mine, theirs, total = on_chip(), on_chip(), on_chip()
        nisa.dma_copy(mine, a[:, (2 * step + core) * 512 : (2 * step + core + 1) * 512])
        nisa.tensor_tensor(mine, mine, mine, nl.multiply)
        if bug == "barrier before the write":
            barrier("barrier")
        part = {"both write one part": 0, "parts swapped when read": core}.get(bug, core)
        nisa.dma_copy(scratch[part], mine)
        if bug not in ("barrier before the write", "barrier after the read"):
            barrier("barrier")
        nisa.dma_copy(theirs, scratch[1 - core])
        if bug == "barrier after the read":
            barrier("barrier")
        nisa.tensor_tensor(total, mine, theirs, nl.add)
        if step == 0:
            barrier("barrier between rounds")
        rows = slice(core * 64, core * 64 + 64)
        if bug == "halves of the output overlap":
            rows = slice(core * 32, core * 32 + 64)
        if bug == "both write all of the output":
            rows = slice(0, 128)
        nisa.dma_copy(out[step, rows], total[rows])
    return out


@nki.jit
def copy_by_address(a: Any, bug: str = "") -> Any:
    """exp of four tiles, the next one loaded while one is computed, in two buffers at explicit addresses."""
    tiles = 4
    out = in_hbm(tiles, 128, 512)
    pitch = {"buffers overlap": 1024, "shifted by four bytes": ROW - 4}.get(bug, ROW)
    buffers = 1 if bug == "one buffer fewer" else 2
    ahead = 2 if bug == "loads two ahead" else 1
    results = {"result over the next buffer": ROW, "result over both": 1024}.get(bug, 4 * ROW)

    def load(at: int) -> Any:
        tile = on_chip(at % buffers * pitch)
        nisa.dma_copy(tile, a[at])
        return tile

    loaded: dict[int, Any] = {}
    for at in range(ahead):
        loaded[at] = load(at)
    for at in range(tiles):
        if at + ahead < tiles:
            loaded[at + ahead] = load(at + ahead)
        result = on_chip(results + at % 2 * ROW)
        source = loaded[at]
        if bug == "reads by another name":
            source = on_chip(at % buffers * pitch)
        if bug == "reads the same buffer always":
            source = loaded[0]
        nisa.activation(result, nl.exp, source)
        if bug == "stores the input":
            nisa.dma_copy(out[at], source)
        elif bug == "computes twice in one place" and at == 2:
            nisa.activation(result, nl.exp, source)
            nisa.dma_copy(out[at], result)
        else:
            nisa.dma_copy(out[at], result)
    return out


@nki.jit
def buffers_in_turns(a: Any, bug: str = "") -> Any:
    """Two tensors at one address, one after the other."""
    out = in_hbm(3, 128, 512)
    first = on_chip(0)
    nisa.dma_copy(first, a[0])
    nisa.dma_copy(out[0], first)
    second = on_chip(0)
    nisa.dma_copy(second, a[1])
    if bug == "stores too late":
        nisa.dma_copy(out[0], first)
    nisa.dma_copy(out[1], second)
    third = on_chip(0)
    if bug == "returns to the first":
        third = first
    nisa.dma_copy(third, a[2])
    nisa.dma_copy(out[2], third)
    return out


@nki.jit
def matmul_by_banks(a: Any, b: Any, bug: str = "") -> Any:
    """a.T @ b in four column tiles and two steps of K, sums in two banks of PSUM in turn."""
    out = in_hbm(4, 128, 512)
    left, right = on_chip(0, 256), on_chip(ROW, 4096)
    for k in range(2):
        nisa.dma_copy(left[:, k * 128 : k * 128 + 128], a[k * 128 : k * 128 + 128])
        nisa.dma_copy(right[:, k * 2048 : k * 2048 + 2048], b[k * 128 : k * 128 + 128])
    banks = 1 if bug == "one bank fewer" else 2
    pending: list[tuple[int, Any]] = []

    def store(column: int, total: Any) -> None:
        result = on_chip(10 * ROW + column * ROW)
        nisa.tensor_copy(result, total)
        nisa.dma_copy(out[column], result)

    for column in range(4):
        total = on_chip(column % banks * ROW, buffer=nl.psum)
        for k in range(2):
            start = k == 0 or bug == "starts each time"
            moving = right[:, k * 2048 + column * 512 : k * 2048 + column * 512 + 512]
            nisa.nc_matmul(total, left[:, k * 128 : k * 128 + 128], moving, accumulate=not start)
            if k == 0 and bug == "clears in the middle" and column == 1:
                nisa.memset(total, 0.0)
            if k == 0 and bug == "copies before the last step" and column == 1:
                store(column, total)
        if bug == "copies before the last step" and column == 1:
            continue
        pending.append((column, total))
        if len(pending) == 2:
            if bug == "never copies the first" and column == 1:
                pending.pop(0)
            else:
                store(*pending.pop(0))
    for each in pending:
        store(*each)
    return out


@nki.jit
def two_sums(a: Any, bug: str = "") -> Any:
    """Two sums over K, each in a tensor of its own, their matmuls interleaved."""
    out = in_hbm(2, 128, 512)
    left, right = on_chip(columns=256), on_chip(columns=1024)
    nisa.dma_copy(left, a[:, :256])
    nisa.dma_copy(right, a[:, 256:1280])
    sums = [on_chip(buffer=nl.psum), on_chip(buffer=nl.psum)]
    if bug == "one tensor for both":
        sums[1] = sums[0]
    for k in range(2):
        for each in sums:
            nisa.nc_matmul(
                each,
                left[:, k * 128 : k * 128 + 128],
                right[:, k * 512 : k * 512 + 512],
                accumulate=k > 0,
            )
    for at, each in enumerate(sums):
        result = on_chip()
        nisa.tensor_copy(result, each)
        nisa.dma_copy(out[at], result)
    return out


@nki.jit
def ring(a: Any, bug: str = "") -> Any:
    """Six tiles through three slots of one tensor, loaded two ahead."""
    out = in_hbm(6, 128, 512)
    slots = nl.ndarray((128, 3, 512), nl.float32, buffer=nl.sbuf)
    size = 2 if bug == "one slot fewer" else 3
    for at in range(8):
        if at < 6:
            nisa.dma_copy(slots[:, at % size], a[at])
        if at >= 2:
            read = (at - 1 if bug == "reads the next slot" else at - 2) % size
            result = on_chip()
            nisa.activation(result, nl.exp, slots[:, read])
            if bug == "result never stored" and at == 4:
                continue
            nisa.dma_copy(out[at - 2], slots[:, read] if bug == "stores the slot" else result)
    return out


@nki.jit
def scatter_on_two_cores(a: Any, indices: Any, bug: str = "") -> Any:
    """Both cores write rows to scratch and gather all of them in another order, each its half of the columns."""
    core = nl.program_id(0)
    scratch, out = in_hbm(128, 1024, name="scratch"), in_hbm(128, 1024, name="out")
    tile, picks, picked = on_chip(rows=64, columns=1024), None, on_chip(columns=512)
    picks = nl.ndarray((128, 1), nl.int32, buffer=nl.sbuf)
    nisa.dma_copy(picks, indices)
    first = core * (32 if bug == "rows overlap" else 64)
    nisa.dma_copy(tile, a[first : first + 64])
    nisa.dma_copy(scratch[first : first + 64], tile)
    if bug != "no barrier before the gather":
        nisa.core_barrier(scratch, (0, 1))
    start = 0 if bug == "both cores the same columns" else core * (256 if bug == "columns overlap" else 512)
    rows = scratch.ap([[1024, 128], [1, 512]], offset=start, vector_offset=picks, indirect_dim=0)
    nisa.dma_copy(picked, rows, dge_mode=nisa.dge_mode.swdge)
    target = out.ap([[1024, 128], [1, 512]], offset=start, vector_offset=picks, indirect_dim=0)
    nisa.dma_copy(target, picked, dge_mode=nisa.dge_mode.swdge)
    return out


@nki.jit
def exchange(a: Any, bug: str = "") -> Any:
    """Each core sends its square to the other and writes the sum; core 0 adds what core 1 left in scratch."""
    core = nl.program_id(0)
    out, scratch = in_hbm(2, 128, 512, name="out"), in_hbm(128, 512, name="scratch")
    mine, square, theirs, total = on_chip(), on_chip(), on_chip(), on_chip()
    nisa.dma_copy(mine, a[core])
    if bug == "sends before it computes":
        nisa.sendrecv(square, theirs, 1 - core, 1 - core, pipe_id=0)
    nisa.tensor_tensor(square, mine, mine, nl.multiply)
    if bug == "receives over its own":
        nisa.sendrecv(square, square, 1 - core, 1 - core, pipe_id=0)
    elif bug == "sends twice":
        nisa.sendrecv(square, theirs, 1 - core, 1 - core, pipe_id=0)
        nisa.sendrecv(mine, theirs, 1 - core, 1 - core, pipe_id=1)
    elif bug == "computes over what it received":
        nisa.sendrecv(square, theirs, 1 - core, 1 - core, pipe_id=0)
        nisa.tensor_copy(theirs, mine)
    elif bug != "sends before it computes":
        nisa.sendrecv(square, theirs, 1 - core, 1 - core, pipe_id=0)
    nisa.tensor_tensor(total, square, square if bug == "receives over its own" else theirs, nl.add)
    if core == 1:
        nisa.dma_copy(scratch, total)
        nisa.dma_copy(out[1], total)
    if bug != "reads scratch without a barrier":
        nisa.core_barrier(scratch, (0, 1))
    if core == 0:
        back = on_chip()
        nisa.dma_copy(back, scratch)
        nisa.tensor_tensor(total, total, back, nl.add)
        nisa.dma_copy(out[0], total)
    elif bug == "core 1 clears scratch at the end":
        nisa.dma_copy(scratch, mine)
    return out


@nki.jit
def scheduled(a: Any, bug: str = "") -> Any:
    """Two independent chains whose steps have names."""
    out = in_hbm(2, 128, 512)
    tiles = [on_chip(), on_chip()]
    steps = []
    for at, tile in enumerate(tiles):
        load = nisa.dma_copy(tile, a[at], name=f"load{at}")
        act = nisa.activation(tile, nl.exp, tile, name=f"act{at}")
        store = nisa.dma_copy(out[at], tile, name=f"store{at}")
        steps.append((load, act, store))
    if bug == "a load after its own store":
        steps[0][0].depends_on(steps[0][2])
    if bug == "the chains wait for each other":
        steps[0][1].depends_on(steps[1][2])
        steps[1][0].depends_on(steps[0][2])
    if bug == "waits for itself":
        steps[0][1].depends_on(steps[0][1])
    return out


@nki.jit
def kept_in_order(a: Any, bug: str = "") -> Any:
    """A block that keeps its order, and one declared wait beside it."""
    out = in_hbm(2, 128, 512)
    tiles = [on_chip(), on_chip()]
    with nl.no_reorder():
        acts = []
        for at, tile in enumerate(tiles):
            nisa.dma_copy(tile, a[at])
            acts.append(nisa.activation(tile, nl.exp, tile))
        if bug == "against the block":
            acts[0].depends_on(acts[1])
    for at, tile in enumerate(tiles):
        nisa.dma_copy(out[at], tile)
    return out


@nki.jit
def by_hand(a: Any, bug: str = "") -> Any:
    """Everything declared: each load, computation and store names what it waits for; two buffers by address."""
    tiles = 4
    out = in_hbm(tiles, 128, 512)
    acts: list[Any] = []
    stores: list[Any] = []
    for at in range(tiles):
        tile, result = on_chip(at % 2 * ROW), on_chip((2 + at % 2) * ROW)
        load = nisa.dma_copy(tile, a[at])
        act = nisa.activation(result, nl.exp, tile)
        store = nisa.dma_copy(out[at], result, dge_mode=nisa.dge_mode.swdge)
        if bug != "computes before the load is over":
            act.depends_on(load)
        if bug != "stores before the result is there":
            store.depends_on(act)
        if at >= 2 and bug != "loads over what is still read":
            load.depends_on(acts[at - 2])
        if at >= 2 and bug != "computes over what is still stored":
            act.depends_on(stores[at - 2])
        if bug == "waits behind its own queue" and at == 0:
            first = load
        if bug == "waits behind its own queue" and at == 2:
            first.depends_on(load)
        acts.append(act)
        stores.append(store)
    return out


@nki.jit
def spill_by_hand(a: Any, bug: str = "") -> Any:
    """Through scratch in HBM and back, on one DMA queue, each transfer waiting for the last."""
    out = in_hbm(128, 512)
    scratch = nl.ndarray((128, 512), nl.float32, buffer=nl.private_hbm)
    tile, back = on_chip(), on_chip()
    load = nisa.dma_copy(tile, a)
    spill = nisa.dma_copy(scratch, tile)
    if bug == "spills in two parts that overlap":
        spill.depends_on(load)
        spill = nisa.dma_copy(scratch[32:64], tile[32:64])
    fill = nisa.dma_copy(back, scratch)
    store = nisa.dma_copy(out, back)
    if bug != "spills before the load is over":
        spill.depends_on(load)
    if bug != "fills before the spill is over":
        fill.depends_on(spill)
    store.depends_on(fill)
    return out


@nki.jit
def barrier_by_hand(a: Any, bug: str = "") -> Any:
    """Two cores through shared scratch: the barrier runs on an engine, which waits for the transfers it is told."""
    core = nl.program_id(0)
    scratch, out = in_hbm(2, 128, 512, name="scratch"), in_hbm(2, 128, 512, name="out")
    tile, other = on_chip(), on_chip()
    load = nisa.dma_copy(tile, a[core])
    write = nisa.dma_copy(scratch[core], tile).depends_on(load)
    meet = nisa.core_barrier(scratch, (0, 1))
    if bug != "barrier does not wait for the write":
        meet.depends_on(write)
    read = nisa.dma_copy(other, scratch[1 - core])
    if bug != "read does not wait for the barrier":
        read.depends_on(meet)
    nisa.dma_copy(out[core], other).depends_on(read)
    return out


@nki.jit
def move_rows(a: Any, bug: str = "") -> Any:
    """Rows one place up, through SBUF; and columns of a tile, through another tile."""
    out = in_hbm(128, 1024)
    rows, moved = on_chip(rows=127, columns=1024), on_chip(columns=1024)
    table = nl.ndarray((128, 1024), nl.float32, buffer=nl.private_hbm)
    nisa.dma_copy(table, a)
    if bug == "rows onto themselves":
        nisa.dma_copy(table[0:127], table[1:128])
    else:
        nisa.dma_copy(rows, table[1:128])
        nisa.dma_copy(table[0:127], rows)
    tile = on_chip(columns=1024)
    nisa.dma_copy(tile, table)
    if bug == "columns onto themselves":
        nisa.tensor_copy(tile[:, 0:1023], tile[:, 1:1024])
        nisa.tensor_copy(moved, tile)
    else:
        nisa.tensor_copy(moved[:, 0:1023], tile[:, 1:1024])
        nisa.tensor_copy(moved[:, 1023:1024], tile[:, 1023:1024])
    if bug == "in narrow columns":
        for at in range(0, 1024, 64):
            nisa.dma_copy(out[:, at : at + 64], moved[:, at : at + 64])
    else:
        nisa.dma_copy(out, moved)
    return out


@nki.jit
def spill(a: Any, bug: str = "") -> Any:
    """Two tiles through scratch in HBM that both use, one after the other."""
    out = in_hbm(2, 128, 512)
    scratch = nl.ndarray((128, 512), nl.float32, buffer=nl.private_hbm)
    tiles = [on_chip(), on_chip()]
    for at, tile in enumerate(tiles):
        nisa.dma_copy(tile, a[at])
    for at, tile in enumerate(tiles):
        nisa.dma_copy(scratch, tile)
        if bug == "both spilled first" and at == 0:
            continue
        back = on_chip()
        nisa.dma_copy(back, scratch)
        nisa.dma_copy(out[0 if bug == "stored to one place" else at], back)
    return out


# -- the mistakes -----------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    kernel: Any
    args: tuple[Any, ...]
    reference: Callable[..., Array]
    bugs: dict[str, Kind]
    mode: str = "compiler"


A = numbers(4, 128, 512)
PERMUTED = np.random.default_rng(1).permutation(128).astype(np.int32).reshape(128, 1)


def reduced(a: Array) -> Array:
    squares = (a * a).reshape(128, 2, 2, 512)
    return (squares[:, :, 0] + squares[:, :, 1]).transpose(1, 0, 2)


def product(a: Array, b: Array) -> Array:
    return np.ascontiguousarray((a.T.astype(F32) @ b).reshape(128, 4, 512).transpose(1, 0, 2))


def twice(a: Array) -> Array:
    each = sum(a[:, k * 128 : k * 128 + 128].T @ a[:, 256 + k * 512 : 768 + k * 512] for k in range(2))
    return np.stack([each, each])


def exchanged(a: Array) -> Array:
    both = a[0] * a[0] + a[1] * a[1]
    return np.stack([both + both, both])


def moved(a: Array) -> Array:
    up = np.concatenate([a[1:], a[-1:]])
    return np.concatenate([up[:, 1:], up[:, -1:]], axis=1)


def passed_on(a: Array) -> Array:
    return a


CASES = {
    "reduce over cores": Case(
        reduce_over_cores[2],
        (numbers(128, 2048),),
        reduced,
        {
            "no barrier": Kind.core_race,
            "no barrier between rounds": Kind.core_race,
            "barrier before the write": Kind.core_race,
            "barrier after the read": Kind.core_race,
            "barrier on another tensor": Kind.core_race,
            "barrier between rounds on another tensor": Kind.core_race,
            "both write one part": Kind.core_race,
            "halves of the output overlap": Kind.core_race,
            "both write all of the output": Kind.core_race,
        },
    ),
    "copy by address": Case(
        copy_by_address,
        (A,),
        np.exp,
        {
            "one buffer fewer": Kind.lifetime,
            "buffers overlap": Kind.lifetime,
            "shifted by four bytes": Kind.lifetime,
            "loads two ahead": Kind.lifetime,
            "result over the next buffer": Kind.lifetime,
            "result over both": Kind.lifetime,
            "reads by another name": Kind.alias_race,
            "reads the same buffer always": Kind.dead_result,
            "stores the input": Kind.dead_result,
            "computes twice in one place": Kind.overwritten,
        },
    ),
    "buffers in turns": Case(
        buffers_in_turns,
        (A[:3],),
        passed_on,
        {"stores too late": Kind.lifetime, "returns to the first": Kind.alias_race},
    ),
    "matmul by banks": Case(
        matmul_by_banks,
        (numbers(256, 128), numbers(256, 2048)),
        product,
        {
            "one bank fewer": Kind.lifetime,
            "starts each time": Kind.interleaved_sum,
            "clears in the middle": Kind.interleaved_sum,
            "copies before the last step": Kind.interleaved_sum,
            "never copies the first": Kind.interleaved_sum,
        },
    ),
    "two sums": Case(two_sums, (numbers(128, 1280),), twice, {"one tensor for both": Kind.interleaved_sum}),
    "ring": Case(
        ring,
        (numbers(6, 128, 512),),
        np.exp,
        {
            "one slot fewer": Kind.overwritten,
            "reads the next slot": Kind.overwritten,
            "result never stored": Kind.dead_result,
            "stores the slot": Kind.dead_result,
        },
    ),
    "scatter on two cores": Case(
        scatter_on_two_cores[2],
        (numbers(128, 1024), PERMUTED),
        lambda a, _: a,
        {
            "rows overlap": Kind.core_race,
            "no barrier before the gather": Kind.core_race,
            "both cores the same columns": Kind.core_race,
            "columns overlap": Kind.core_race,
        },
    ),
    "exchange": Case(
        exchange[2],
        (A[:2],),
        exchanged,
        {
            "sends before it computes": Kind.unwritten,
            "receives over its own": Kind.self_overlap,
            "sends twice": Kind.overwritten,
            "computes over what it received": Kind.overwritten,
            "reads scratch without a barrier": Kind.core_race,
            "core 1 clears scratch at the end": Kind.core_race,
        },
    ),
    "scheduled": Case(
        scheduled,
        (A[:2],),
        np.exp,
        {
            "a load after its own store": Kind.cyclic_wait,
            "the chains wait for each other": Kind.cyclic_wait,
            "waits for itself": Kind.cyclic_wait,
        },
    ),
    "kept in order": Case(kept_in_order, (A[:2],), np.exp, {"against the block": Kind.cyclic_wait}),
    "by hand": Case(
        by_hand,
        (A,),
        np.exp,
        {
            "computes before the load is over": Kind.unwaited_dma,
            "stores before the result is there": Kind.race,
            "loads over what is still read": Kind.alias_race,
            "computes over what is still stored": Kind.alias_race,
            "waits behind its own queue": Kind.cyclic_wait,
        },
        "manual",
    ),
    "spill by hand": Case(
        spill_by_hand,
        (A[0],),
        passed_on,
        {
            "spills before the load is over": Kind.dma_overlap,
            "fills before the spill is over": Kind.dma_overlap,
            "spills in two parts that overlap": Kind.dma_overlap,
        },
        "manual",
    ),
    "barrier by hand": Case(
        barrier_by_hand[2],
        (A[:2],),
        lambda a: a[::-1],
        {
            "barrier does not wait for the write": Kind.core_race,
            "read does not wait for the barrier": Kind.core_race,
        },
        "manual",
    ),
    "move rows": Case(
        move_rows,
        (numbers(128, 1024),),
        moved,
        {
            "rows onto themselves": Kind.self_overlap,
            "columns onto themselves": Kind.self_overlap,
            "in narrow columns": Kind.small_descriptors,
        },
    ),
    "spill": Case(
        spill,
        (A[:2],),
        passed_on,
        {"both spilled first": Kind.overwritten, "stored to one place": Kind.overwritten},
    ),
}
MUTANTS = [(name, bug) for name, case in CASES.items() for bug in case.bugs]


@pytest.mark.parametrize("name", CASES)
def test_the_originals_are_right_and_nothing_is_said_of_them(name: str) -> None:
    case = CASES[name]
    run = case.kernel.with_settings(target="trn2").run(*case.args)
    np.testing.assert_allclose(run.result, case.reference(*case.args), rtol=2e-4, atol=2e-4)
    assert [str(each) for each in find_hazards(run.machine, mode=case.mode)] == []


@pytest.mark.parametrize(("name", "bug"), MUTANTS)
def test_every_mistake_is_found(name: str, bug: str) -> None:
    case = CASES[name]
    run = case.kernel.with_settings(target="trn2", timing_only=True).run(*case.args, bug=bug)
    found = find_hazards(run.machine, mode=case.mode)
    kinds = {each.kind for each in found}
    assert case.bugs[bug] in kinds, "\n".join(map(str, found))
    told = next(each for each in found if each.kind is case.bugs[bug])
    assert all(source.file == __file__ for source in told.sources)
    assert told.kind is Kind.small_descriptors or told.severity is not Severity.advice


def test_there_are_enough_mistakes() -> None:
    assert len(MUTANTS) >= 30
