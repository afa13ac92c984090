"""The four measurements. Each gives a plain record that goes into the result file as it is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway_rig import engines
from gateway_rig.load import HeldStreams, OpenLoop, drain_streams, open_loop
from gateway_rig.process import BenchFailed, Server
from gateway_rig.requests import Signer, bare_streams, chat_completions

RATE_PER_S = 500.0
PEER_RATES_PER_S = (500.0, 200.0, 100.0, 50.0)
LOW_RATE_PER_S = 20.0
DISTINCT_REQUESTS = 500
IDLE_STREAMS = 1000

_WARM_UP_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """One server to send requests to."""

    server: Server
    requests: Sequence[bytes]


Figures = dict[str, float]


def added_latency(service: Server, upstream: Server, rounds: int, round_s: float) -> dict[str, object]:
    """Our service against the bare upstream at ``RATE_PER_S``, interleaved."""
    requests = Signer(service).converse(engines.UNARY, DISTINCT_REQUESTS)
    targets = {"upstream": Target(upstream, requests), "outcrop": Target(service, requests)}
    runs = _interleaved(targets, RATE_PER_S, rounds, round_s)
    return {"rate_per_s": RATE_PER_S, "rounds": rounds, "round_s": round_s, **_added(runs, "upstream")}


def streaming_cost(service: Server, upstream: Server, rounds: int, streams: int = 64) -> dict[str, float]:
    """Processor time per streamed event and per streamed request, in microseconds: medians over ``rounds``.

    The same requests, cut at 1 token and at ``EVENTS`` tokens: the difference is what the events cost, and the rest
    is what a stream costs whatever its length. ``bare`` is the upstream's own cost of as many chunks.
    """
    signer = Signer(service)
    found: Figures = {"streams": streams, "rounds": rounds}
    kinds = (("burst", engines.STREAM, 0.0, 16), ("paced", engines.PACED, engines.PACE_S, 64))
    for name, model_id, pause_s, concurrency in kinds:
        pairs = {
            name: [(service, signer.converse_stream(model_id, streams, n)) for n in (1, engines.EVENTS)],
            f"{name}_bare": [(upstream, bare_streams(upstream, streams, n, pause_s)) for n in (1, engines.EVENTS)],
        }
        for label, ((server, short), (_, long)) in pairs.items():
            drain_streams(server, [*short, *long[:8]], concurrency)
            event_us, request_us = [], []
            for _ in range(rounds):
                request_us.append(_cost_us(server, short, concurrency))
                event_us.append((_cost_us(server, long, concurrency) - request_us[-1]) / (engines.EVENTS - 1))
            found[f"{label}_event_us"] = statistics.median(event_us)
            found[f"{label}_request_us"] = statistics.median(request_us)
    return found


def _cost_us(server: Server, requests: Sequence[bytes], concurrency: int) -> float:
    """Processor time of one streamed request."""
    before_s = server.cpu_s()
    drain_streams(server, requests, concurrency)
    return (server.cpu_s() - before_s) / len(requests) * 1e6


def idle_streams(service: Server) -> dict[str, float]:
    """Resident memory with ``IDLE_STREAMS`` streams that have begun and then hear nothing, in bytes."""
    before = service.rss_bytes()
    held = HeldStreams(service, Signer(service).converse_stream(engines.IDLE, IDLE_STREAMS, engines.EVENTS), frames=2)
    during = service.rss_bytes()
    held.close()
    return {"streams": IDLE_STREAMS, "rss_before_bytes": before, "rss_bytes": during}


def against_peer(
    service: Server, upstream: Server, peer: Server, rounds: int, round_s: float
) -> dict[str, dict[str, object]]:
    """Outcrop and the peer at the highest rate that the peer keeps up with, and at a low one."""
    signer = Signer(service)
    chats = chat_completions(peer, DISTINCT_REQUESTS)
    targets = {
        "upstream": Target(upstream, chats),
        "litellm": Target(peer, chats),
        "outcrop": Target(service, signer.converse(engines.UNARY, DISTINCT_REQUESTS)),
        "outcrop_as_proxy": Target(service, signer.converse(engines.PROXY, DISTINCT_REQUESTS)),
    }
    found: dict[str, dict[str, object]] = {}
    for name, rate_per_s in (("highest_rate", _highest_rate(targets["litellm"])), ("low_rate", LOW_RATE_PER_S)):
        runs = _interleaved(targets, rate_per_s, rounds, round_s)
        found[name] = {"rate_per_s": rate_per_s, "rounds": rounds, "round_s": round_s, **_added(runs, "upstream")}
    return found


def _highest_rate(peer: Target) -> float:
    """The highest rate at which its requests do not yet queue: the median stays within three times that at leisure."""
    open_loop(peer.server, peer.requests, LOW_RATE_PER_S, _WARM_UP_S)
    leisure_ms = open_loop(peer.server, peer.requests, LOW_RATE_PER_S, 2.0).percentile(50)
    for rate_per_s in PEER_RATES_PER_S:
        run = open_loop(peer.server, peer.requests, rate_per_s, 2.0)
        if run.kept_up and run.percentile(50) <= 3 * leisure_ms:
            return rate_per_s
    raise BenchFailed(f"LiteLLM does not keep up with {PEER_RATES_PER_S[-1]:g} requests/s.")


def _interleaved(
    targets: Mapping[str, Target], rate_per_s: float, rounds: int, round_s: float
) -> dict[str, list[OpenLoop]]:
    for target in targets.values():
        open_loop(target.server, target.requests, rate_per_s, _WARM_UP_S)
    runs: dict[str, list[OpenLoop]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, target in targets.items():
            run = open_loop(target.server, target.requests, rate_per_s, round_s)
            if not run.kept_up:
                raise BenchFailed(f"{name} did not keep up with {rate_per_s:g} requests/s.")
            runs[name].append(run)
    return runs


def _added(runs: Mapping[str, list[OpenLoop]], floor: str) -> dict[str, object]:
    """Medians over the rounds of each percentile, and of what each server adds to ``floor`` in the same round."""
    found: dict[str, object] = {}
    for name, its_runs in runs.items():
        figures: Figures = {}
        for percent in (50, 99):
            own = [run.percentile(percent) for run in its_runs]
            below = [run.percentile(percent) for run in runs[floor]]
            figures[f"p{percent}_ms"] = statistics.median(own)
            if name != floor:
                figures[f"added_p{percent}_ms"] = statistics.median(
                    one - other for one, other in zip(own, below, strict=True)
                )
        found[name] = figures
    return found
