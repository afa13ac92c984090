"""Conversations to prompts, with a model's own chat template, which nobody need trust.

A chat template is a program that came with somebody's weights. It is rendered by ``template_worker``: a process kept
warm, without this process's memory or environment, that the kernel stops at a limit of processor time and memory.
A template that loops, or asks for a string of ten gigabytes, costs its caller a ``TemplateRefused`` and one worker.

The surroundings are those of ``apply_chat_template`` in transformers: ``messages``, ``tools``, ``documents``,
``add_generation_prompt``, the special tokens by name, ``raise_exception``, ``strftime_now`` (in UTC), ``tojson``,
``{% break %}``, ``{% generation %}``. What is covered, and what is not, is said in ``template_worker``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import InvariantError, ModelRefused, TemplateRefused
from outcrop.models.files import read_json_object, read_text
from outcrop.models.tokenizer import TOKENIZER_CONFIG_FILE, special_tokens

TEMPLATE_FILE = "chat_template.jinja"
EXTRA_TEMPLATES = "additional_chat_templates"
TEMPLATE_BYTES_MAX = 2**20

_WORKER = Path(__file__).with_name("template_worker.py")
_KEPT_ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
_START_S = 60.0
_REMEDY = "Mend or replace the model's chat template."


@dataclass(frozen=True, slots=True)
class TemplateLimits:
    """What one rendering may use.

    ``cpu_s`` is processor time, which a busy machine does not shorten; ``wall_s`` bounds the wait all the same. The
    text may have ``chars_base`` characters and ``chars_per_char`` more for every one that went in.
    """

    cpu_s: float = 2.0
    wall_s: float = 20.0
    chars_base: int = 2**20
    chars_per_char: int = 4


class ChatTemplate:
    """One model's chat template. Safe to share between threads.

    ``tool_source``, where given, is used instead of ``source`` when tools are. ``origin`` is named in refusals.
    """

    def __init__(
        self,
        source: str,
        bos_token: str = "",
        eos_token: str = "",
        *,
        named_tokens: Mapping[str, str] | None = None,
        tool_source: str | None = None,
        origin: str = "The chat template",
        limits: TemplateLimits = TemplateLimits(),
        clock: Clock | None = None,
    ) -> None:
        self.source = source
        self._tool_source = tool_source
        tokens = {**(named_tokens or {}), "bos_token": bos_token, "eos_token": eos_token}
        self._tokens = {name: token for name, token in tokens.items() if token}
        self._origin = origin
        self._limits = limits
        self._clock = clock or SystemClock()

    @classmethod
    def load(cls, directory: Path) -> ChatTemplate | None:
        """The template of a Hugging Face directory, or ``None`` where it has none."""
        sources, origin = _sources(directory)
        if not sources:
            return None
        if "default" not in sources:
            raise ModelRefused(f"{origin} has no template named 'default', only {sorted(sources)}.", _REMEDY)
        tokens = special_tokens(directory)
        return cls(
            sources["default"],
            bos_token=tokens.pop("bos_token", ""),
            eos_token=tokens.pop("eos_token", ""),
            named_tokens=tokens,
            tool_source=sources.get("tool_use"),
            origin=str(origin),
        )

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **variables: object,
    ) -> str:
        """The prompt for ``messages``; everything handed over must be plain JSON.

        Raises ``TemplateRefused`` where the template refuses the conversation, fails, or reaches a limit.
        """
        given = {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self._tokens,
            **variables,
        }
        source = self._tool_source if tools is not None and self._tool_source is not None else self.source
        try:
            payload = json.dumps(given, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TemplateRefused(f"The conversation is not plain JSON ({error}).", "Send only JSON values.") from error
        limits = self._limits
        chars_max = limits.chars_base + limits.chars_per_char * len(payload)
        request = {
            "source": source,
            "now": self._clock.now().isoformat(),
            "cpu_s": limits.cpu_s,
            "chars_max": chars_max,
        }
        body = f'{json.dumps(request)[:-1]}, "variables": {payload}}}'.encode("utf-8", "surrogatepass")
        try:
            answer = _POOL.ask(body, limits.wall_s, answer_bytes_max=6 * chars_max + 4096)
        except _WorkerEndedError as error:
            raise TemplateRefused(f"{self._origin} {error}.", _REMEDY) from error
        if "error" in answer:
            raise TemplateRefused(f"{self._origin} was not rendered: {answer['reason'].rstrip('.')}.", _REMEDY)
        return str(answer["text"])


def _sources(directory: Path) -> tuple[dict[str, str], Path]:
    """Templates by name, and the file that has them; the ``.jinja`` file goes before ``tokenizer_config.json``."""
    path = directory / TEMPLATE_FILE
    if path.exists():
        extra = sorted((directory / EXTRA_TEMPLATES).glob("*.jinja"))
        sources = {file.stem: read_text(file, TEMPLATE_BYTES_MAX) for file in extra}
        return sources | {"default": read_text(path, TEMPLATE_BYTES_MAX)}, path
    path = directory / TOKENIZER_CONFIG_FILE
    value = read_json_object(path).get("chat_template") if path.exists() else None
    if value is None:
        return {}, path
    if isinstance(value, str):
        return {"default": value}, path
    if isinstance(value, list) and all(_is_named(item) for item in value):
        return {item["name"]: item["template"] for item in value}, path
    raise ModelRefused(f"{path}: chat_template is neither a text nor a list of named templates.", _REMEDY)


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("template"), str)


class _WorkerEndedError(Exception):
    """A worker had to be ended, or ended; the text says why."""


class _Worker:
    """One renderer process and the socket to it. Used by one thread at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
                [sys.executable, "-P", str(_WORKER)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self._socket = ours
        try:
            self._receive(time.monotonic() + _START_S, 4096)
        except OSError as error:
            raise InvariantError(f"The template renderer does not start (exit status {self.end()}).") from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, body: bytes, wall_s: float, answer_bytes_max: int) -> dict[str, Any]:
        deadline = time.monotonic() + wall_s
        try:
            self._socket.settimeout(wall_s)
            self._socket.sendall(len(body).to_bytes(4, "big") + body)
            return self._receive(deadline, answer_bytes_max)
        except TimeoutError as error:
            self.end()
            raise _WorkerEndedError(f"was stopped after {wall_s:g} s") from error
        except OSError as error:
            status = self.end()
            raise _WorkerEndedError(_died(status)) from error

    def end(self) -> int:
        """Kill the process, if it still runs, and collect it; its exit status."""
        if self.alive:
            self._process.kill()
        self._socket.close()
        status: int = self._process.wait()
        return status

    def forget(self) -> None:
        """Let go without touching the process, which belongs to the parent that this process was forked from."""
        self._socket.close()
        self._process.returncode = 0

    def _receive(self, deadline: float, bytes_max: int) -> dict[str, Any]:
        size = int.from_bytes(self._exactly(4, deadline), "big")
        if size > bytes_max:
            raise ConnectionError("oversized answer")
        answer: dict[str, Any] = json.loads(self._exactly(size, deadline).decode("utf-8", "surrogatepass"))
        return answer

    def _exactly(self, count: int, deadline: float) -> bytes:
        buffer = bytearray()
        while len(buffer) < count:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = self._socket.recv(min(count - len(buffer), 2**20))
            if not piece:
                raise ConnectionError("end of stream")
            buffer += piece
        return bytes(buffer)


def _died(status: int) -> str:
    if status == -signal.SIGPROF:
        return "used up its processor time: it loops, or does far too much"
    return f"broke its renderer (exit status {status})"


class _Pool:
    """Warm workers, at most ``workers_max``; callers beyond that wait their turn."""

    def __init__(self, workers_max: int) -> None:
        self._workers_max = workers_max
        self._reset()
        os.register_at_fork(after_in_child=self._forked)

    def ask(self, body: bytes, wall_s: float, answer_bytes_max: int) -> dict[str, Any]:
        with self._slots:
            worker = self._take()
            answer = worker.ask(body, wall_s, answer_bytes_max)
            if answer.get("error") == "memory":
                worker.end()
            else:
                self._idle.append(worker)
            return answer

    def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.end()  # somebody else ended it while it was idle
        return _Worker()

    def _reset(self) -> None:
        self._slots = threading.BoundedSemaphore(self._workers_max)
        self._idle: list[_Worker] = []

    def _forked(self) -> None:
        for worker in self._idle:
            worker.forget()
        self._reset()


_POOL = _Pool(workers_max=max(2, min(4, os.cpu_count() or 1)))
