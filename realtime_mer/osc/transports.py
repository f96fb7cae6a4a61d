"""Sends packets to one target: over UDP to one receiver, a network or a multicast group, or over TCP.

`send` never waits: it passes the packet to an open socket, or drops and counts it, since a late value is worth less
than the next one. Whatever may take long (name look-ups, connecting, retries) runs in a background thread.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import selectors
import socket
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pythonosc import slip

from realtime_mer.config.addresses import address_text, in_numbers
from realtime_mer.config.osc import TargetSettings
from realtime_mer.osc.ports import SocketAddress, look_up
from realtime_mer.osc.status import TargetState, TargetStatus

# A full buffer, or a packet that is too large: the path to the target may still be good.
_PASSING = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.EMSGSIZE}
# About a second of the smooth values at 60 Hz (Linux doubles it); the system's default would hold minutes of them.
_TCP_BUFFER_BYTES = 16_384
# A receiver that loses power sends nothing; by default TCP would take a quarter of an hour to notice.
_TCP_ALIVE_OPTIONS = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
_READ_BYTES = 65_536
# Linux's options that report ICMP errors on a socket that is not connected (linux/include/uapi/linux/in.h and in6.h).
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
# The origins ICMP and ICMPv6 in sock_extended_err of ip(7).
_BY_ICMP = (2, 3)
_EXTENDED_ERROR_BYTES = 512
_MOST_RETURNS = 256


@dataclass(frozen=True, slots=True)
class Timeouts:
    """retry_s: the wait after the first failure in a row, the second, …; the last one is used for all that follow.

    connect_s: for a TCP receiver to answer. stalled_s: how long it may read nothing. quiet_s: how long no packet must
    be returned until the target counts as reached again; computers report returned packets once a second at most.
    """

    retry_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    connect_s: float = 5.0
    stalled_s: float = 5.0
    quiet_s: float = 3.0


def open_output(target: TargetSettings, timeouts: Timeouts = Timeouts()) -> Output:
    """The path to the target. Faults of the target or the network are in its status; it retries by itself."""
    return (_TcpOutput if target.transport == "tcp" else _UdpOutput)(target, timeouts)


class Output(ABC):
    """The path to one target. `send` is for one thread, the rest for any. A background thread keeps it open."""

    def __init__(self, target: TargetSettings, timeouts: Timeouts) -> None:
        self._target = target
        self._timeouts = timeouts
        # Held for every change below.
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._status = TargetStatus(_name(target), TargetState.OPENING)
        # In a row: they decide how long to wait before the next attempt.
        self._failures = 0
        self._thread = threading.Thread(target=self._keep_open, name=f"osc opening {target.host}", daemon=True)

    @abstractmethod
    def send(self, packet: bytes) -> bool:
        """Sends the packet now, or drops and counts it. Returns whether it was sent. Never waits, never raises."""

    @abstractmethod
    def close(self) -> None:
        """Sends nothing more. Does not wait; may be called twice."""

    @abstractmethod
    def _keep_open(self) -> None:
        """The background thread."""

    def status(self) -> TargetStatus:
        return self._status

    def _is_time_to_open(self) -> bool:
        """Waits before the next attempt; returns False if it is closed instead."""
        retry_s = self._timeouts.retry_s
        wait_s = retry_s[min(self._failures, len(retry_s)) - 1] if self._failures else 0.0
        return not self._closed.wait(wait_s)

    def _note(self, state: TargetState, reason: str) -> None:
        self._status = replace(self._status, state=state, reason=reason)

    def _count_failed(self) -> None:
        self._status = replace(self._status, n_failed=self._status.n_failed + 1)


class _UdpOutput(Output):
    """Unicast, broadcast or multicast.

    If nothing listens at a unicast address, the receiver's computer or the network usually returns the packets, which
    Linux reports with the next call. The status shows it until no packet has been returned for a while; such packets
    were sent, so they do not count as failed.

    After a failure the background thread looks the name up again and opens a new socket (the network interface may have
    changed). Meanwhile every packet is still tried on the old socket, if there is one.
    """

    def __init__(self, target: TargetSettings, timeouts: Timeouts) -> None:
        super().__init__(target, timeouts)
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._broken = threading.Event()
        self._broken.set()
        self._quiet_since_s: float | None = None
        if in_numbers(target.host) is not None:
            self._open()
        self._thread.start()

    def send(self, packet: bytes) -> bool:
        with self._lock:
            if self._socket is None:
                self._count_failed()
                return False
            try:
                self._send_on(self._socket, packet)
            except OSError as error:
                self._fail(error)
                return False
            self._failures = 0
            return True

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            self._broken.set()
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _send_on(self, opened: socket.socket, packet: bytes) -> None:
        """Raises OSError if the packet cannot be sent; notes whether earlier packets were returned."""
        returned = None
        try:
            opened.sendto(packet, self._address)
        except OSError:
            returned = _returned(opened)
            if returned is None:
                raise
            opened.sendto(packet, self._address)
        if returned is not None:
            refused = returned == errno.ECONNREFUSED
            reason = "nothing listens there" if refused else f"not delivered: {os.strerror(returned)}"
            self._note(TargetState.UNDELIVERED, reason)
            self._quiet_since_s = None
        elif self._status.state is TargetState.UNDELIVERED:
            now_s = time.monotonic()
            if self._quiet_since_s is None:
                self._quiet_since_s = now_s
            elif now_s - self._quiet_since_s >= self._timeouts.quiet_s:
                self._note(TargetState.UP, "")
        elif self._status.state is not TargetState.UP:
            self._note(TargetState.UP, self._status.reason)

    def _fail(self, error: OSError) -> None:
        self._count_failed()
        reason = _reason(error)
        if error.errno == errno.EACCES and self._target.transport == "udp":
            reason += '; a broadcast address needs transport = "broadcast"'
        if error.errno in _PASSING:
            self._note(self._status.state, reason)
        else:
            self._note(TargetState.DOWN, reason)
            self._failures += not self._broken.is_set()
            self._broken.set()

    def _keep_open(self) -> None:
        while self._broken.wait() and self._is_time_to_open():
            self._open()

    def _open(self) -> None:
        try:
            opened, address = self._opened()
        except OSError as error:
            with self._lock:
                self._failures += 1
                self._note(TargetState.DOWN, _reason(error))
            return
        with self._lock:
            if self._closed.is_set():
                opened.close()
                return
            if self._socket is not None:
                self._socket.close()
            self._socket, self._address = opened, address
            self._broken.clear()
            # After failures only a packet that is sent proves that the target is up.
            if self._failures == 0:
                self._note(TargetState.UP, "")

    def _opened(self) -> tuple[socket.socket, Any]:
        """A socket, and the address to send to: after each failure the name's next. Raises OSError."""
        found = _look_up(self._target)
        family, address = found[self._failures % len(found)]
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            if self._target.transport == "broadcast":
                _prepare_broadcast(opened, self._target.interface)
            elif self._target.transport == "multicast":
                _prepare_multicast(opened, address[0], self._target)
            elif sys.platform == "linux":
                # A sandbox may not support it; then returned packets are not reported.
                with contextlib.suppress(OSError):
                    opened.setsockopt(*_RECVERR[family], 1)
        except OSError:
            opened.close()
            raise
        return opened, address


def _returned(opened: socket.socket) -> int | None:
    """The error number of the last packet that was returned; None if none was, or the system does not report it."""
    last = None
    if sys.platform == "linux":
        # Read them all: one that is left would make the next call fail again.
        with contextlib.suppress(OSError):
            for _ in range(_MOST_RETURNS):
                for _, _, data in opened.recvmsg(0, _EXTENDED_ERROR_BYTES, socket.MSG_ERRQUEUE)[1]:
                    number, origin = struct.unpack_from("@IB", data)
                    last = number if origin in _BY_ICMP else last
    return last


def _prepare_broadcast(opened: socket.socket, interface: str | None) -> None:
    if opened.family == socket.AF_INET6:
        raise OSError("IPv6 has no broadcast; a multicast group such as ff02::1 reaches every computer of a network")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if interface is None:
        return
    with _naming(interface):
        if in_numbers(interface) is not None:
            opened.bind((interface, 0))
        else:
            _check_names_work()
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())


def _prepare_multicast(opened: socket.socket, group: str, target: TargetSettings) -> None:
    if not ipaddress.ip_address(group).is_multicast:
        raise OSError(f"{group} is not a multicast group (224.0.0.0 to 239.255.255.255; in IPv6, ff00::/8)")
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, target.ttl)
    else:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, target.ttl)
    if target.interface is None:
        return
    with _naming(target.interface):
        if opened.family == socket.AF_INET6:
            index = socket.if_nametoindex(target.interface)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        elif in_numbers(target.interface) is not None:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(target.interface))
        else:
            _check_names_work()
            # struct ip_mreqn of ip(7): group, address (none: the one that the interface has at the time), index.
            chosen = struct.pack("@4s4si", bytes(4), bytes(4), socket.if_nametoindex(target.interface))
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)


def _check_names_work() -> None:
    """Raises OSError if this system cannot choose an IPv4 interface by name, as Linux can."""
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise OSError("on this system, give its IPv4 address instead of its name")


@contextlib.contextmanager
def _naming(interface: str) -> Iterator[None]:
    """Adds this network interface to the text of an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(f"the network interface {interface!r} cannot be used: {_reason(error)}") from error


class _TcpOutput(Output):
    """TCP with SLIP frames (OSC 1.1): https://opensoundcontrol.stanford.edu/files/2009-NIME-OSC-1.1.pdf, RFC 1055.

    Each frame stands between two END bytes, as in OSC 1.1; only the very first one begins without, as in RFC 1055:
    liblo recognises SLIP by the first four bytes, and does not accept END before a bundle.

    The background thread also reads and discards what the receiver sends, since it might wait for that. A frame that
    was sent only in part is completed before any other; packets that come meanwhile are dropped whole.
    """

    def __init__(self, target: TargetSettings, timeouts: Timeouts) -> None:
        super().__init__(target, timeouts)
        # While packets may be written to it. Only the background thread opens and closes it.
        self._connection: socket.socket | None = None
        self._is_fresh = True
        self._rest = b""
        self._stuck_since_s: float | None = None
        self._thread.start()

    def send(self, packet: bytes) -> bool:
        with self._lock:
            frame = slip.encode(packet)
            if self._connection is not None and self._write(self._connection, frame[1:] if self._is_fresh else frame):
                return True
            self._count_failed()
            return False

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            self._disconnect()

    def _write(self, connection: socket.socket, frame: bytes) -> bool:
        """Returns whether the frame was sent, whole or in part."""
        try:
            if self._rest:
                self._rest = self._rest[connection.send(self._rest) :]
                self._stuck_since_s = None
            if not self._rest:
                self._rest = frame[connection.send(frame) :]
                self._is_fresh, self._stuck_since_s = False, None
                return True
        except BlockingIOError:
            now_s = time.monotonic()
            if self._stuck_since_s is None:
                self._stuck_since_s = now_s
            elif now_s - self._stuck_since_s >= self._timeouts.stalled_s:
                # Discard what the receiver has not read yet, since that would only arrive late.
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
                self._drop(f"the receiver read nothing for {self._timeouts.stalled_s:g} s")
                return False
        except OSError as error:
            self._drop(_reason(error))
            return False
        self._note(TargetState.UP, "the receiver reads too slowly")
        return False

    def _drop(self, reason: str) -> None:
        self._note(TargetState.DOWN, reason)
        self._disconnect()

    def _disconnect(self) -> None:
        """Writes nothing more to the connection, if there is one, and makes the background thread close it."""
        if self._rest:
            # The frame that was sent only in part.
            self._count_failed()
        if self._connection is not None:
            with contextlib.suppress(OSError):
                # This wakes the thread. Writing is ended by closing, which may discard what was not sent.
                self._connection.shutdown(socket.SHUT_RD)
        self._connection, self._rest = None, b""

    def _keep_open(self) -> None:
        while self._is_time_to_open():
            try:
                connection = self._connect()
            except OSError as error:
                self._failures += 1
                with self._lock:
                    self._note(TargetState.DOWN, _reason(error))
            else:
                self._failures = 1
                with connection:
                    self._serve(connection)

    def _connect(self) -> socket.socket:
        """Connects to the first of the target's addresses that accepts. Raises OSError."""
        errors = []
        for family, address in _look_up(self._target):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(self._timeouts.connect_s)
                _prepare_tcp(connection)
                connection.connect(address)
                # If nothing listens on a port of this computer, the system may give our end that very port and connect
                # it to itself; then the receiver could not even start.
                if connection.getsockname() == connection.getpeername():
                    raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
                connection.setblocking(False)
                return connection
            except OSError as error:
                connection.close()
                errors.append(error)
        raise errors[0]

    def _serve(self, connection: socket.socket) -> None:
        """Lets packets be written to the connection until it ends."""
        with self._lock:
            if self._closed.is_set():
                return
            self._connection, self._is_fresh, self._stuck_since_s = connection, True, None
            self._note(TargetState.UP, self._status.reason)
        reason = "the receiver closed the connection"
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            try:
                while selector.select() and connection.recv(_READ_BYTES):
                    pass
            except OSError as error:
                reason = _reason(error)
        with self._lock:
            if self._connection is connection:
                self._drop(reason)


def _prepare_tcp(connection: socket.socket) -> None:
    # Send each frame at once; otherwise it waits until the last one is acknowledged.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TCP_BUFFER_BYTES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_ALIVE_OPTIONS.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _look_up(target: TargetSettings) -> list[SocketAddress]:
    """The target's addresses, IPv4 first. A numeric address takes no time and asks no name server. Raises OSError."""
    flags = socket.AI_NUMERICHOST if in_numbers(target.host) is not None else 0
    return look_up(target.host, target.port, tcp=target.transport == "tcp", flags=flags)


def _name(target: TargetSettings) -> str:
    prefix = "" if target.transport == "udp" else f"{target.transport} "
    interface = f" over {target.interface}" if target.interface else ""
    return f"{prefix}{address_text(target.host, target.port)}{interface}"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
