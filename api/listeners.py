"""The sockets that a server listens at, and how it stops listening without cutting off anybody."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys

from vss.errors import Code, VssError
from vss.storage.datadir import DataDir

_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFFFFFF),
)
"""A socket filter in classic BPF (https://docs.kernel.org/networking/filter.html): run on each segment for a socket."""

_SO_ATTACH_FILTER = 26
_UNACKED = 24
"""Where `tcpi_unacked` stands in `struct tcp_info`; of a listener it counts connections that wait to be accepted."""


def tcp_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound socket. VssError (UNAVAILABLE) when the port cannot be had.

    shared: several processes listen at the same port, each with a queue of its own (SO_REUSEPORT)
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise VssError(
            Code.UNAVAILABLE,
            f"cannot listen at {host}:{port}: {error.strerror}",
            hint="choose another --host or --port",
        ) from error
    return listener


def reserve_port(host: str, port: int) -> socket.socket:
    """A socket that never listens: while it is open only our own processes can have its port, by `shared` sockets.

    VssError (UNAVAILABLE) when somebody has the port.
    """
    held = tcp_socket(host, port)
    # Bound alone, shared from now on. Without SO_REUSEADDR it also keeps those out who bind the usual way.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return held


def unix_socket(data: DataDir) -> socket.socket:
    """The socket for this machine's processes; only this user may open it. VssError (UNAVAILABLE)."""
    # We hold the writer lock, so a socket that lies here is of a server that died.
    data.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(data.socket))
    except OSError as error:
        listener.close()
        raise VssError(
            Code.UNAVAILABLE,
            f"cannot listen at the socket in the data directory: {error}",
            hint="its path must be shorter than 108 bytes: choose another data directory",
        ) from error
    finally:
        os.umask(before)
    return listener


def refuse_new(listener: socket.socket) -> None:
    """Let no further connection begin at a TCP listener; those that wait to be accepted stay.

    Closing it at once would reset the waiting ones. Where the system has no socket filters nothing happens.
    """
    if sys.platform != "linux" or listener.family == socket.AF_UNIX:
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    # A listener that was never used would be closed with the same effect: a failure costs no more than a reset.
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        )
    except OSError:
        return


def waiting(listener: socket.socket) -> int:
    """How many connections wait to be accepted at a listener; 0 where the system does not tell."""
    if sys.platform != "linux" or listener.family == socket.AF_UNIX:
        return 0
    try:
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return 0
    return int(struct.unpack_from("I", info, _UNACKED)[0])
