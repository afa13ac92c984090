"""Event-stream frames byte by byte, and the padding that hides token lengths."""

from __future__ import annotations

import json
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.service.wire.eventstream import Padding, decode_frame, encode_event, encode_exception


def test_a_frame_is_laid_out_as_specified() -> None:
    frame = encode_event("e", b"PAYLOAD", "text/plain")
    headers = (
        b"\x0b:event-type\x07\x00\x01e"
        + b"\x0d:content-type\x07\x00\x0atext/plain"
        + b"\x0d:message-type\x07\x00\x05event"
    )
    prelude = struct.pack(">II", 16 + len(headers) + 7, len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + b"PAYLOAD"
    assert frame == body + struct.pack(">I", crc32(body))


@given(st.text(min_size=1, max_size=50), st.binary(max_size=500))
def test_what_is_encoded_decodes(event_type: str, payload: bytes) -> None:
    data = encode_event(event_type, payload, "application/octet-stream") + b"next"
    frame, length = decode_frame(data)
    assert length == len(data) - 4
    assert frame.payload == payload
    assert frame.headers[":event-type"] == event_type


def test_an_exception_says_what_it_is() -> None:
    frame, _ = decode_frame(encode_exception("throttlingException", b'{"message":"slow down"}'))
    assert frame.headers == {
        ":exception-type": "throttlingException",
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    assert frame.payload == b'{"message":"slow down"}'


@pytest.mark.parametrize("position", [0, 5, 9, 20, -6, -1])
def test_a_flipped_bit_is_noticed(position: int) -> None:
    data = bytearray(encode_event("e", b'{"a":1}'))
    data[position] ^= 1
    with pytest.raises(ValueError, match="frame"):
        decode_frame(bytes(data))


@pytest.mark.parametrize("length", [0, 11, 15, 40])
def test_a_frame_cut_short_is_noticed(length: int) -> None:
    with pytest.raises(ValueError, match="frame"):
        decode_frame(encode_event("e", b'{"a":1}')[:length])


def test_padding_keeps_the_payload_and_varies_in_length() -> None:
    padding = Padding(lambda count: bytes(range(256)) * (count // 256))
    payloads = [padding.pad(b'{"a":"b}"}') for _ in range(1100)]
    assert all(json.loads(payload)["a"] == "b}" for payload in payloads)
    lengths = [len(json.loads(payload)["p"]) for payload in payloads]
    assert set(lengths) == set(range(2, 63))
    assert lengths[:61] == list(range(2, 63))


def test_an_empty_event_is_padded_to_valid_json() -> None:
    assert list(json.loads(Padding(bytes).pad(b"{}"))) == ["p"]


def test_padding_is_off_where_it_is_not_wanted() -> None:
    frame, _ = decode_frame(encode_event("e", b'{"a":1}', padding=None))
    assert frame.payload == b'{"a":1}'
