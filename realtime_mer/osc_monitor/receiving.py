"""One port that OSC is received on: UDP to this computer or to a multicast group, or TCP with SLIP frames."""

from __future__ import annotations

import functools
import ipaddress
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol

from pythonosc import slip

from realtime_mer.config.addresses import address_text, in_numbers
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import MAX_PACKET_BYTES
from realtime_mer.osc.ports import GIVE_ADDRESS, Datagrams, open_port, sender_text

MOST_CONNECTIONS = 16

# A burst that comes while the computer is busy waits in the system.
_BUFFER_BYTES = 1 << 20
# After so many it is looked whether this is to end.
_MOST_AT_ONCE = 64
_READ_BYTES = 65_536
# A SLIP frame of the largest packet, should each of its bytes need two.
_MOST_FRAME_BYTES = 2 * MAX_PACKET_BYTES
_IF_TAKEN = "End it, or have the sender send to another port too, and listen on that one: realtime-mer osc-monitor PORT"
# How far a group of IPv6 reaches, in its second byte: one computer, one network, and more.
_ONE_NETWORK = 2


@dataclass(frozen=True, slots=True)
class Where:
    """What is listened on. multicast: the group, which is then what packets are sent to; tcp: instead of UDP."""

    host: str
    port: int
    multicast: str | None = None
    tcp: bool = False

    def __str__(self) -> str:
        return address_text(self.multicast or self.host, self.port) + (" (TCP)" if self.tcp else "")

    def hints(self) -> list[str]:
        """What to look at where nothing arrives."""
        command = f"realtime-mer osc-monitor {self.port}{' --tcp' if self.tcp else ''}"
        hints = [f"Is the sender running, and does it send to port {self.port}?"]
        if self.multicast is not None:
            return [*hints, "Does it send to this group? Routers and some wireless networks keep multicast back."]
        if self.tcp:
            hints.append(
                "Does it connect by TCP, and frame its packets with SLIP (OSC 1.1)? Without --tcp, UDP is heard."
            )
        else:
            hints.append("Does it send by UDP? For TCP there is --tcp, for a multicast group --multicast GROUP.")
        if _is_loopback(self.host):
            return [*hints, f"Only this computer's programs reach {self.host}. Another's: {command} --host 0.0.0.0"]
        return [*hints, "A sender on another computer needs this one's address, and a firewall here must let it in."]


class Taker(Protocol):
    """Takes what is received, in the thread that receives. time_s: of time.monotonic."""

    def packet(self, time_s: float, sender: str, datagram: bytes) -> None:
        """The bytes of what may be a packet. sender: HOST:PORT."""
        ...

    def refused(self, time_s: float, sender: str, reason: str) -> None:
        """Something that cannot be one."""
        ...

    def dropped(self, n: int) -> None:
        """So many packets came faster than they were read, and the system has thrown them away."""
        ...


class _Connection:
    """SLIP frames out of one TCP connection."""

    def __init__(self, connected: socket.socket, sender: str) -> None:
        self.socket = connected
        self.sender = sender
        self.is_new = True
        self.rest = bytearray()


class Listener:
    """Receives on one port, from its making on. `listen` is for one thread, `stop` for any other.

    Raises OscError where the port cannot be had.
    """

    def __init__(self, where: Where) -> None:
        self._where = where
        self._socket = _opened(where)
        self._datagrams = Datagrams(self._socket)
        self._connections: set[_Connection] = set()
        self._wake, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)

    def listen(self, taker: Taker) -> None:
        """Gives what comes, with the time at which it was read, until `stop` is called.

        Raises OscError where the port is lost.
        """
        take = self._accept if self._where.tcp else self._take_datagrams
        self._selector.register(self._socket, selectors.EVENT_READ, take)
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._wake:
                        return
                    if isinstance(key.data, _Connection):
                        self._take_frames(key.data, taker)
                    else:
                        key.data(taker)
        except OSError as error:
            raise OscError(f"{self._where} cannot be listened on any more: {error.strerror or error}.") from error

    def stop(self) -> None:
        """Makes `listen` return."""
        self._waker.send(b"\0")

    def close(self) -> None:
        """Once `listen` has returned."""
        for connection in self._connections:
            connection.socket.close()
        for one in (self._selector, self._socket, self._wake, self._waker):
            one.close()

    def _take_datagrams(self, taker: Taker) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                datagram, address, n_dropped = self._datagrams.receive()
            except BlockingIOError:
                return
            taker.packet(time.monotonic(), sender_text(address), datagram)
            if n_dropped:
                taker.dropped(n_dropped)

    def _accept(self, taker: Taker) -> None:
        try:
            connected, address = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        connection = _Connection(connected, sender_text(address))
        if len(self._connections) == MOST_CONNECTIONS:
            connected.close()
            taker.refused(time.monotonic(), connection.sender, f"More than {MOST_CONNECTIONS} connections.")
            return
        connected.setblocking(False)
        self._connections.add(connection)
        self._selector.register(connected, selectors.EVENT_READ, connection)

    def _take_frames(self, connection: _Connection, taker: Taker) -> None:
        try:
            chunk = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        now_s = time.monotonic()
        rest = connection.rest
        if not chunk:
            if rest:
                taker.refused(now_s, connection.sender, "The connection ended within a packet.")
            self._disconnect(connection)
            return
        # Neither a frame nor a packet begins with a zero; the size of a packet does.
        if connection.is_new and chunk[0] == 0:
            taker.refused(
                now_s, connection.sender, "Packets come with their size in front (OSC 1.0), not as SLIP frames."
            )
            self._disconnect(connection)
            return
        connection.is_new = False
        rest += chunk
        if slip.END in chunk:
            *frames, connection.rest = rest.split(slip.END)
            for frame in frames:
                _take_frame(bytes(frame), now_s, connection.sender, taker)
        if len(connection.rest) > _MOST_FRAME_BYTES:
            taker.refused(now_s, connection.sender, f"A SLIP frame does not end within {_MOST_FRAME_BYTES} bytes.")
            self._disconnect(connection)

    def _disconnect(self, connection: _Connection) -> None:
        self._connections.remove(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()


def _take_frame(frame: bytes, now_s: float, sender: str, taker: Taker) -> None:
    # Between two frames there is often an empty one.
    if not frame:
        return
    try:
        datagram = slip.decode(frame)
    except slip.ProtocolError:
        taker.refused(now_s, sender, "A SLIP frame has an escape that means nothing.")
    else:
        taker.packet(now_s, sender, datagram)


def _opened(where: Where) -> socket.socket:
    """A socket that hears what is sent there. Raises OscError."""
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


def _bind_multicast(made: socket.socket, address: Any, where: Where) -> None:
    """Raises OSError and OscError."""
    group = address[0].partition("%")[0]
    if not ipaddress.ip_address(group).is_multicast:
        raise OscError(
            f"{group} is no multicast group. Groups are 224.0.0.0 to 239.255.255.255, and what begins with ff in IPv6."
        )
    scope = address[3] if made.family == socket.AF_INET6 else 0
    if ":" in group and not scope and ipaddress.IPv6Address(group).packed[1] & 0xF <= _ONE_NETWORK:
        raise OscError(f"{group} is a group within one network: say in which, as in {group}%eth0.")
    # A multicast is for everybody who has joined: other programs keep the port, and get their own copies.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "darwin":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Bound to the group, it hears nothing else; Windows cannot do that.
    made.bind(("", *address[1:]) if sys.platform == "win32" else address)
    try:
        _join(made, group, scope, where.host)
    except OSError as error:
        raise OscError(f"{where} cannot be listened on: {error.strerror or error}. {GIVE_ADDRESS}") from error


def _join(made: socket.socket, group: str, scope: int, host: str) -> None:
    """Joins the group on the network that host or scope name, otherwise on each that this computer is in.

    Raises OSError.
    """
    wanted: list[tuple[int, int, bytes]] = []
    if made.family == socket.AF_INET6:
        indices = [scope] if scope else [index for index, _ in socket.if_nameindex()]
        packed = socket.inet_pton(socket.AF_INET6, group)
        wanted = [(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("@I", i)) for i in indices]
    else:
        packed = socket.inet_aton(group)
        if _is_loopback(host) or host == "0.0.0.0":
            indices = [index for index, _ in socket.if_nameindex()]
            # struct ip_mreqn: no address, but the interface's number; on Windows that is an address of its own.
            windows = sys.platform == "win32"
            networks = [struct.pack(">I", i) if windows else bytes(4) + struct.pack("@i", i) for i in indices]
        else:
            networks = [socket.inet_aton(host)]
        wanted = [(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + network) for network in networks]
    errors = []
    for option in wanted:
        try:
            made.setsockopt(*option)
        except OSError as error:
            errors.append(error)
    if len(errors) == len(wanted):
        raise errors[0] if errors else OSError("this computer has no network")


def _is_loopback(host: str) -> bool:
    address = in_numbers(host)
    return host == "localhost" if address is None else address.is_loopback
