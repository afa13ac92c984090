"""No way out: a system-call filter under which this process, its threads and its children can only be called.

Linux seccomp (kernel documentation, "Seccomp BPF") looks at every system call. The filter here refuses with EPERM:

* ``connect``, whatever the address (a filter cannot look behind the pointer), so also to other programs of the machine;
* sockets other than TCP streams and local streams: no datagrams, so no DNS and no QUIC, no raw and packet sockets;
* sending to an address, and TCP Fast Open, which connects by sending;
* ``io_uring``, which would do all of this unseen, and taking descriptors or memory of other processes.

Listening, accepting, and answering on accepted connections go on. The filter cannot be taken off again, is inherited
by every child (``no_new_privs``), and holds for threads that run already. ``prove`` then tries every way out.

Not covered: what other processes of the machine do; a socket that was connected before (``open_connections`` finds
those); information in answers themselves; holes of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from outcrop.base.errors import UserError

_EPERM = 0x0005_0000 | errno.EPERM  # SECCOMP_RET_ERRNO
_ALLOW = 0x7FFF_0000
_KILL = 0x8000_0000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH = 0, 4  # offsets in struct seccomp_data
_MSG_FASTOPEN = 0x2000_0000
_SOCK_TYPE_MASK = 0xF


@dataclass(frozen=True, slots=True)
class _Abi:
    """System-call numbers of one architecture (Linux, arch/*/entry/syscalls and include/uapi/asm-generic/unistd.h)."""

    audit: int
    seccomp: int
    socket: int
    connect: int
    sendto: int
    sendmsg: int
    sendmmsg: int
    ptrace: int
    process_vm_writev: int
    io_uring_setup: int = 425
    pidfd_getfd: int = 438


_ABIS = {
    "x86_64": _Abi(0xC000_003E, 317, 41, 42, 44, 46, 307, 101, 311),
    "aarch64": _Abi(0xC000_00B7, 277, 198, 203, 206, 211, 269, 117, 271),
}


def _argument(index: int, high: bool = False) -> int:
    return 16 + 8 * index + (4 if high else 0)  # little-endian, as both architectures are


Instruction = tuple[int, int, int, int]


def _program(abi: _Abi) -> list[Instruction]:
    """The filter: each rule loads the call's number and falls through to the next where it does not apply."""
    rules: list[list[Instruction]] = [
        [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, abi.audit), (_RETURN, 0, 0, _KILL)],
        # The x32 calls of x86-64 have the same architecture and other numbers.
        [(_LOAD, 0, 0, _NR), (_AT_LEAST, 0, 1, 0x4000_0000), (_RETURN, 0, 0, _EPERM)],
    ]
    refused = (abi.connect, abi.io_uring_setup, abi.pidfd_getfd, abi.ptrace, abi.process_vm_writev)
    rules += [[(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)] for number in refused]
    rules += [
        _when(abi.socket, _socket_rule()),
        _when(abi.sendto, [*_none_of(3), *_null_pointer(4), (_RETURN, 0, 0, _ALLOW)]),
        _when(abi.sendmsg, [*_none_of(2), (_RETURN, 0, 0, _ALLOW)]),
        _when(abi.sendmmsg, [*_none_of(3), (_RETURN, 0, 0, _ALLOW)]),
        [(_RETURN, 0, 0, _ALLOW)],
    ]
    return [instruction for rule in rules for instruction in rule]


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """``body``, which ends in a verdict, for one call; the accumulator holds the number again afterwards."""
    return [(_EQUAL, 0, len(body), number), *body]


def _none_of(index: int) -> list[Instruction]:
    """Refuse a send whose flags ask for TCP Fast Open."""
    return [(_LOAD, 0, 0, _argument(index)), (_ANY_BIT, 0, 1, _MSG_FASTOPEN), (_RETURN, 0, 0, _EPERM)]


def _null_pointer(index: int) -> list[Instruction]:
    """Refuse unless the pointer is null."""
    halves = (_argument(index), _argument(index, high=True))
    return [row for half in halves for row in ((_LOAD, 0, 0, half), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _EPERM))]


def _socket_rule() -> list[Instruction]:
    """Streams of the local and the internet families over their usual protocol, and nothing else."""
    return [
        (_LOAD, 0, 0, _argument(0)),
        (_EQUAL, 3, 0, socket.AF_UNIX),
        (_EQUAL, 2, 0, socket.AF_INET),
        (_EQUAL, 1, 0, socket.AF_INET6),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, _argument(1)),
        (_AND, 0, 0, _SOCK_TYPE_MASK),
        (_EQUAL, 1, 0, socket.SOCK_STREAM),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, _argument(2)),
        (_EQUAL, 2, 0, 0),
        (_EQUAL, 1, 0, socket.IPPROTO_TCP),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def forbid() -> None:
    """Put the filter on this process, for good; ``UserError`` where the kernel or the machine cannot."""
    abi = _ABIS.get(platform.machine())
    if abi is None or os.uname().sysname != "Linux":
        raise UserError(
            f"Outbound connections cannot be made impossible on {platform.system()} {platform.machine()}.",
            "Use Linux on x86-64 or arm64, or another profile.",
        )
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in _program(abi))
    buffer = ctypes.create_string_buffer(packed)
    program = _FilterProgram(len(packed) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_mode_filter, all_threads = 38, 1, 1
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or (
        libc.syscall(abi.seccomp, set_mode_filter, all_threads, ctypes.byref(program)) != 0
    ):
        raise UserError(
            f"The kernel refuses a system-call filter ({os.strerror(ctypes.get_errno())}).",
            "Allow seccomp for this process (containers: the default seccomp profile does), or use another profile.",
        )


def open_connections() -> list[str]:
    """Connected internet sockets that this process holds already."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as held:
                if held.family in (socket.AF_INET, socket.AF_INET6):
                    found.append(f"descriptor {name} to {held.getpeername()[0]}")
        except OSError:
            continue  # gone meanwhile, or not connected
    return found


def prove() -> list[str]:
    """Try every way out; the ways that are open, empty where there is none.

    Addresses are those reserved for documentation (RFC 5737, RFC 3849), where nobody is, and this machine's own.
    """
    return [name for name, attempt in _attempts() if not _refused(attempt)]


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    except OSError:
        return False  # refused by the network, not by the filter
    return False


def _attempts() -> Iterator[tuple[str, Callable[[], object]]]:
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM

    def connect(family: int, address: object) -> Callable[[], object]:
        def attempt() -> None:
            with socket.socket(family, stream) as opened:
                opened.setblocking(False)
                opened.connect(address)  # type: ignore[arg-type]

        return attempt

    def send(flags: int, address: tuple[str, int]) -> Callable[[], object]:
        def attempt() -> None:
            with socket.socket(socket.AF_INET, stream) as opened:
                opened.setblocking(False)
                opened.sendto(b"x", flags, address)

        return attempt

    def send_message() -> None:
        with socket.socket(socket.AF_INET, stream) as opened:
            opened.setblocking(False)
            opened.sendmsg([b"x"], [], _MSG_FASTOPEN, ("192.0.2.1", 443))

    def io_uring() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(_ABIS[platform.machine()].io_uring_setup, 1, ctypes.create_string_buffer(256)) < 0:
            raise OSError(ctypes.get_errno(), "io_uring_setup")

    yield "TCP over IPv4", connect(socket.AF_INET, ("192.0.2.1", 443))
    yield "TCP over IPv6", connect(socket.AF_INET6, ("2001:db8::1", 443))
    yield "TCP to this machine", connect(socket.AF_INET, ("127.0.0.1", 9))
    yield "metadata address", connect(socket.AF_INET, ("169.254.169.254", 80))
    yield "local socket", connect(socket.AF_UNIX, "/run/outcrop-nobody.sock")
    yield "TCP Fast Open", send(_MSG_FASTOPEN, ("192.0.2.1", 443))
    yield "TCP Fast Open by message", send_message
    yield "send to an address", send(0, ("192.0.2.1", 443))
    yield "UDP over IPv4 (DNS)", lambda: socket.socket(socket.AF_INET, datagram).close()
    yield "UDP over IPv6 (DNS)", lambda: socket.socket(socket.AF_INET6, datagram).close()
    yield "local datagrams", lambda: socket.socket(socket.AF_UNIX, datagram).close()
    yield "raw packets", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    yield "link layer", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    yield "multipath TCP", lambda: socket.socket(socket.AF_INET, stream, 262).close()
    yield "virtual machine sockets", lambda: socket.socket(socket.AF_VSOCK, stream).close()
    yield "netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
    yield "io_uring", io_uring
