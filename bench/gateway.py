"""What the gateway adds to a request: latency, processor time per streamed event, memory per idle stream; and a peer.

A service as `outcrop up` makes it, with null engines that answer from a script, runs on one core; a client on another
core sends real requests over real sockets, each signed by boto3. What the same client measures against a bare ASGI
application on the same server library and the same core is taken off. LiteLLM, pinned and in an environment of its
own, is measured in the same run in front of the same bare application.

Included: HTTP/1.1, SigV4 verification, decoding and checks, the chat template (rendered in its own process), the
tokenizer, the engine contract, encoding. Not included: TLS, HTTP/2, networks, computing. LiteLLM gets no TLS either.
Outcrop has its engine in the same process, where a proxy must make a second HTTP call. That is a difference of design
and counts; to show how much it is, "Outcrop as a proxy" has an engine that makes the same call to the same upstream.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gateway_rig import measure, peer
from gateway_rig.process import BENCH, BenchFailed, Cores, pinned, running
from gateway_rig.report import Result, context, lines

PARTS = ("latency", "streams", "idle", "peer")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    parts = [part for part in PARTS if part in (options.only or PARTS)]
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        result = run(parts, options.rounds, options.round_s, options.realtime)
    except BenchFailed as failure:
        print(f"gateway: {failure}", file=sys.stderr)
        return 1
    out = options.out or BENCH / "results" / f"{time.strftime('%Y-%m-%d', time.gmtime())}-gateway.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if options.json else "\n".join([*lines(result), f"written to {out}"]))
    return 1 if options.check and not all(verdict["met"] for verdict in result["targets"]) else 0


def run(parts: Sequence[str], rounds: int, round_s: float, realtime: bool) -> Result:
    """Start what is needed, measure ``parts``, and stop it all again."""
    cores = Cores.choose()
    started_s, load_before = time.monotonic(), os.getloadavg()
    found: dict[str, object] = {}
    peer_missing = ""
    if "peer" in parts:
        try:
            peer.install()
        except BenchFailed as failure:
            peer_missing = str(failure)
    with (
        tempfile.TemporaryDirectory(prefix="outcrop-bench-") as scratch,
        running("gateway_rig.upstream", cores.server) as upstream,
        running("gateway_rig.upstream", cores.client) as behind,
        running(
            *("gateway_rig.service", cores.server),
            *("--data", f"{scratch}/data", "--upstream-port", str(behind.port)),
        ) as service,
        pinned(cores.client),
    ):
        if "latency" in parts:
            found["latency"] = measure.added_latency(service, upstream, rounds, round_s)
        if "streams" in parts:
            found["streams"] = measure.streaming_cost(service, upstream, min(rounds, 3))
        if "idle" in parts:
            found["idle"] = measure.idle_streams(service)
        if peer_missing:
            found["peer"] = {"missing": peer_missing}
        elif "peer" in parts:
            with peer.running(cores.server, behind, Path(scratch)) as proxy:
                found["peer"] = measure.against_peer(service, upstream, proxy, rounds, min(round_s, 2.0))
    return context(found, cores, load_before, realtime, time.monotonic() - started_s)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="measure only this; repeatable")
    parser.add_argument(
        "--no-peer", dest="only", action="store_const", const=list(PARTS[:-1]), help="leave LiteLLM out"
    )
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument("--round-s", type=float, default=3.0, help="seconds per round (default: %(default)s)")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="run servers and client with real-time priority (needs root), for a machine that others use",
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed or could not be measured")
    parser.add_argument("--json", action="store_true", help="print the result file instead of text")
    parser.add_argument("--out", type=Path, help="the result file (default: bench/results/DATE-gateway.json)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
