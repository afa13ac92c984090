"""Conversations to prompts, with a model's own chat template, which nobody need trust.

A chat template is a program that came with somebody's weights. It is rendered by ``template_worker``: a process kept
warm, without this process's memory or environment, that the kernel stops at a limit of processor time and memory.
A template that loops, or asks for a string of ten gigabytes, costs its caller a ``TemplateRefused`` and one worker.

The surroundings are those of ``apply_chat_template`` in transformers: ``messages``, ``tools``, ``documents``,
``add_generation_prompt``, the special tokens by name, ``raise_exception``, ``strftime_now`` (in UTC), ``tojson``,
``{% break %}``, ``{% generation %}``. What is covered, and what is not, is said in ``template_worker``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
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
_PIECE_BYTES = 2**16  # a buffer of a megabyte would be mapped and unmapped by the kernel for every answer
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
        question = self._question(messages, add_generation_prompt, tools, variables)
        with self._refusing():
            return self._text(_POOL.ask(question))

    async def render_async(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **variables: object,
    ) -> str:
        """As ``render``, and the event loop goes on meanwhile. Cancelling it ends the renderer."""
        question = self._question(messages, add_generation_prompt, tools, variables)
        with self._refusing():
            return self._text(await _POOL.ask_async(question))

    def _question(
        self,
        messages: Sequence[Mapping[str, object]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, object]] | None,
        variables: Mapping[str, object],
    ) -> _Question:
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
            payload = json.dumps(given)
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
        body = f'{json.dumps(request)[:-1]}, "variables": {payload}}}'.encode()
        return _Question(len(body).to_bytes(4, "big") + body, limits.wall_s, 12 * chars_max + 4096)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except _WorkerEndedError as error:
            raise TemplateRefused(f"{self._origin} {error}.", _REMEDY) from error

    def _text(self, answer: Mapping[str, Any]) -> str:
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


@dataclass(frozen=True, slots=True)
class _Question:
    """One message to a worker, with its length before it, and how long and how large the answer may be."""

    message: bytes
    wall_s: float
    answer_bytes_max: int


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

    def ask(self, question: _Question) -> dict[str, Any]:
        deadline = time.monotonic() + question.wall_s
        with self._ending(question):
            self._socket.settimeout(question.wall_s)
            self._socket.sendall(question.message)
            return self._receive(deadline, question.answer_bytes_max)

    async def ask_async(self, question: _Question) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        with self._ending(question):
            self._socket.setblocking(False)
            async with asyncio.timeout(question.wall_s):
                await loop.sock_sendall(self._socket, question.message)
                buffer = bytearray()
                while len(buffer) < 4 or len(buffer) - 4 < (size := _size(buffer, question.answer_bytes_max)):
                    piece = await loop.sock_recv(self._socket, _PIECE_BYTES)
                    if not piece:
                        raise ConnectionError("end of stream")
                    buffer += piece
                answer: dict[str, Any] = json.loads(buffer[4 : 4 + size])
                return answer

    @contextlib.contextmanager
    def _ending(self, question: _Question) -> Iterator[None]:
        """End the process where the block fails: what it would answer next is nobody's."""
        try:
            yield
        except TimeoutError as error:
            self.end()
            raise _WorkerEndedError(f"was stopped after {question.wall_s:g} s") from error
        except OSError as error:
            status = self.end()
            raise _WorkerEndedError(_died(status)) from error
        except asyncio.CancelledError:
            self.end()
            raise

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
        size = _size(self._exactly(4, deadline), bytes_max)
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


def _size(prefix: bytes | bytearray, bytes_max: int) -> int:
    """The length that an answer says it has; ``ConnectionError`` where that is too much."""
    size = int.from_bytes(prefix[:4], "big")
    if size > bytes_max:
        raise ConnectionError("oversized answer")
    return size


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

    def ask(self, question: _Question) -> dict[str, Any]:
        with self._slots:
            worker = self._take() or _Worker()
            answer = worker.ask(question)
            self._give_back(worker, answer)
            return answer

    async def ask_async(self, question: _Question) -> dict[str, Any]:
        """As ``ask``, in a thread only where there is a wait for a worker to be free, or to start."""
        if not self._slots.acquire(blocking=False):
            return await asyncio.to_thread(self.ask, question)
        try:
            worker = self._take()
            if worker is not None:
                answer = await worker.ask_async(question)
                self._give_back(worker, answer)
                return answer
        finally:
            self._slots.release()
        return await asyncio.to_thread(self.ask, question)

    def _take(self) -> _Worker | None:
        """A warm worker, if one is idle."""
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.end()  # somebody else ended it while it was idle
        return None

    def _give_back(self, worker: _Worker, answer: Mapping[str, Any]) -> None:
        if answer.get("error") == "memory":
            worker.end()
        else:
            self._idle.append(worker)

    def _reset(self) -> None:
        self._slots = threading.BoundedSemaphore(self._workers_max)
        self._idle: list[_Worker] = []

    def _forked(self) -> None:
        for worker in self._idle:
            worker.forget()
        self._reset()


_POOL = _Pool(workers_max=max(2, min(4, os.cpu_count() or 1)))
