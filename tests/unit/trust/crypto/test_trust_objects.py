"""Sealed objects: any slice reads as written, and nothing that was changed reads at all."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outcrop.base.errors import InvariantError, NotFound, Unsealable
from outcrop.trust.crypto import objects
from outcrop.trust.crypto.hashes import hmac_sha256
from outcrop.trust.crypto.kdf import derive, encode_context
from outcrop.trust.crypto.keystores import DataKey, MemoryKeyStore
from outcrop.trust.crypto.objects import (
    SealedReader,
    SealedWriter,
    chunk_bits_for,
    open_sealed,
    seal_file,
    unseal_file,
)
from outcrop.trust.crypto.secret import Secret

CHUNK = 1 << 16
TAG = 16
CONTEXT = {"arn": "arn:aws:bedrock:us-east-1:111122223333:custom-model/a", "account": "111122223333", "version": "1"}


@pytest.fixture(scope="module")
def keys() -> MemoryKeyStore:
    store = MemoryKeyStore()
    store.create("tenant-a")
    store.create("tenant-b")
    return store


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def sealed(directory: Path, keys: MemoryKeyStore, data: bytes, name: str = "tenant-a", **changes: str) -> Path:
    """``data`` sealed in ``directory`` with chunks of 64 KiB."""
    plain, path = directory / "plain", directory / f"sealed-{len(list(directory.iterdir()))}"
    plain.write_bytes(data)
    seal_file(plain, path, keys, name, {**CONTEXT, **changes})
    return path


def read_all(path: Path, keys: MemoryKeyStore, **changes: str) -> bytes:
    with open_sealed(path, keys.unwrap, {**CONTEXT, **changes}) as reader:
        return reader.read(0, reader.size)


def header_bytes(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[8:12], "big")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 77])
def test_sizes_around_the_edges_of_chunks(tmp_path: Path, keys: MemoryKeyStore, size: int):
    data = content(size)
    path = sealed(tmp_path, keys, data)
    assert read_all(path, keys) == data
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:
        assert reader.size == size
        assert reader.key_name == "tenant-a"
        assert b"".join(reader.chunks()) == data
    assert path.stat().st_size == header_bytes(path) + size + TAG * max(1, -(-size // CHUNK))
    assert path.stat().st_mode & 0o777 == 0o600
    unseal_file(path, tmp_path / "again", keys.unwrap, CONTEXT)
    assert (tmp_path / "again").read_bytes() == data


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, keys: MemoryKeyStore) -> tuple[bytes, Path]:
    data = content(5 * CHUNK + 123)
    return data, sealed(tmp_path_factory.mktemp("large"), keys, data)


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(min_value=0, max_value=6 * CHUNK), st.integers(min_value=0, max_value=6 * CHUNK))
def test_a_read_is_the_slice(keys: MemoryKeyStore, large: tuple[bytes, Path], offset: int, length: int):
    data, path = large
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:
        assert reader.read(offset, length) == data[offset : offset + length]
        buffer = bytearray(b"?" * length)
        count = reader.readinto(offset, buffer)
        assert buffer[:count] == data[offset : offset + length]
        assert buffer[count:] == b"?" * (length - count)


def test_reads_at_every_edge(keys: MemoryKeyStore, large: tuple[bytes, Path]):
    data, path = large
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:
        for offset in (
            edge + shift for edge in range(0, 6 * CHUNK, CHUNK) for shift in (-1, 0, 1) if edge + shift >= 0
        ):
            for length in (0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK):
                assert reader.read(offset, length) == data[offset : offset + length]
        for read in (lambda: reader.read(-1, 1), lambda: reader.read(0, -1), lambda: reader.readinto(-1, bytearray(1))):
            with pytest.raises(InvariantError):
                read()


def test_several_threads_read_one_object(keys: MemoryKeyStore, large: tuple[bytes, Path]):
    data, path = large
    wrong: list[int] = []
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:

        def read(seed: int) -> None:
            choose = random.Random(seed)
            for _ in range(50):
                offset = choose.randrange(len(data))
                if reader.read(offset, 1000) != data[offset : offset + 1000]:
                    wrong.append(offset)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(st.integers(min_value=0, max_value=CHUNK + 9), max_size=8))
def test_however_it_is_written_in_pieces(tmp_path: Path, keys: MemoryKeyStore, sizes: list[int]):
    data = content(sum(sizes))
    with SealedWriter(tmp_path / "x", keys.generate_data_key("tenant-a", CONTEXT), CONTEXT, size_bytes=1) as writer:
        done = 0
        for size in sizes:
            writer.write(memoryview(data)[done : done + size])
            done += size
    assert read_all(tmp_path / "x", keys) == data


def test_the_format_is_the_documented_one(keys: MemoryKeyStore, large: tuple[bytes, Path]):
    data, path = large
    raw = path.read_bytes()
    total = header_bytes(path)
    head, commitment = raw[: total - 32], raw[total - 32 : total]
    assert raw[:8] == b"OUTCROP\x01"
    assert raw[12] == 16
    prefix, salt = raw[13:20], raw[20:52]
    name_length = int.from_bytes(raw[52:54], "big")
    name = raw[54 : 54 + name_length].decode()
    wrapped = raw[56 + name_length : total - 32]
    assert int.from_bytes(raw[54 + name_length : 56 + name_length], "big") == len(wrapped)
    both = derive(keys.unwrap(name, wrapped, CONTEXT), "object v1", salt=salt, size_bytes=64)
    assert hmac_sha256(both[32:], len(head).to_bytes(8, "big") + head + encode_context(CONTEXT)) == commitment
    for index in range(6):
        nonce = prefix + index.to_bytes(4, "big") + bytes([index == 5])
        start = total + index * (CHUNK + TAG)
        plaintext = AESGCM(both[:32]).decrypt(nonce, raw[start : start + CHUNK + TAG], commitment)
        assert plaintext == data[index * CHUNK : (index + 1) * CHUNK]


def refused(path: Path, keys: MemoryKeyStore, raw: bytes, **changes: str) -> None:
    """``raw`` in the place of the object is not read: not opened, or not to its end."""
    path.write_bytes(raw)
    with pytest.raises(Unsealable):
        read_all(path, keys, **changes)


def test_a_change_of_any_byte_of_the_header_is_refused_at_opening(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, content(100))
    raw = path.read_bytes()
    other = tmp_path / "other"
    for place in range(header_bytes(path)):
        for bit in (0, 7):
            changed = bytearray(raw)
            changed[place] ^= 1 << bit
            other.write_bytes(changed)
            # A changed name is a key that is not there, which only the store can tell.
            with pytest.raises((Unsealable, NotFound)):
                open_sealed(other, keys.unwrap, CONTEXT)


def test_a_change_of_any_byte_of_a_chunk_is_refused(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, content(2 * CHUNK + 40))
    raw = path.read_bytes()
    begin = header_bytes(path)
    ends = [begin + count * (CHUNK + TAG) for count in range(3)]
    places = {begin, len(raw) - 1, begin + 1000} | {end + shift for end in ends for shift in (-17, -16, -1, 0, 1)}
    for place in sorted(place for place in places if begin <= place < len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 0x80
        refused(tmp_path / "other", keys, bytes(changed))


@pytest.mark.parametrize("size", [0, 10, CHUNK, 3 * CHUNK, 3 * CHUNK + 10])
def test_truncation_is_refused_at_opening(tmp_path: Path, keys: MemoryKeyStore, size: int):
    path = sealed(tmp_path, keys, content(size))
    raw = path.read_bytes()
    begin = header_bytes(path)
    edges = [begin + count * (CHUNK + TAG) for count in range(5)]
    lengths = {0, 1, 7, 8, 11, 12, 13, begin - 1} | {
        edge + shift for edge in edges for shift in (-17, -16, -1, 0, 1, 16)
    }
    tried = sorted(length for length in lengths if 0 <= length < len(raw))
    assert len(tried) >= 8
    for length in tried:
        (tmp_path / "other").write_bytes(raw[:length])
        with pytest.raises(Unsealable):
            open_sealed(tmp_path / "other", keys.unwrap, CONTEXT)


def test_what_is_appended_is_refused_at_opening(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, content(2 * CHUNK))
    raw = path.read_bytes()
    begin, stride = header_bytes(path), CHUNK + TAG
    for more in (b"\0", bytes(16), bytes(17), raw[begin : begin + stride], raw[-stride:]):
        (tmp_path / "other").write_bytes(raw + more)
        with pytest.raises(Unsealable):
            open_sealed(tmp_path / "other", keys.unwrap, CONTEXT)


def chunks_of(path: Path) -> tuple[bytes, list[bytes]]:
    raw = path.read_bytes()
    begin, stride = header_bytes(path), CHUNK + TAG
    return raw[:begin], [raw[start : start + stride] for start in range(begin, len(raw), stride)]


def swap_first(c: list[bytes]) -> list[bytes]:
    return [c[1], c[0], *c[2:]]


def repeat_first(c: list[bytes]) -> list[bytes]:
    return [c[0], c[0], *c[2:]]


def repeat_and_grow(c: list[bytes]) -> list[bytes]:
    return [c[0], c[0], *c[1:]]


def drop_first(c: list[bytes]) -> list[bytes]:
    return c[1:]


def drop_middle(c: list[bytes]) -> list[bytes]:
    return [c[0], *c[2:]]


def drop_last(c: list[bytes]) -> list[bytes]:
    return c[:-1]


def last_twice(c: list[bytes]) -> list[bytes]:
    return [*c, c[-1]]


def last_first(c: list[bytes]) -> list[bytes]:
    return [c[-1], *c[1:-1], c[0]]


@pytest.mark.parametrize(
    "change",
    [swap_first, repeat_first, repeat_and_grow, drop_first, drop_middle, drop_last, last_twice, last_first],
)
@pytest.mark.parametrize("tail", [0, 50])
def test_chunks_in_another_order_or_number_are_refused(
    tmp_path: Path, keys: MemoryKeyStore, change: Callable[[list[bytes]], list[bytes]], tail: int
):
    path = sealed(tmp_path, keys, content(4 * CHUNK + tail))
    head, chunks = chunks_of(path)
    (tmp_path / "other").write_bytes(head + b"".join(chunks))
    assert read_all(tmp_path / "other", keys) == content(4 * CHUNK + tail)
    refused(tmp_path / "other", keys, head + b"".join(change(chunks)))


def test_chunks_and_headers_of_another_object_are_refused(tmp_path: Path, keys: MemoryKeyStore):
    # The same bytes under the same context and master key: still two objects.
    first, second = (chunks_of(sealed(tmp_path, keys, content(3 * CHUNK))) for _ in range(2))
    refused(tmp_path / "other", keys, first[0] + b"".join([first[1][0], second[1][1], first[1][2]]))
    refused(tmp_path / "other", keys, first[0] + b"".join(second[1]))
    refused(tmp_path / "other", keys, second[0] + b"".join(first[1]))


def test_another_tenants_file_is_refused(tmp_path: Path, keys: MemoryKeyStore):
    theirs = {"account": "444455556666", "arn": CONTEXT["arn"].replace("111122223333", "444455556666")}
    ours = sealed(tmp_path, keys, b"ours")
    path = sealed(tmp_path, keys, b"theirs", "tenant-b", **theirs)
    assert read_all(path, keys, **theirs) == b"theirs"
    refused(ours, keys, path.read_bytes())
    # Even under one master key the context tells them apart.
    path = sealed(tmp_path, keys, b"theirs", "tenant-a", **theirs)
    refused(ours, keys, path.read_bytes())


def test_an_older_version_is_refused_where_the_newer_one_is_meant(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, b"old", version="1")
    old = path.read_bytes()
    newer = sealed(tmp_path, keys, b"new", version="2")
    assert read_all(newer, keys, version="2") == b"new"
    refused(newer, keys, old, version="2")
    assert read_all(newer, keys, version="1") == b"old"  # the negative twin: only the context keeps versions apart


@pytest.mark.parametrize("changes", [{"account": "444455556666"}, {"version": "01"}, {"more": ""}])
def test_another_context_is_refused(tmp_path: Path, keys: MemoryKeyStore, changes: dict[str, str]):
    path = sealed(tmp_path, keys, b"x")
    with pytest.raises(Unsealable):
        open_sealed(path, keys.unwrap, {**CONTEXT, **changes})
    for missing in CONTEXT:
        with pytest.raises(Unsealable):
            open_sealed(path, keys.unwrap, {name: CONTEXT[name] for name in CONTEXT if name != missing})


def test_the_object_itself_binds_the_context_and_the_key(tmp_path: Path, keys: MemoryKeyStore):
    """Also with a key store that would unwrap anything for anyone."""
    path = sealed(tmp_path, keys, b"x")
    data_keys: list[Secret] = []

    def remember(name: str, wrapped: bytes, context: object) -> Secret:
        data_keys.append(keys.unwrap(name, wrapped, CONTEXT))
        return data_keys[-1]

    open_sealed(path, remember, CONTEXT).close()
    with pytest.raises(Unsealable):
        open_sealed(path, remember, {**CONTEXT, "version": "2"})
    for other in (Secret(bytes(32)), Secret(data_keys[0].reveal()[:16]), Secret(b"")):
        with pytest.raises(Unsealable):
            open_sealed(path, lambda *_, key=other: key, CONTEXT)  # type: ignore[misc]


def test_a_file_that_is_cut_while_it_is_open_is_refused(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, content(3 * CHUNK))
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:
        os.truncate(path, header_bytes(path) + CHUNK)
        with pytest.raises(Unsealable):
            reader.read(0, 10)


def test_a_closed_reader_reads_no_other_file(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, content(100))
    reader = open_sealed(path, keys.unwrap, CONTEXT)
    reader.close()
    with (
        open_sealed(sealed(tmp_path, keys, content(100, 2)), keys.unwrap, CONTEXT),
        pytest.raises(ValueError, match="closed"),
    ):
        reader.read(0, 100)


def test_no_nonce_is_used_twice_under_one_key(tmp_path: Path, keys: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch):
    used: list[tuple[bytes, bytes]] = []

    class Recording:
        def __init__(self, key: bytes) -> None:
            self._key, self._cipher = key, AESGCM(key)

        def encrypt(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
            used.append((self._key, nonce))
            return self._cipher.encrypt(nonce, data, associated)

    monkeypatch.setattr(objects, "AESGCM", Recording)
    same_key = keys.generate_data_key("tenant-a", CONTEXT)  # against the rule that a data key is used once
    for size in (0, CHUNK, 5 * CHUNK, 5 * CHUNK + 1):
        for _ in range(5):
            with SealedWriter(tmp_path / "x", same_key, CONTEXT, size_bytes=size) as writer:
                writer.write(content(size))
    assert len(used) == 5 * (1 + 1 + 5 + 6)
    assert len(set(used)) == len(used)
    assert len({nonce[:7] for _, nonce in used}) == 20


def test_chunk_sizes_and_limits(tmp_path: Path, keys: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch):
    assert [chunk_bits_for(size) for size in (0, 16 << 20, (16 << 20) + 1, 1 << 30, (1 << 30) + 1, None)] == [
        16, 16, 18, 18, 20, 18,
    ]  # fmt: skip
    for bits in (18, 20):
        size = {18: 17 << 20, 20: 1 << 31}[bits]
        with SealedWriter(
            tmp_path / "x", keys.generate_data_key("tenant-a", CONTEXT), CONTEXT, size_bytes=size
        ) as writer:
            writer.write(content(3_000_000))
        assert (tmp_path / "x").read_bytes()[12] == bits
        assert read_all(tmp_path / "x", keys) == content(3_000_000)
    monkeypatch.setattr(objects, "CHUNKS_MAX", 2)
    with pytest.raises(InvariantError, match="chunks"):
        sealed(tmp_path, keys, content(3 * CHUNK))
    with pytest.raises(InvariantError, match="32 bytes"):
        SealedWriter(tmp_path / "x", DataKey("tenant-a", Secret(bytes(16)), b"w"), CONTEXT)


def test_an_aborted_write_leaves_what_was_there(tmp_path: Path, keys: MemoryKeyStore):
    path = tmp_path / "x"
    path.write_bytes(b"before")
    writer = SealedWriter(path, keys.generate_data_key("tenant-a", CONTEXT), CONTEXT)
    writer.write(content(1_000_000))
    with pytest.raises(TypeError), writer:
        writer.write("no bytes")  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
    assert path.read_bytes() == b"before"
    with pytest.raises(InvariantError, match="finished or aborted"):
        writer.write(b"more" * CHUNK)
    with pytest.raises(InvariantError, match="finished or aborted"):
        writer.finish()


def test_a_damaged_object_is_not_half_unsealed(tmp_path: Path, keys: MemoryKeyStore):
    path = sealed(tmp_path, keys, content(4 * CHUNK))
    raw = bytearray(path.read_bytes())
    raw[header_bytes(path) + 2 * (CHUNK + TAG)] ^= 1
    path.write_bytes(raw)
    target = tmp_path / "target"
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:
        assert reader.read(0, CHUNK) == content(4 * CHUNK)[:CHUNK]  # what is whole reads: chunks are checked one by one
        with pytest.raises(Unsealable):
            reader.verify()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Unsealable):
        unseal_file(path, target, keys.unwrap, CONTEXT)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.crash
def test_a_killed_writer_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"before")
    program = f"""
        import os, signal
        from pathlib import Path
        from outcrop.trust.crypto.keystores import MemoryKeyStore
        from outcrop.trust.crypto.objects import SealedWriter
        keys = MemoryKeyStore()
        keys.create("k")
        writer = SealedWriter(Path({str(path)!r}), keys.generate_data_key("k", {{}}), {{}})
        writer.write(bytes(3_000_000))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"before"
    # What is left is a hidden temporary file that nothing takes for an object, closed to others.
    (left,) = (entry for entry in tmp_path.iterdir() if entry != path)
    assert left.name.startswith(".x.")
    assert left.name.endswith(".tmp")
    assert left.stat().st_mode & 0o777 == 0o600


def test_there_is_no_object(tmp_path: Path, keys: MemoryKeyStore):
    with pytest.raises(NotFound):
        open_sealed(tmp_path / "none", keys.unwrap, CONTEXT)
    (tmp_path / "text").write_text("not an object, but long enough to hold a header of one, were it one" * 5)
    with (tmp_path / "text").open("rb") as file, pytest.raises(Unsealable):
        SealedReader(file, keys.unwrap, CONTEXT)
