"""The stand-in for the engines' random number generators: reproducible streams of 32-bit words, one for each lane.

The hardware's streams are not documented: VectorE has a shift register before NeuronCore-v4 and XORWOW from there on,
with states of six words per lane. Here a state is six words as well, five that choose a stream and one that counts the
words drawn from it, and the words are those of Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2,
3", SC 2011), which NumPy can compute for all lanes at once. So a seed or a state that is set gives the same numbers
again, and a state that was read continues where it was read; they are not the numbers of a device.
"""

from __future__ import annotations

import numpy as np

from outcrop.silicon.device.dtypes import Array

WORDS = 6  # of one state
_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class Generator:
    """One engine's states: ``states`` is ``[lanes, states per lane, 6]`` of uint32. Word e comes from state e % S."""

    def __init__(self, lanes: int, per_lane: int, entropy: tuple[int, ...]) -> None:
        words = np.random.SeedSequence(entropy).generate_state(lanes * per_lane * WORDS, np.uint32)
        self.states: Array = words.reshape(lanes, per_lane, WORDS)
        self.states[..., WORDS - 1] = 0

    def seed(self, value: int) -> None:
        """Give every lane a stream of its own that depends on ``value`` only."""
        lanes, per_lane, _ = self.states.shape
        self.states[...] = 0
        self.states[..., 0] = value
        self.states[..., 1] = np.arange(lanes * per_lane, dtype=np.uint32).reshape(lanes, per_lane)

    def draw(self, first: int, lanes: int, count: int) -> Array:
        """``[lanes, count]`` words of uint32 for the lanes from ``first`` on; their states move on."""
        states = self.states[first : first + lanes]
        per_lane = states.shape[1]
        each = -(-count // per_lane)
        drawn = stream(states.reshape(-1, WORDS), each).reshape(lanes, per_lane, each)
        words: Array = drawn.transpose(0, 2, 1).reshape(lanes, -1)[:, :count]
        states[..., WORDS - 1] += (count - np.arange(per_lane, dtype=np.uint32) + np.uint32(per_lane - 1)) // np.uint32(
            per_lane
        )
        return words


def stream(states: Array, count: int) -> Array:
    """The next ``count`` words of each of ``[n, 6]`` states."""
    drawn = states[:, WORDS - 1]
    blocks = -(-count // 4) + 1  # four words each; the first may be begun already
    first: Array = drawn[:, None] >> np.uint32(2)
    index: Array = first + np.arange(blocks, dtype=np.uint32)
    index &= np.uint32(0x3FFFFFFF)
    counter = np.empty((4, len(states), blocks), np.uint64)
    counter[0] = index
    counter[1:] = states[:, 2:5].T[:, :, None]
    words = philox(counter, states[:, 0].astype(np.uint64)[:, None], states[:, 1].astype(np.uint64)[:, None])
    flat = np.moveaxis(words, 0, -1).reshape(len(states), -1)
    skip = drawn % np.uint32(4)
    if (skip == skip[0]).all():
        return flat[:, int(skip[0]) : int(skip[0]) + count]
    picked: Array = np.take_along_axis(flat, skip.astype(np.int64)[:, None] + np.arange(count), axis=1)
    return picked


def philox(counter: Array, key0: Array, key1: Array) -> Array:
    """Philox4x32-10: ``counter`` is ``[4, …]`` of uint64 below 2^32, as are the keys; ``[4, …]`` words of uint32."""
    c0, c1, c2, c3 = counter
    steps = np.arange(_ROUNDS, dtype=np.uint64).reshape((-1,) + (1,) * key0.ndim)
    keys = zip((key0 + steps * _KEY_STEPS[0]) & _LOW, (key1 + steps * _KEY_STEPS[1]) & _LOW, strict=True)
    for k0, k1 in keys:
        one, two = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = two >> _HALF, one >> _HALF
        c0 ^= c1
        c0 ^= k0
        c2 ^= c3
        c2 ^= k1
        two &= _LOW
        one &= _LOW
        c1, c3 = two, one
    words = np.empty((4, *c0.shape), np.uint32)
    words[0], words[1], words[2], words[3] = c0, c1, c2, c3
    return words


def uniform(words: Array) -> Array:
    """float32 in [0, 1), from the upper 24 bits of each word."""
    values: Array = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return values
