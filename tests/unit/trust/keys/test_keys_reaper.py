"""The thread that does what falls due: while it runs, and not after."""

from __future__ import annotations

import time
from collections.abc import Callable

from keys_rig import Rig

from outcrop.base.errors import KeyStoreUnavailable
from outcrop.trust.keys import KeyReaper, KeyState


def soon(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_what_is_due_is_done_while_it_runs(rig: Rig) -> None:
    key, kept = rig.key(), rig.key()
    rig.keys.lifecycle.schedule_deletion(key.key_id, 7)
    rig.keys.lifecycle.schedule_deletion(kept.key_id, 30)
    reaper = KeyReaper(rig.keys, rig.clock, every_s=0.01)
    try:
        assert rig.keys.rows.peek(key.key_id).state is KeyState.PENDING_DELETION
        rig.wait(days=7)
        assert soon(lambda: rig.keys.rows.peek(key.key_id).state is KeyState.DESTROYED)
    finally:
        reaper.close()
    rig.wait(days=30)
    time.sleep(0.05)
    assert rig.keys.rows.peek(kept.key_id).state is KeyState.PENDING_DELETION
    assert kept.master_name in rig.store.names()


def test_a_key_store_that_is_away_for_a_while_only_delays(rig: Rig) -> None:
    key, destroy, failed = rig.key(), rig.store.destroy, []

    def away(name: str) -> None:
        failed.append(name)
        raise KeyStoreUnavailable("The token is not there.")

    rig.keys.lifecycle.schedule_deletion(key.key_id, 7)
    rig.wait(days=7)
    rig.store.destroy = away
    reaper = KeyReaper(rig.keys, rig.clock, every_s=0.01)
    try:
        assert soon(lambda: len(failed) > 1)
        assert rig.keys.rows.peek(key.key_id).state is KeyState.DESTROYING
        rig.store.destroy = destroy
        assert soon(lambda: rig.keys.rows.peek(key.key_id).state is KeyState.DESTROYED)
    finally:
        reaper.close()
    assert rig.store.names() == []
