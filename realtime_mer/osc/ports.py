"""Ports of this computer: had, or else why not and what to do; and what comes in at one of UDP's."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realtime_mer.config.addresses import address_text
from realtime_mer.osc import OscError

# What a socket address is depends on its family; typeshed has no better word for it either.
SocketAddress = tuple[socket.AddressFamily, Any]

GIVE_ADDRESS = "Give an address of this computer, such as 127.0.0.1, or 0.0.0.0 for all that it has."

# Linux's option that tells how many packets were dropped: linux/include/uapi/asm-generic/socket.h.
_SO_RXQ_OVFL = 40
# More than any packet has. With less room, Windows raises an error for what is larger.
_READ_BYTES = 65_536
# /proc/net/tcp's word for a socket that waits for connections.
_LISTENS = "0A"


def look_up(host: str, port: int, *, tcp: bool = False, flags: int = 0) -> list[SocketAddress]:
    """A host's addresses, IPv4 first: of a name with both kinds, most OSC software knows that one only.

    flags: of getaddrinfo. A name takes as long as the name server does. Raises OSError.
    """
    try:
        found = socket.getaddrinfo(host, port, type=_kind(tcp), flags=flags)
    # A name with an empty or overlong part raises UnicodeError, a ValueError.
    except ValueError as error:
        raise OSError(str(error)) from error
    return sorted(((entry[0], entry[4]) for entry in found), key=lambda address: address[0] != socket.AF_INET)


def open_port(
    host: str,
    port: int,
    *,
    failure: str,
    if_taken: str,
    give: str = GIVE_ADDRESS,
    tcp: bool = False,
    buffer_bytes: int | None = None,
    bind: Callable[[socket.socket, Any], None] | None = None,
) -> socket.socket:
    """A socket that does not block, and hears what comes to this port by UDP; or by TCP, where it takes connections.

    host: an address of this computer, or a name of it; of a name with both kinds of address, the IPv4 one; of :: also
        IPv4's, where the system can. port: 0 takes a free one.
    failure: how an error begins, as in "Commands cannot be taken at 127.0.0.1:9001". if_taken: what to do where another
        program has the port. give: which host to give instead of one that cannot be had.
    buffer_bytes: how much may wait in the system until it is read (UDP); None: as much as the system likes.
    bind: binds the socket to the address; None: in the usual way, so that no other program can have the port too.

    Raises OscError: why the port cannot be had, which program has it, and what to do.
    """
    try:
        family, address = look_up(host, port, tcp=tcp)[0]
        made = socket.socket(family, _kind(tcp))
        try:
            _prepare(made, address, tcp, buffer_bytes)
            (bind or _bind)(made, address)
            if tcp:
                made.listen()
        except BaseException:
            made.close()
            raise
    except OSError as error:
        why = fault(error, host, port, tcp=tcp, if_taken=if_taken, give=give)
        raise OscError(f"{failure}: {why}") from error
    return made


def fault(error: OSError, host: str, port: int, *, tcp: bool, if_taken: str, give: str = GIVE_ADDRESS) -> str:
    """Why a port cannot be had, and what to do. if_taken, give: as in `open_port`."""
    if error.errno == errno.EADDRINUSE:
        who = _holder(port, tcp)
        taken = f"{who} has this port" if who else f"another program has this port ({_how_to_find(port, tcp)} names it)"
        return f"{taken}. {if_taken}"
    if isinstance(error, PermissionError):
        return "the system does not allow it. Give another port, above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this computer. {give}"
    return f"{error.strerror or error}. {give}"


class Datagrams:
    """What comes in at a UDP port that `open_port` opened. For one thread."""

    def __init__(self, port: socket.socket) -> None:
        self._socket = port
        self._dropped = 0

    def receive(self) -> tuple[bytes, Any, int]:
        """The next packet, its sender's address, and how many since the last one the system dropped, having no room.

        Only Linux tells those. Raises OSError: BlockingIOError where there is no packet.
        """
        if sys.platform == "win32":
            return *self._socket.recvfrom(_READ_BYTES), 0
        datagram, extras, _, sender = self._socket.recvmsg(_READ_BYTES, socket.CMSG_SPACE(4))
        n_new = 0
        for level, kind, data in extras:
            if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                # All that were dropped before this packet came in, in 32 bits.
                n_new = (int.from_bytes(data, sys.byteorder) - self._dropped) % 2**32
                self._dropped += n_new
        return datagram, sender, n_new


def sender_text(address: Any) -> str:
    """HOST:PORT of a sender, for people. address: as a socket gives it."""
    host, port = address[:2]
    # An IPv6 socket names an IPv4 sender as in ::ffff:127.0.0.1.
    return address_text(host.removeprefix("::ffff:") if "." in host else host, port)


def _kind(tcp: bool) -> socket.SocketKind:
    return socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM


def _prepare(made: socket.socket, address: Any, tcp: bool, buffer_bytes: int | None) -> None:
    made.setblocking(False)
    if address[0] == "::":
        # All addresses are also those of IPv4; not every system takes it so by itself, or can.
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if tcp:
        if sys.platform != "win32":
            # Its own connections of a moment ago do not keep the port.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return
    if buffer_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    if sys.platform == "linux":
        # A sandbox may not know it: then what is dropped is not counted.
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)


def _bind(made: socket.socket, address: Any) -> None:
    if sys.platform == "win32":
        # There, another program could otherwise have the port too, and all that comes to it.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    made.bind(address)


def _holder(port: int, tcp: bool) -> str | None:
    """The program that has the port, as Linux tells: `qlcplus (process 1234)`. None where that cannot be seen: it is
    another user's, or this is another system."""
    sockets = set()
    for table in ("tcp", "tcp6") if tcp else ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for entry in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = entry.split()
                if int(fields[1].rpartition(":")[2], 16) == port and (not tcp or fields[3] == _LISTENS):
                    sockets.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(_target(link) in sockets for link in (process / "fd").iterdir()):
                name = (process / "comm").read_text(errors="replace").strip()
                return f"{name if name.isprintable() else ascii(name)} (process {process.name})"
    return None


def _target(link: Path) -> str | None:
    """What a link in a process's table of open files leads to; None where it was closed meanwhile."""
    try:
        return str(link.readlink())
    except OSError:
        return None


def _how_to_find(port: int, tcp: bool) -> str:
    """A command that tells who has the port."""
    if sys.platform == "win32":
        return f"netstat -ano | findstr :{port}"
    if sys.platform == "darwin":
        return f"lsof -nP -i{'TCP' if tcp else 'UDP'}:{port}"
    return f"sudo ss -{'t' if tcp else 'u'}lnp 'sport = :{port}'"
