"""Receives OSC on one port: UDP to this computer or to a multicast group, or TCP with SLIP frames."""

from __future__ import annotations

import functools
import ipaddress
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pythonosc import slip

from realtime_mer.config.addresses import address_text, in_numbers
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import MAX_PACKET_BYTES
from realtime_mer.osc.ports import GIVE_ADDRESS, Datagrams, open_port, sender_text

MOST_CONNECTIONS = 16
# A burst that comes while the computer is busy waits in the system.
_BUFFER_BYTES = 1 << 20
_MOST_AT_ONCE = 64
_READ_BYTES = 65_536
# A SLIP frame of the largest packet, if each of its bytes needs two.
_MOST_FRAME_BYTES = 2 * MAX_PACKET_BYTES
_IF_TAKEN = "End it, or have the sender send to another port too, and listen on that one: realtime-mer osc-monitor PORT"

# Takes the time, the sender as HOST:PORT, and a packet's bytes, or a text that says what is wrong.
Take = Callable[[float, str, bytes | str], None]


@dataclass(frozen=True, slots=True)
class Where:
    """What to listen on. multicast: the group that packets are sent to; tcp: instead of UDP."""

    host: str
    port: int
    multicast: str | None = None
    tcp: bool = False

    def __str__(self) -> str:
        return address_text(self.multicast or self.host, self.port) + (" (TCP)" if self.tcp else "")

    def hints(self) -> list[str]:
        """What to check if nothing arrives."""
        kind = "to this group" if self.multicast else "by TCP, with SLIP frames (OSC 1.1)," if self.tcp else "by UDP"
        local = self.multicast is None and _is_loopback(self.host)
        return [
            f"Is the sender running, and does it send {kind} to port {self.port}? See also --tcp and --multicast.",
            f"Only programs on this computer reach {self.host}. For others add --host 0.0.0.0."
            if local
            else "Does a firewall, a router or the wireless network block it?",
        ]


class Receiver:
    """Receives on one port from the start. `dropped` counts packets that the system dropped (Linux).

    Raises OscError if the port cannot be opened.
    """

    def __init__(self, where: Where, take: Take) -> None:
        self._where = where
        self._take = take
        self._socket = _opened(where)
        self._datagrams = Datagrams(self._socket)
        self.dropped = 0
        self._connections: dict[socket.socket, bytes] = {}
        self._selector = selectors.DefaultSelector()
        first = self._accept if where.tcp else self._read_datagrams
        self._selector.register(self._socket, selectors.EVENT_READ, first)

    def receive(self, timeout_s: float) -> None:
        """Takes what has come, after waiting for it for so long at most. Raises OscError if the port is lost."""
        for key, _ in self._selector.select(timeout_s):
            key.data()

    def close(self) -> None:
        self._selector.close()
        for opened in (self._socket, *self._connections):
            opened.close()

    def _read_datagrams(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                datagram, address, n_dropped = self._datagrams.receive()
            except BlockingIOError:
                return
            except OSError as error:
                raise OscError(f"{self._where} cannot be read any more: {error.strerror or error}.") from error
            self.dropped += n_dropped
            self._take(time.monotonic(), sender_text(address), datagram)

    def _accept(self) -> None:
        try:
            connection, address = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        sender = sender_text(address)
        if len(self._connections) == MOST_CONNECTIONS:
            connection.close()
            self._take(time.monotonic(), sender, f"More than {MOST_CONNECTIONS} connections.")
            return
        connection.setblocking(False)
        self._connections[connection] = b""
        read = functools.partial(self._read_frames, connection, sender)
        self._selector.register(connection, selectors.EVENT_READ, read)

    def _read_frames(self, connection: socket.socket, sender: str) -> None:
        try:
            chunk = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        now_s = time.monotonic()
        *frames, rest = (self._connections[connection] + chunk).split(slip.END)
        self._connections[connection] = rest
        for frame in filter(None, frames):
            try:
                self._take(now_s, sender, slip.decode(frame))
            except slip.ProtocolError:
                self._take(now_s, sender, "A SLIP frame has an invalid escape.")
        fault = ""
        if rest.startswith(b"\0"):
            # No SLIP frame begins with a zero, and every size does.
            fault = "Packets come with their size in front (OSC 1.0), not as SLIP frames."
        elif len(rest) > _MOST_FRAME_BYTES:
            fault = f"A SLIP frame does not end within {_MOST_FRAME_BYTES} bytes."
        elif rest and not chunk:
            fault = "The connection ended within a packet."
        if fault:
            self._take(now_s, sender, fault)
        if fault or not chunk:
            del self._connections[connection]
            self._selector.unregister(connection)
            connection.close()


def _opened(where: Where) -> socket.socket:
    """Raises OscError."""
    is_group = where.multicast is not None
    return open_port(
        where.multicast or where.host,
        where.port,
        failure=f"{where} cannot be listened on",
        if_taken=_IF_TAKEN,
        give="Give a multicast group, such as 239.1.2.3." if is_group else GIVE_ADDRESS,
        tcp=where.tcp,
        buffer_bytes=_BUFFER_BYTES,
        bind=functools.partial(_bind_multicast, where=where) if is_group else None,
    )


def _bind_multicast(opened: socket.socket, address: Any, where: Where) -> None:
    """Raises OSError and OscError."""
    group = address[0].partition("%")[0]
    if not ipaddress.ip_address(group).is_multicast:
        raise OscError(f"{group} is not a multicast group; expected 224.0.0.0 to 239.255.255.255, or ff00::/8 in IPv6.")
    # Other programs may use the port too; each gets its own copy of a multicast.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "darwin":
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Bound to the group, it receives nothing else; Windows cannot do that.
    opened.bind(("", *address[1:]) if sys.platform == "win32" else address)
    errors = []
    options = _memberships(group, where.host, address[3] if opened.family == socket.AF_INET6 else 0)
    for option in options:
        try:
            opened.setsockopt(*option)
        except OSError as error:
            errors.append(error)
    if len(errors) == len(options):
        why = errors[0].strerror if errors else "this computer has no network"
        raise OscError(f"{where} cannot be listened on: {why}. {GIVE_ADDRESS}")


def _memberships(group: str, host: str, scope: int) -> list[tuple[int, int, bytes]]:
    """The socket options that join a group on the network that host or scope name, otherwise on every network.

    Raises OSError if host is not an address.
    """
    indices = [index for index, _ in socket.if_nameindex()]
    if ":" in group:
        packed = socket.inet_pton(socket.AF_INET6, group)
        scopes = [scope] if scope else indices
        return [(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", i)) for i in scopes]
    if not _is_loopback(host) and host != "0.0.0.0":
        networks = [socket.inet_aton(host)]
    elif sys.platform == "win32":
        networks = [struct.pack(">I", index) for index in indices]
    else:
        # struct ip_mreqn: no address, but the interface's index.
        networks = [bytes(4) + struct.pack("@i", index) for index in indices]
    return [(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + network) for network in networks]


def _is_loopback(host: str) -> bool:
    address = in_numbers(host)
    return host == "localhost" if address is None else address.is_loopback
