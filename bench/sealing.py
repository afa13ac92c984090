"""How fast sealed objects are written and read on one core, beside AES-256-GCM alone in the same process.

The objects lie in memory (``/dev/shm`` where it is there), so that no disk is measured; writing and reading them
through the file system is included, as are headers, commitments and the flush. Rates are bytes of plaintext for a
second of this thread's processor time, kernel included, the best of some rounds. The data key comes from a key store
in memory. Raw AES-GCM encrypts one block again and again, which stays in the processor's cache: the ratio to it counts
all moving of data against the object.

Random reads follow the shape of safetensors files: small tensors (norms, biases) of 4 to 64 KiB, projections of 1 to 16
MiB, at offsets that are no multiple of a chunk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import cryptography
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.crypto.objects import SealedWriter, open_sealed

MIB = 1 << 20
CONTEXT = {
    "arn": "arn:aws:bedrock:us-east-1:111122223333:custom-model/bench",
    "account": "111122223333",
    "version": "1",
}
SLICES_BYTES = (4 << 10, 64 << 10, MIB, 16 * MIB)
TARGET_GB_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mib", type=int, default=512, help="of the object, MiB (default 512)")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--directory", type=Path, help="where the object lies (default /dev/shm, else a temporary one)")
    parser.add_argument("--json", type=Path, help="write the result here too")
    options = parser.parse_args(arguments)
    shared = Path("/dev/shm")
    directory = options.directory or (shared if shared.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=directory) as place:
        result = measure(Path(place), options.size_mib * MIB, options.rounds)
    for name, value in result.items():
        print(f"{name:32} {value:.2f}" if isinstance(value, float) else f"{name:32} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    slow = min(float(result["seal GB/s"]), float(result["unseal GB/s"])) < TARGET_GB_S
    if slow:
        print(f"sealing: slower than {TARGET_GB_S} GB/s", file=sys.stderr)
    return 1 if slow else 0


def measure(place: Path, size_bytes: int, rounds: int) -> dict[str, str | int | float]:
    """All rates, by name."""
    keys = MemoryKeyStore()
    keys.create("bench")
    block = secrets.token_bytes(MIB)
    raw = AESGCM(AESGCM.generate_key(256))
    sealed_block = raw.encrypt(bytes(12), block, None)
    count = size_bytes // MIB
    path = place / "object"

    def raw_encrypt() -> None:
        for _ in range(count):
            raw.encrypt(bytes(12), block, None)

    def raw_decrypt() -> None:
        for _ in range(count):
            raw.decrypt(bytes(12), sealed_block, None)

    def plain_write() -> None:
        with (place / "plain").open("wb", buffering=0) as file:
            for _ in range(count):
                file.write(block)

    def seal_with(hint_bytes: int) -> Callable[[], None]:
        def seal() -> None:
            key = keys.generate_data_key("bench", CONTEXT)
            with SealedWriter(path, key, CONTEXT, size_bytes=hint_bytes) as writer:
                for _ in range(count):
                    writer.write(block)

        return seal

    def unseal() -> None:
        with open_sealed(path, keys.unwrap, CONTEXT) as reader:
            reader.verify()

    result: dict[str, str | int | float] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "cryptography": f"{cryptography.__version__}, {backend.openssl_version_text()}",
        "object MiB": count,
        "raw AES-GCM encrypt GB/s": _rate(raw_encrypt, size_bytes, rounds),
        "raw AES-GCM decrypt GB/s": _rate(raw_decrypt, size_bytes, rounds),
        "plain write to the place GB/s": _rate(plain_write, size_bytes, rounds),
    }
    (place / "plain").unlink()
    for name, hint_bytes in (("64 KiB chunks", 1), ("256 KiB chunks", 1 << 30), ("1 MiB chunks", 1 << 40)):
        result[f"seal GB/s, {name}"] = _rate(seal_with(hint_bytes), size_bytes, rounds)
        result[f"unseal GB/s, {name}"] = _rate(unseal, size_bytes, rounds)
        result |= _random_reads(path, keys, size_bytes, rounds, name)
    for verb, raw_name in (("seal", "encrypt"), ("unseal", "decrypt")):
        result[f"{verb} GB/s"] = result[f"{verb} GB/s, 1 MiB chunks"]
        result[f"{verb} ratio to raw"] = float(result[f"{verb} GB/s"]) / float(result[f"raw AES-GCM {raw_name} GB/s"])
    return result


def _random_reads(
    path: Path, keys: MemoryKeyStore, size_bytes: int, rounds: int, name: str
) -> dict[str, str | int | float]:
    choose = random.Random(1)
    found: dict[str, str | int | float] = {}
    with open_sealed(path, keys.unwrap, CONTEXT) as reader:
        for slice_bytes in SLICES_BYTES:
            if slice_bytes > size_bytes:
                continue
            times = max(8, min(2000, 64 * MIB // slice_bytes))
            offsets = [choose.randrange(size_bytes - slice_bytes + 1) for _ in range(times)]

            buffer = bytearray(slice_bytes)

            def read(offsets: list[int] = offsets, buffer: bytearray = buffer) -> None:
                for offset in offsets:
                    reader.readinto(offset, buffer)

            rate = _rate(read, times * slice_bytes, rounds)
            label = f"{slice_bytes >> 10} KiB" if slice_bytes < MIB else f"{slice_bytes >> 20} MiB"
            found[f"read {label} us, {name}"] = slice_bytes / rate / 1e3
            found[f"read {label} GB/s, {name}"] = rate
    return found


def _rate(work: Callable[[], None], size_bytes: int, rounds: int) -> float:
    """GB/s of the fastest round, by this thread's processor time."""
    best_s = float("inf")
    for _ in range(rounds):
        begin_s = time.thread_time()
        work()
        best_s = min(best_s, time.thread_time() - begin_s)
    return size_bytes / best_s / 1e9


if __name__ == "__main__":
    sys.exit(main())
