"""Stop sequences, found wherever they lie: across tokens, overlapping each other, thousands at once.

The text is walked one character at a time through the automaton of Aho & Corasick (1975), whose states are made
only when the text reaches them. Building costs one sort, a step costs amortised O(1), and thousands of long stop
sequences take no more memory than their own text. No torch here: the null engine uses this file too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

from outcrop.base.errors import UserError
from outcrop.inference.base import TextDelta, TokenLogprob


class StopMatcher:
    """Finds the stop sequence that is complete first; of several complete at once, the longest."""

    def __init__(self, stop_sequences: Sequence[str]) -> None:
        if "" in stop_sequences:
            raise UserError("A stop sequence is empty.", "Leave it out, or give it at least one character.")
        self.stops = sorted(set(stop_sequences))
        self._root = _State(0, len(self.stops), 0)
        self._at = self._root

    @property
    def held(self) -> int:
        """How many of the last characters might be the beginning of a stop sequence."""
        return self._at.depth

    def feed(self, text: str) -> tuple[int, str] | None:
        """Walk over ``text``; where a stop sequence becomes complete, how much was walked over, and which it is."""
        if not self.stops:
            return None
        for walked, character in enumerate(text, start=1):
            self._at = self._at.after.get(character) or self._learn(character)
            if self._at.match:
                return walked, self._at.match
        return None

    def _learn(self, character: str) -> _State:
        """The state after ``character``: the longest end of the text that begins a stop sequence."""
        shorter = [self._at]  # ever shorter ends of the text, down to one that has met the character before
        while character not in shorter[-1].after and shorter[-1].fail is not None:
            shorter.append(shorter[-1].fail)
        target = shorter.pop().after[character] if character in shorter[-1].after else self._root
        for state in reversed(shorter):
            target = state.after[character] = self._extend(state, character, target) or target
        return target

    def _extend(self, state: _State, character: str, fail: _State) -> _State | None:
        """The state one character deeper, where some stop sequence goes on like that."""
        depth = state.depth

        def continuation(stop: str) -> str:
            return stop[depth : depth + 1]

        low = bisect_left(self.stops, character, state.low, state.high, key=continuation)
        high = bisect_right(self.stops, character, low, state.high, key=continuation)
        if low == high:
            return None
        child = _State(low, high, depth + 1, fail)
        child.match = self.stops[low] if len(self.stops[low]) == child.depth else fail.match
        return child


class _State:
    """The prefix, ``depth`` characters long, that the sorted stop sequences ``low .. high - 1`` share.

    ``fail`` is the state of the longest proper end of that prefix that has one; ``match`` the stop sequence, if any,
    that is complete here.
    """

    __slots__ = ("after", "depth", "fail", "high", "low", "match")

    def __init__(self, low: int, high: int, depth: int, fail: _State | None = None) -> None:
        self.low = low
        self.high = high
        self.depth = depth
        self.fail = fail
        self.match = ""
        self.after: dict[str, _State] = {}


class TextStream:
    """Turns the text of token after token into deltas that are final.

    A token is settled by the delta that emits the last of its text; one that only adds to a stop sequence never is.
    """

    def __init__(self, stop_sequences: Sequence[str]) -> None:
        self.stopped: str | None = None
        """The stop sequence that ended the text."""
        self._matcher = StopMatcher(stop_sequences)
        self._emitted = 0  # characters
        self._held = ""
        self._pending: deque[tuple[int, int, TokenLogprob | None]] = deque()  # from and to which character

    def feed(self, text: str, logprob: TokenLogprob | None = None) -> TextDelta | None:
        """Add one token's text; what can be emitted now, if anything. Nothing may follow once ``stopped`` is set."""
        if text and not self._pending and not self._matcher.stops:  # nearly every token of nearly every request
            self._emitted += len(text)
            return TextDelta(text, 1, () if logprob is None else (logprob,))
        start = self._emitted + len(self._held)
        self._pending.append((start, start + len(text), logprob))
        self._held += text
        found = self._matcher.feed(text)
        if found is None:
            return self._emit(len(self._held) - self._matcher.held)
        walked, self.stopped = found
        return self._emit(start + walked - len(self.stopped) - self._emitted)

    def finish(self, text: str = "") -> TextDelta | None:
        """Add ``text`` that belongs to the tokens so far, and release all that was held back."""
        self._held += text
        return self._emit(len(self._held), last=True)

    def _emit(self, count: int, last: bool = False) -> TextDelta | None:
        if not count and not last:
            return None
        text, self._held = self._held[:count], self._held[count:]
        self._emitted += count
        settled = []
        while self._pending and (last or self._settles(*self._pending[0][:2])):
            settled.append(self._pending.popleft()[2])
        logprobs = tuple(logprob for logprob in settled if logprob is not None)
        return TextDelta(text, len(settled), logprobs) if text or logprobs else None

    def _settles(self, start: int, end: int) -> bool:
        return start < self._emitted if self.stopped else end <= self._emitted
