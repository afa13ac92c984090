"""Renders chat templates in a process of its own, which the kernel limits and anyone may kill.

``outcrop.models.chat`` starts this file as a script; it imports nothing of Outcrop. Standard input is a socket. Each
message on it is four bytes of length, big-endian, and that many bytes of JSON in UTF-8, lone surrogates let through.
A request has ``source``, ``variables``, ``now`` (ISO 8601), ``cpu_s`` and ``chars_max``; the answer has ``text``, or
``error`` with ``reason``.

Covered: processor time (the kernel ends the process with SIGPROF, whatever C code it is in), memory (RLIMIT_AS), files
(none can be grown or opened beyond a handful), further processes (none), output size. Jinja's immutable sandbox stands
before all that.
Not covered: a hole in Jinja's sandbox would run code as this user, without the parent's environment or memory but
with its files and network. RLIMIT_AS is not enforced on macOS, RLIMIT_NPROC not for root.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_MEMORY_BYTES_MAX = 2**29
_OPEN_FILES_MAX = 16
_COMPILED_MAX = 16


class GenerationTag(Extension):
    """``{% generation %}``...``{% endgeneration %}``, which marks the assistant's text for training; plain here."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own spelling

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class SafeNamespace(Namespace):
    """``namespace()`` without names that start with an underscore, which lead into Python's insides."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args  # so that a template may name an attribute ``self``
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _refuse_underscore(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


class SafeDict:
    """``dict(...)`` without the class, whose attributes templates have no business with."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class Renderer:
    """The environment that Hugging Face chat templates are written for, and what was compiled lately."""

    def __init__(self) -> None:
        self._now = datetime.now(UTC)
        self._compiled: OrderedDict[str, jinja2.Template] = OrderedDict()
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = self._strftime_now
        environment.globals["dict"] = SafeDict()
        environment.globals["namespace"] = SafeNamespace
        self._environment = environment

    def render(self, source: str, variables: dict[str, Any], now: datetime, chars_max: int) -> str:
        """The text; ``ValueError`` beyond ``chars_max``."""
        self._now = now
        pieces: list[str] = []
        length = 0
        for piece in self._template(source).generate(variables):
            length += len(piece)
            if length > chars_max:
                raise ValueError(f"it produced more than {chars_max} characters")
            pieces.append(piece)
        return "".join(pieces)

    def _strftime_now(self, format: str) -> str:
        return self._now.strftime(format)

    def _template(self, source: str) -> jinja2.Template:
        if source not in self._compiled:
            self._compiled[source] = self._environment.from_string(source)
            if len(self._compiled) > _COMPILED_MAX:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(source)
        return self._compiled[source]


def serve(channel: socket.socket) -> None:
    """Answer requests until the other end hangs up."""
    renderer = Renderer()
    write(channel, {"ready": True})
    while (request := read(channel)) is not None:
        signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])
        try:
            now = datetime.fromisoformat(request["now"])
            answer = {"text": renderer.render(request["source"], request["variables"], now, request["chars_max"])}
        except MemoryError:
            answer = {"error": "memory", "reason": "it needed too much memory"}
        except jinja2.TemplateSyntaxError as error:
            answer = {"error": "syntax", "reason": f"line {error.lineno}: {error.message}"}
        except jinja2.TemplateError as error:
            answer = {"error": "template", "reason": str(error.message)[:1000]}
        except Exception as error:  # noqa: BLE001 - a template may raise anything Python can
            answer = {"error": "template", "reason": f"{type(error).__name__}: {error}"[:1000]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        write(channel, answer)
        if answer.get("error") == "memory":
            return  # what is left of the address space may be too little for the next one


def read(channel: socket.socket) -> dict[str, Any] | None:
    """The next message, or ``None`` at the end."""
    prefix = _exactly(channel, 4)
    body = None if prefix is None else _exactly(channel, int.from_bytes(prefix, "big"))
    if body is None:
        return None
    message: dict[str, Any] = json.loads(body.decode("utf-8", "surrogatepass"))
    return message


def write(channel: socket.socket, message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    channel.sendall(len(body).to_bytes(4, "big") + body)


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    buffer = bytearray()
    while len(buffer) < count:
        piece = channel.recv(min(count - len(buffer), 2**20))
        if not piece:
            return None
        buffer += piece
    return bytes(buffer)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as templates expect it: no HTML escapes, other alphabets as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES_MAX, _OPEN_FILES_MAX))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends this too


if __name__ == "__main__":
    _limit()
    serve(socket.socket(fileno=sys.stdin.fileno()))
