"""Key derivation against the published vectors."""

import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.errors import InvariantError, UserError
from outcrop.trust.crypto.kdf import StretchParameters, derive, encode_context, stretch_passphrase
from outcrop.trust.crypto.secret import Secret


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    okm = block = b""
    while len(okm) < size:
        block = hmac.digest(extracted, block + info + bytes([len(okm) // 32 + 1]), "sha256")
        okm += block
    return okm[:size]


# RFC 5869, appendix A, test cases 1 to 3: key, salt, info, output.
RFC_5869 = [
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("key", "salt", "info", "output"), RFC_5869)
def test_the_reference_of_these_tests_is_hkdf(key: bytes, salt: bytes, info: bytes, output: str):
    assert hkdf_sha256(key, salt, info, len(output) // 2).hex() == output


@settings(derandomize=True, deadline=None)
@given(st.binary(min_size=16, max_size=64), st.binary(max_size=64), st.integers(min_value=1, max_value=200))
def test_derive_is_hkdf_with_purpose_and_context_as_info(key: bytes, salt: bytes, size: int):
    info = encode_context({"outcrop": "purpose"}) + encode_context({"a": "b"})
    assert derive(key, "purpose", {"a": "b"}, salt=salt, size_bytes=size) == hkdf_sha256(key, salt, info, size)


def test_purposes_and_contexts_separate():
    key = bytes(32)
    derived = {
        derive(key, "a"),
        derive(key, "b"),
        derive(key, "a", {"x": ""}),
        derive(key, "a", {"": "x"}),
        derive(key, "a", salt=b"1"),
        derive(bytes(31) + b"\1", "a"),
    }
    assert len(derived) == 6
    assert derive(Secret(key), "a") == derive(key, "a", {})
    with pytest.raises(InvariantError, match="128 bits"):
        derive(b"short", "a")


def test_scrypt_gives_the_vector_of_rfc_7914():
    # Section 12, third vector (N=16384, r=8, p=1); our key is its first 32 bytes.
    key = stretch_passphrase(Secret("pleaseletmein"), StretchParameters(b"SodiumChloride", 16384, 8, 1))
    assert key.reveal().hex() == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"


def test_every_parameter_and_the_passphrase_count():
    base = StretchParameters(b"12345678", 2**14, 8, 1)
    keys = [
        stretch_passphrase(Secret(passphrase), parameters).reveal()
        for passphrase, parameters in (
            ("p", base),
            ("q", base),
            ("p", StretchParameters(b"12345679", 2**14, 8, 1)),
            ("p", StretchParameters(b"12345678", 2**15, 8, 1)),
            ("p", StretchParameters(b"12345678", 2**14, 4, 1)),
            ("p", StretchParameters(b"12345678", 2**14, 8, 2)),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert StretchParameters.new().salt != StretchParameters.new().salt


@pytest.mark.parametrize(
    ("salt", "n", "r", "p"),
    [
        (b"1234567", 2**14, 8, 1),  # salt too short
        (bytes(65), 2**14, 8, 1),
        (bytes(16), 2**13, 8, 1),  # too cheap
        (bytes(16), 2**14 + 1, 8, 1),  # no power of two
        (bytes(16), 2**21, 8, 1),  # 2 GiB
        (bytes(16), 2**14, 0, 1),
        (bytes(16), 2**14, 8, 17),
        (bytes(16), 2**14, 8, 0),
        (bytes(16), -(2**14), 8, 1),
    ],
)
def test_parameters_of_a_changed_file_are_bounded(salt: bytes, n: int, r: int, p: int):
    with pytest.raises(UserError, match="out of bounds"):
        StretchParameters(salt, n, r, p)
