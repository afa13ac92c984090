"""Figures against targets: the result file, and the same for people."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gateway_rig import engines, peer
from gateway_rig.process import ROOT, Cores

Result = dict[str, Any]

ADDED_P50_MS = 1.0
ADDED_P99_MS = 5.0
EVENT_US = 15.0
IDLE_BYTES = 500e6
PEER_RATIO = 5.0

BUSY_LOAD = 1.0

PACKAGES = ("outcrop", "uvicorn", "zttp", "uvloop", "msgspec", "tokenizers", "jinja2", "boto3", "torch")


def context(
    found: Mapping[str, Any], cores: Cores, load_before: Sequence[float], realtime: bool, took_s: float
) -> Result:
    """The result file: where, what and when, the figures, and how they stand to the targets."""
    return {
        "bench": "gateway",
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "took_s": round(took_s),
        "commit": _git("rev-parse", "--short=12", "HEAD")
        + ("+changes" if _git("status", "--porcelain", "src") else ""),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "server_core": cores.server,
            "client_core": cores.client,
            "kernel": platform.release(),
            "load_before": round(load_before[0], 2),
            "load_after": round(os.getloadavg()[0], 2),
            "realtime_priority": realtime,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            **({"litellm": peer.version()} if "peer" in found else {}),
        },
        "figures": _rounded(dict(found)),
        "targets": _verdicts(found),
    }


def lines(result: Result) -> list[str]:
    """The result for people."""
    machine = result["machine"]
    load = f"load {machine['load_before']} before and {machine['load_after']} after"
    priority = ", real-time priority" if machine["realtime_priority"] else ""
    busy = machine["load_before"] > BUSY_LOAD and not machine["realtime_priority"]
    text = [
        f"gateway bench, {result['when']}, commit {result['commit']}, {result['took_s']} s",
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, {load}{priority}",
        *(["The machine was busy with other things: --realtime keeps them off the two cores."] if busy else []),
        "",
    ]
    figures = result["figures"]
    if latency := figures.get("latency"):
        text += [*_table(latency), ""]
    if streams := figures.get("streams"):
        text += [
            f"streams of {engines.EVENTS} events, processor time per event and per request before its events, us:",
            *(
                f"  {label:<22} Outcrop {streams[f'{kind}_event_us']:5.1f} {streams[f'{kind}_request_us']:5.0f}   "
                f"bare {streams[f'{kind}_bare_event_us']:5.1f} {streams[f'{kind}_bare_request_us']:5.0f}"
                for kind, label in (("burst", "as fast as they come"), ("paced", "50 a second on each"))
            ),
            "",
        ]
    if idle := figures.get("idle"):
        grown = (idle["rss_bytes"] - idle["rss_before_bytes"]) / idle["streams"]
        text += [
            f"{idle['streams']} idle streams: {idle['rss_bytes'] / 1e6:.0f} MB resident in all (PyTorch included), "
            f"{grown / 1e3:.0f} kB for each stream",
            "",
        ]
    against = figures.get("peer", {})
    if "missing" in against:
        text += [f"LiteLLM: not measured. {against['missing']}", ""]
    else:
        for figure in against.values():
            ratios = " and ".join(f"{_ratio(figure, ours):.1f}" for ours in ("outcrop", "outcrop_as_proxy"))
            text += [
                *_table(figure),
                f"  LiteLLM adds {ratios} times what Outcrop and Outcrop as a proxy add (p50)",
                "",
            ]
    for verdict in result["targets"]:
        seen = "not measured" if verdict["value"] is None else f"{verdict['value']:.3g}"
        text.append(
            f"{'met   ' if verdict['met'] else 'MISSED'} {verdict['name']}: {seen} (target {verdict['target']})"
        )
    return text


def _table(figure: Mapping[str, Any]) -> list[str]:
    names = {
        "upstream": "bare upstream",
        "outcrop": "Outcrop",
        "outcrop_as_proxy": "Outcrop as a proxy",
        "litellm": "LiteLLM",
    }
    text = [
        f"{figure['rate_per_s']:g} requests/s for {figure['rounds']} x {figure['round_s']:g} s, milliseconds "
        "(medians of the rounds):"
    ]
    for name, label in names.items():
        if name in figure:
            row = figure[name]
            added = f"   added {row['added_p50_ms']:7.3f} {row['added_p99_ms']:8.3f}" if "added_p50_ms" in row else ""
            text.append(f"  {label:<20} p50 {row['p50_ms']:7.3f}   p99 {row['p99_ms']:8.3f}{added}")
    return text


def _verdicts(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    verdicts = []
    if latency := found.get("latency"):
        ours = latency["outcrop"]
        verdicts.append(_at_most("added p50 at 500 requests/s, ms", ours["added_p50_ms"], ADDED_P50_MS))
        verdicts.append(_at_most("added p99 at 500 requests/s, ms", ours["added_p99_ms"], ADDED_P99_MS))
    if streams := found.get("streams"):
        verdicts.append(_at_most("processor time per streamed event, us", streams["burst_event_us"], EVENT_US))
    if idle := found.get("idle"):
        verdicts.append(_at_most("1,000 idle streams, MB resident", idle["rss_bytes"] / 1e6, IDLE_BYTES / 1e6))
    if against := found.get("peer"):
        ratio = None if "missing" in against else min(_ratio(figure, "outcrop") for figure in against.values())
        met = ratio is not None and ratio >= PEER_RATIO
        name = "LiteLLM's added p50 over Outcrop's, at the less favourable rate"
        verdicts.append({"name": name, "value": ratio, "target": f">= {PEER_RATIO:g}", "met": met})
    return verdicts


def _ratio(figure: Mapping[str, Any], ours: str) -> float:
    ratio: float = figure["litellm"]["added_p50_ms"] / figure[ours]["added_p50_ms"]
    return ratio


def _at_most(name: str, value: float, limit: float) -> dict[str, Any]:
    return {"name": name, "value": value, "target": f"<= {limit:g}", "met": value <= limit}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    return {key: _rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
