"""Sockets, TLS and the life of the process: one application on a plain and a TLS port of the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import uvicorn

from outcrop.base.errors import UserError
from outcrop.service.app import App
from outcrop.service.connections import IDLE_TIMEOUT_S, GuardedProtocol
from outcrop.trust.crypto.ca import ServerTls

log = logging.getLogger("outcrop.service")

BACKLOG = 2048
SHUTDOWN_GRACE_S = 10
HALT_GRACE_S = 2
"""From the halt, which tells clients in words that the service stops, to the cutting of what is still connected."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a running service can be reached."""

    http_url: str
    https_url: str


class _Server(uvicorn.Server):
    """A server whose signals are the process's business: two of them share one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A bound socket, or a ``UserError`` that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns Nagle's delay off only where it is: 40 ms an answer otherwise.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise UserError(
            f"Cannot listen on {host} port {port}: {error.strerror or error}.",
            "Stop what uses it, or choose another with --port and --https-port (0 takes a free one).",
        ) from error
    sock.setblocking(False)
    return sock


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT or SIGTERM sets; for the main thread."""
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    return stop


def _url(scheme: str, host: str, sock: socket.socket) -> str:
    port = sock.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"


async def serve(
    app: App,
    *,
    host: str,
    plain: socket.socket | None,
    secure: socket.socket,
    tls: ServerTls,
    ready: Callable[[Listening], Awaitable[None]],
    stop: asyncio.Event,
    halt: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until ``stop`` is set, without plain HTTP where ``plain`` is ``None``.

    Requests that run then get ``SHUTDOWN_GRACE_S`` to end, before ``halt`` is to end them.
    """
    pairs = [(_server(app, tls), secure)] if plain is None else [(_server(app), plain), (_server(app, tls), secure)]
    servers = [server for server, _ in pairs]
    running = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in pairs]
    stopping = asyncio.create_task(stop.wait())
    try:
        while not all(server.started for server in servers):
            if any(task.done() for task in running):
                break
            await asyncio.sleep(0.005)
        else:
            plain_url = "" if plain is None else _url("http", host, plain)
            await ready(Listening(plain_url, _url("https", host, secure)))
            gc.collect()
            gc.freeze()  # what start-up made stays: walking it again and again would stall requests
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        for server in servers:
            server.should_exit = True
        ending = asyncio.gather(*running)
        await asyncio.wait([ending], timeout=SHUTDOWN_GRACE_S)
        if halt is not None and not ending.done():
            await halt()
        await ending


def _server(app: App, tls: ServerTls | None = None) -> _Server:
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_TIMEOUT_S),
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S + HALT_GRACE_S,
        backlog=BACKLOG,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    return _Server(config)
