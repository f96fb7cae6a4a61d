"""Opens ports of this computer, with errors that name the cause and the cure; and receives from UDP ports."""

from __future__ import annotations

import contextlib
import errno
import glob
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realtime_mer.config.addresses import address_text
from realtime_mer.osc import OscError

# The type of a socket address depends on its family.
SocketAddress = tuple[socket.AddressFamily, Any]

GIVE_ADDRESS = "Give an address of this computer, such as 127.0.0.1, or 0.0.0.0 for all that it has."

# Linux's option that reports dropped packets: linux/include/uapi/asm-generic/socket.h.
_SO_RXQ_OVFL = 40
# Larger than any packet: Windows raises an error for a packet that does not fit.
_READ_BYTES = 65_536
# The state of a listening socket in /proc/net/tcp.
_LISTENS = "0A"


def look_up(host: str, port: int, *, tcp: bool = False, flags: int = 0) -> list[SocketAddress]:
    """A host's addresses, IPv4 first, since most OSC software only knows IPv4.

    flags: of getaddrinfo. A name may take as long as the name server does. Raises OSError.
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
    """A non-blocking socket that receives at this port by UDP, or listens for connections by TCP.

    host: an address or a name of this computer; of a name with both kinds of address, the IPv4 one is used; :: includes
        IPv4 if the system supports it. port: 0 takes a free one.
    failure: the start of an error, as in "Commands cannot be taken at 127.0.0.1:9001". if_taken: what to do if another
        program has the port. give: which host to give instead of one that cannot be used.
    buffer_bytes: how much the system may buffer (UDP); None: its default.
    bind: binds the socket to the address; None: exclusively.

    Raises OscError: why the port cannot be opened, which program has it, and what to do.
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
        if error.errno == errno.EADDRINUSE:
            holder = _holder(port, tcp)
            hint = "" if holder else f" (find it with {_how_to_find(port, tcp)})"
            why = f"{holder or 'another program'} has this port{hint}. {if_taken}"
        elif isinstance(error, PermissionError):
            why = "the system does not allow it. Give another port, above 1023."
        elif error.errno == errno.EADDRNOTAVAIL:
            why = f"{host} is not an address of this computer. {give}"
        else:
            why = f"{error.strerror or error}. {give}"
        raise OscError(f"{failure}: {why}") from error
    return made


class Datagrams:
    """Receives from a UDP port that `open_port` opened. For one thread."""

    def __init__(self, port: socket.socket) -> None:
        self._socket = port
        self._dropped = 0

    def receive(self) -> tuple[bytes, Any, int]:
        """The next packet, its sender's address, and the number of packets dropped in between (Linux).

        Raises OSError: BlockingIOError if there is no packet.
        """
        if sys.platform == "win32":
            return *self._socket.recvfrom(_READ_BYTES), 0
        datagram, extras, _, sender = self._socket.recvmsg(_READ_BYTES, socket.CMSG_SPACE(4))
        n_new = 0
        for level, kind, data in extras:
            if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                # All that were dropped so far, in 32 bits.
                n_new = (int.from_bytes(data, sys.byteorder) - self._dropped) % 2**32
                self._dropped += n_new
        return datagram, sender, n_new


def sender_text(address: Any) -> str:
    """HOST:PORT of a sender. address: as a socket returns it."""
    host, port = address[:2]
    # To an IPv6 socket, an IPv4 sender is ::ffff:127.0.0.1.
    return address_text(host.removeprefix("::ffff:") if "." in host else host, port)


def _kind(tcp: bool) -> socket.SocketKind:
    return socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM


def _prepare(made: socket.socket, address: Any, tcp: bool, buffer_bytes: int | None) -> None:
    made.setblocking(False)
    if address[0] == "::":
        # Include IPv4, which is not every system's default, nor supported by every system.
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if tcp:
        if sys.platform != "win32":
            # Connections of a previous run must not keep the port.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return
    if buffer_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    if sys.platform == "linux":
        # A sandbox may not support it; then dropped packets are not counted.
        with contextlib.suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)


def _bind(made: socket.socket, address: Any) -> None:
    if sys.platform == "win32":
        # Otherwise another program could open the port too, and take all packets.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    made.bind(address)


def _holder(port: int, tcp: bool) -> str | None:
    """The program that has the port, as in `qlcplus (process 1234)` (Linux).

    None if that cannot be seen, because it is another user's, or on other systems.
    """
    sockets = set()
    for table in ("tcp", "tcp6") if tcp else ("udp", "udp6"):
        with contextlib.suppress(OSError):
            for entry in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = entry.split()
                if int(fields[1].rpartition(":")[2], 16) == port and (not tcp or fields[3] == _LISTENS):
                    sockets.add(f"socket:[{fields[9]}]")
    # Not Path.glob, which raises an error if a process ends meanwhile.
    for link in map(Path, glob.iglob("/proc/[0-9]*/fd/*")):  # noqa: PTH207
        with contextlib.suppress(OSError):
            if str(link.readlink()) in sockets:
                process = link.parents[1]
                name = (process / "comm").read_text(errors="replace").strip()
                return f"{name if name.isprintable() else ascii(name)} (process {process.name})"
    return None


def _how_to_find(port: int, tcp: bool) -> str:
    """A command that shows which program has the port."""
    if sys.platform == "win32":
        return f"netstat -ano | findstr :{port}"
    if sys.platform == "darwin":
        return f"lsof -nP -i{'TCP' if tcp else 'UDP'}:{port}"
    return f"sudo ss -{'t' if tcp else 'u'}lnp 'sport = :{port}'"
