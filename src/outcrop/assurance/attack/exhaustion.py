"""Families that break a private deployment of their own: a full disk, no descriptors left, clients that trickle.

Full disk: a file-size limit makes every write to the trail fail. Success is a change that is answered although it could
not be recorded, a service that does not recover within ``RECOVERY_S`` once there is room, or a trail that does not hold
afterwards. Descriptors and slowloris: success is a service that does not answer a sound client (within ``PATIENCE_S``
while trickled at, within ``RECOVERY_S`` after the last descriptor was taken), or keeps a trickling client for ever.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.assurance.attack.calls import Caller
from outcrop.assurance.attack.child import NO_LIMIT, Child
from outcrop.base.errors import OutcropError
from outcrop.trust.audit.verify import verify

RECOVERY_S = 30.0
PATIENCE_S = 5.0
TRICKLERS = 60
HEADER_TIMEOUT_S = 30.0
"""A service must have dropped a client that does not finish its headers by then."""
SPARE_DESCRIPTORS = 8


def run(scene: Scene) -> Iterator[Found]:
    """One private deployment for all three."""
    if scene.child is None:
        yield not_applicable("exhaustion", "needs --data: no private deployment is started without it")
        return
    with scene.child() as child:
        caller = Caller(child.client, child.region, child.keys)
        twin = caller.call("kms:CreateKey", {"Description": "attack"})
        if not twin.ok:
            yield unproven("a private deployment", f"must work before it is broken: {twin.told()}")
            return
        yield from _full_disk(child, caller)
        yield from _no_descriptors(child, caller)
        yield from _slowloris(child, caller, wait=scene.slow)
        child.stop()
        yield _trail(child, "the trail afterwards")


def _full_disk(child: Child, caller: Caller) -> Iterator[Found]:
    log = child.data / "audit" / "log"
    size = max(path.stat().st_size for path in log.iterdir())
    child.limit(resource.RLIMIT_FSIZE, min(size, 4096))
    try:
        answers = [caller.call("kms:CreateKey", {"Description": "unrecorded"}) for _ in range(3)]
        told = ", ".join(answer.told() for answer in answers)
        yield judge("a change that cannot be recorded", any(answer.ok for answer in answers), told)
        yield judge("the process, its disk full", child.process.poll() is not None, "it runs")
    finally:
        child.limit(resource.RLIMIT_FSIZE, NO_LIMIT)
    recovered_s = recovery_s(caller)
    yield judge("recovery from a full disk", recovered_s > RECOVERY_S, f"{recovered_s:.1f} s")


def _no_descriptors(child: Child, caller: Caller) -> Iterator[Found]:
    child.limit(resource.RLIMIT_NOFILE, child.descriptors() + SPARE_DESCRIPTORS)
    held: list[socket.socket] = []
    try:
        for _ in range(4 * SPARE_DESCRIPTORS):
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((child.client.name, child.client.port), 2.0))
        time.sleep(0.5)
        told = "it runs, and answered meanwhile" if child.client.alive(1.0) else "it runs, and nobody was answered"
        yield judge("the process, its descriptors taken", child.process.poll() is not None, told)
    finally:
        for each in held:
            each.close()
    recovered_s = recovery_s(caller)
    child.limit(resource.RLIMIT_NOFILE, NO_LIMIT)
    yield judge("recovery from descriptors taken", recovered_s > RECOVERY_S, f"{recovered_s:.1f} s")


def _slowloris(child: Child, caller: Caller, *, wait: bool) -> Iterator[Found]:
    held: list[socket.socket] = []
    started_s = time.monotonic()
    try:
        for number in range(TRICKLERS):
            sock = socket.create_connection((child.client.name, child.client.port), 2.0)
            begin = b"POST / HTTP/1.1\r\nhost: " + child.client.host.encode() + b"\r\n"
            sock.sendall(begin + (b"content-length: 1000000\r\n\r\n{" if number % 2 else b"x-a: "))
            held.append(sock)
        answer = caller.call("kms:ListKeys")
        took_s = time.monotonic() - started_s
        yield judge("a sound client among tricklers", not answer.ok or took_s > PATIENCE_S, f"{took_s:.2f} s")
        if not wait:
            yield not_applicable("tricklers are dropped", "takes the service's own time-out; left out of a short run")
            return
        left = list(held)
        while left and time.monotonic() - started_s < HEADER_TIMEOUT_S:
            left = [sock for sock in left if not _dropped(sock)]
            time.sleep(1.0)
        waited_s = time.monotonic() - started_s
        yield judge("tricklers are dropped", bool(left), f"{len(left)} of {len(held)} left after {waited_s:.0f} s")
    finally:
        for sock in held:
            sock.close()


def _dropped(sock: socket.socket) -> bool:
    """Send one more byte, and see whether the other end has closed."""
    sock.settimeout(0.02)
    try:
        sock.sendall(b"a")
        sock.recv(4096)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True  # its end, or an answer, which is a dismissal as well


def recovery_s(caller: Caller) -> float:
    """Seconds until a change is answered again; infinite where it is not in time."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < RECOVERY_S:
        with contextlib.suppress(OSError):
            if caller.call("kms:CreateKey", {"Description": "recovered"}).ok:
                return time.monotonic() - started_s
        time.sleep(0.2)
    return float("inf")


def _trail(child: Child, case: str) -> Found:
    try:
        report = verify(child.data / "audit")
    except OutcropError as error:
        return judge(case, True, str(error))
    return judge(
        case, not report.holds, str(report.findings[0]) if report.findings else f"{report.records} records hold"
    )
