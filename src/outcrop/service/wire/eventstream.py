"""Event-stream frames (``application/vnd.amazon.eventstream``): encode, decode, pad.

Frame: total length u32, header length u32, CRC-32 of those 8 bytes, headers, payload, CRC-32 of all before.
Header: name length u8, name, type u8, value (for strings: length u16, bytes). Source: the AWS SDK event-stream
specification. Headers go out in the order that the real service uses: type, content type, message type.
Not covered: signed frames of duplex streams; header types other than strings are not decoded.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
FRAME_BYTES_MAX = 16 * 1024 * 1024

_STRING = 7
_PRELUDE = struct.Struct(">II")
_U32 = struct.Struct(">I")
_OVERHEAD_BYTES = 16
_FILLER = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_FILLER_BYTES_MIN = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    headers: dict[str, str]
    payload: bytes


class Padding:
    """Adds the member ``p``, filler of random length, to event payloads so that frame sizes do not tell token lengths.

    2 to 62 characters of a fixed alphabet, as the real service sends. This blurs the length of a single token; it does
    not hide the number of events or their timing. ``random_bytes`` is the randomness port.
    """

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._lengths = iter(b"")

    def pad(self, payload: bytes) -> bytes:
        """``payload``, a JSON object, with the member ``p`` appended."""
        draw = next(self._lengths, None)
        if draw is None:
            self._lengths = iter(self._random_bytes(1024))
            draw = next(self._lengths)
        filler = _FILLER[: _FILLER_BYTES_MIN + draw % (len(_FILLER) - _FILLER_BYTES_MIN + 1)]
        separator = b',"p":"' if len(payload) > 2 else b'"p":"'
        return payload[:-1] + separator + filler + b'"}'


_PADDING = Padding()


def encode_event(
    event_type: str, payload: bytes, content_type: str = "application/json", padding: Padding | None = _PADDING
) -> bytes:
    """A frame that carries one event, ``event_type`` being the member of the stream's union.

    A JSON payload is padded, unless ``padding`` is None; a payload of any other type goes out as it is.
    """
    if padding is not None and content_type == "application/json":
        payload = padding.pad(payload)
    headers = _headers((":event-type", event_type), (":content-type", content_type), (":message-type", "event"))
    return _frame(headers, payload)


def encode_exception(exception_type: str, payload: bytes, content_type: str = "application/json") -> bytes:
    """A frame that ends a stream with a modelled exception, ``exception_type`` being the member of the union."""
    headers = _headers(
        (":exception-type", exception_type), (":content-type", content_type), (":message-type", "exception")
    )
    return _frame(headers, payload)


def decode_frame(data: bytes) -> tuple[Frame, int]:
    """The frame at the start of ``data`` and its length in bytes; ``ValueError`` where it is damaged or cut short."""
    if len(data) < _OVERHEAD_BYTES:
        raise ValueError("a frame has at least 16 bytes")
    total, headers_length = _PRELUDE.unpack_from(data)
    if total > FRAME_BYTES_MAX or total > len(data) or headers_length > total - _OVERHEAD_BYTES:
        raise ValueError("the frame's lengths do not fit its data")
    if _U32.unpack_from(data, 8)[0] != crc32(data[:8]) or _U32.unpack_from(data, total - 4)[0] != crc32(
        data[: total - 4]
    ):
        raise ValueError("a checksum of the frame is wrong")
    return Frame(_decode_headers(data[12 : 12 + headers_length]), data[12 + headers_length : total - 4]), total


def _decode_headers(data: bytes) -> dict[str, str]:
    headers = {}
    position = 0
    while position < len(data):
        name_end = position + 1 + data[position]
        kind, length = struct.unpack_from(">BH", data, name_end)
        if kind != _STRING:
            raise ValueError(f"header type {kind} is not a string")
        value_end = name_end + 3 + length
        headers[data[position + 1 : name_end].decode()] = data[name_end + 3 : value_end].decode()
        position = value_end
    return headers


@lru_cache(maxsize=256)
def _headers(*headers: tuple[str, str]) -> bytes:
    pieces = []
    for name, value in headers:
        encoded = value.encode()
        pieces.append(
            struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _STRING, len(encoded)) + encoded
        )
    return b"".join(pieces)


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = _PRELUDE.pack(_OVERHEAD_BYTES + len(headers) + len(payload), len(headers))
    message = b"".join((prelude, _U32.pack(crc32(prelude)), headers, payload))
    return message + _U32.pack(crc32(message))
