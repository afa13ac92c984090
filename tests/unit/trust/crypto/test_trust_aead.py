"""Sealed messages: what opens and what does not, and that the documented format is the one written."""

import hashlib
import hmac
import secrets

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.errors import InvariantError, Unsealable, UserError
from outcrop.trust.crypto import aead
from outcrop.trust.crypto.aead import OVERHEAD_BYTES, seal, unseal
from outcrop.trust.crypto.kdf import encode_context

KEY = bytes(range(32))
CONTEXT = {"account": "111122223333", "arn": "arn:aws:x"}
contexts = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=300), contexts)
def test_what_was_sealed_is_unsealed(plaintext: bytes, context: dict[str, str]):
    sealed = seal(KEY, plaintext, context)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert unseal(KEY, sealed, context) == plaintext


def test_a_change_of_any_bit_is_refused_in_the_same_words():
    sealed = seal(KEY, b"plaintext", CONTEXT)
    texts = set()
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(Unsealable) as caught:
            unseal(KEY, bytes(changed), CONTEXT)
        texts.add(str(caught.value))
    for length in range(len(sealed)):
        with pytest.raises(Unsealable) as caught:
            unseal(KEY, sealed[:length], CONTEXT)
        texts.add(str(caught.value))
    for other in (sealed + b"\0", b"\0" + sealed):
        with pytest.raises(Unsealable):
            unseal(KEY, other, CONTEXT)
    with pytest.raises(Unsealable) as caught:
        unseal(bytes(32), sealed, CONTEXT)
    texts.add(str(caught.value))
    assert len(texts) == 1


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"account": "111122223333"},
        {**CONTEXT, "more": ""},
        {**CONTEXT, "account": "444455556666"},
        {"account": "arn:aws:x", "arn": "111122223333"},
        {"Account": "111122223333", "arn": "arn:aws:x"},
    ],
)
def test_another_context_is_refused(context: dict[str, str]):
    sealed = seal(KEY, b"plaintext", CONTEXT)
    assert unseal(KEY, sealed, dict(reversed(CONTEXT.items()))) == b"plaintext"
    with pytest.raises(Unsealable):
        unseal(KEY, sealed, context)


@settings(derandomize=True, deadline=None)
@given(contexts, contexts)
def test_two_contexts_never_have_one_encoding(left: dict[str, str], right: dict[str, str]):
    assert (encode_context(left) == encode_context(right)) == (left == right)


@settings(derandomize=True, max_examples=20)
@given(st.integers(min_value=2, max_value=50))
def test_no_two_messages_share_a_key_or_nonce(count: int):
    # Each message's key comes from its salt, so fresh salts are all that uniqueness rests on.
    salts = {seal(KEY, b"same", CONTEXT)[1:33] for _ in range(count)}
    assert len(salts) == count


def test_the_ciphertext_of_equal_messages_differs_with_the_salt_only(monkeypatch: pytest.MonkeyPatch):
    # The negative twin of uniqueness: with the randomness gone, equal messages are equal.
    monkeypatch.setattr(secrets, "token_bytes", lambda size: b"\x07" * size)
    assert seal(KEY, b"same", CONTEXT) == seal(KEY, b"same", CONTEXT)


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, written down once more."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    okm = block = b""
    while len(okm) < size:
        block = hmac.digest(extracted, block + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += block
    return okm[:size]


def test_the_format_is_the_documented_one():
    sealed = seal(KEY, b"plaintext", CONTEXT)
    version, salt, commitment, body = sealed[:1], sealed[1:33], sealed[33:65], sealed[65:]

    def pairs(context: dict[str, str]) -> bytes:
        packed = len(context).to_bytes(4, "big")
        for text in (text for pair in sorted(context.items()) for text in pair):
            packed += len(text.encode()).to_bytes(4, "big") + text.encode()
        return packed

    okm = hkdf_sha256(KEY, salt, pairs({"outcrop": "message v1"}) + pairs({}), 64)
    assert version == b"\x01"
    assert commitment == okm[32:]
    assert AESGCM(okm[:32]).decrypt(bytes(12), body, sealed[:65] + pairs(CONTEXT)) == b"plaintext"


def test_a_message_sealed_in_november_2026_still_opens():
    sealed = bytes.fromhex(
        "01f211a831619d53e906dce5a5f7d41bd6b881bc3d6882f784087f98371196fd08a4775379872ccc59950dacee78e1ca5ae8"
        "37b914b66861bf747db2163b2443159a43db411eb3d15934f20cfaf8b66b272b2f8c1867ce0a9b1a5a983873b014b1d68561"
        "5c"
    )
    assert unseal(KEY, sealed, CONTEXT) == b"frozen on 2026-11-22"


def test_limits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aead, "MESSAGE_BYTES_MAX", 10)
    assert seal(KEY, b"x" * 10, {})
    with pytest.raises(UserError, match="too long"):
        seal(KEY, b"x" * 11, {})
    for size in (16, 31, 33, 64):
        with pytest.raises(InvariantError, match="32 bytes"):
            seal(bytes(size), b"x", {})


def test_the_key_is_committed_to():
    # Two keys whose GCM would both accept a ciphertext are useless here: the commitment is a hash of the key.
    sealed = seal(KEY, b"plaintext", CONTEXT)
    other = hashlib.sha256(b"other key").digest()
    okm = hkdf_sha256(other, sealed[1:33], encode_context({"outcrop": "message v1"}) + encode_context({}), 64)
    head = sealed[:33] + sealed[33:65]
    forged = head + AESGCM(okm[:32]).encrypt(bytes(12), b"plaintext", head + encode_context(CONTEXT))
    with pytest.raises(Unsealable):  # right tag under ``other``, but the commitment names KEY
        unseal(other, forged, CONTEXT)
