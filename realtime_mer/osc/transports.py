"""How packets get to a target: by UDP to one receiver, to a network or to a multicast group, or by TCP.

A target's own thread sends, and only ever hands a packet to a socket that is there, which takes no time. What may take
long (looking a name up, connecting, trying again) a thread in the background does; what is to be sent meanwhile is
dropped and counted, for a value that comes late is worth less than the next one.
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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pythonosc import slip

from realtime_mer.config.addresses import address_text, in_numbers
from realtime_mer.config.osc import TargetSettings
from realtime_mer.osc.ports import SocketAddress, look_up

# What says nothing about the way to the target: a full buffer, and a packet that is too large.
_PASSING = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.EMSGSIZE}
# About a second of the smooth values at 60 Hz (Linux takes twice what it is asked for). The system's own choice would
# take minutes of them, and a receiver that stopped reading would then first have to work through what is long over. Its
# own buffer comes on top; that is not ours.
_TCP_BUFFER_BYTES = 16_384
# A receiver that lost its power says nothing; TCP of itself would notice after a quarter of an hour.
_TCP_ALIVE_OPTIONS = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
_READ_BYTES = 65_536
# Linux's options that say what came back on packets: linux/include/uapi/linux/in.h and in6.h. With them, and not on a
# connected socket, every packet still finds its own way through the networks that there are at the time.
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
# Whose word it is, in sock_extended_err of ip(7): ICMP's or ICMPv6's.
_BY_ICMP = (2, 3)
_EXTENDED_ERROR_BYTES = 512
_MOST_RETURNS = 256


class Output(Protocol):
    """The way to one target. `send` is for one thread, the rest for any."""

    def send(self, packet: bytes) -> None:
        """Sends the packet now, or drops and counts it. Never waits, never raises."""
        ...

    @property
    def errors(self) -> int:
        """How many packets were not sent."""
        ...

    def summary(self) -> str:
        """The target, and what is wrong with it, for people."""
        ...

    def close(self) -> None:
        """Sends nothing more. Waits for nothing; harmless when called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long what may change is waited for.

    retry_s: after the first failure in a row, the second, …; the last one stands for all that follow. connect_s: for a
    TCP receiver to answer. stalled_s: how long a TCP receiver may take nothing before the connection is given up.
    quiet_s: how long nothing may come back from where nobody listened, until somebody is taken to; computers send such
    news once a second at most.
    """

    retry_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    connect_s: float = 5.0
    stalled_s: float = 5.0
    quiet_s: float = 3.0

    def wait_s(self, failures: int) -> float:
        """Before the next attempt after so many failures in a row."""
        return self.retry_s[min(failures, len(self.retry_s)) - 1] if failures else 0.0


def open_output(target: TargetSettings, timeouts: Timeouts | None = None) -> Output:
    """The way to the target. What is wrong with it or with the network is in its summary, and is tried again."""
    kind = _TcpOutput if target.transport == "tcp" else _UdpOutput
    return kind(target, timeouts or Timeouts())


class _State:
    """Whether packets get away, and how many did not, in words."""

    def __init__(self, target: TargetSettings) -> None:
        prefix = "" if target.transport == "udp" else f"{target.transport} "
        chosen = target.interface if target.transport in ("broadcast", "multicast") else None
        self._name = prefix + address_text(target.host, target.port) + (f" over {chosen}" if chosen else "")
        self._down = "not connected" if target.transport == "tcp" else "not sending"
        self.is_up = False
        self.errors = 0
        self.fault = ""
        # What is known of packets that did get away.
        self.returned = ""

    def __str__(self) -> str:
        notes = []
        if not self.is_up:
            notes.append(f"{self._down}: {self.fault}" if self.fault else f"{self._down} yet")
        elif self.returned:
            notes.append(self.returned)
        if self.errors:
            because = f"; the last time: {self.fault}" if self.is_up and self.fault else ""
            notes.append(f"{self.errors} {'packet' if self.errors == 1 else 'packets'} not sent{because}")
        return f"{self._name} ({'; '.join(notes)})" if notes else self._name


class _UdpOutput:
    """Unicast, broadcast or multicast. Whether anyone listens, UDP itself does not tell.

    Of unicast, a computer where nobody listens at the port says so (unless a firewall has it be silent), and so does
    the network where there is no such computer. Linux lets a socket know, with its next call, and the summary says it
    until nothing has come back for a while; packets that went there were sent all the same, and are no errors.

    After a failure a thread of its own looks the name up again and makes a new socket (the network interface may be
    another one by now), while the old one, if there is any, is still tried with every packet.
    """

    def __init__(self, target: TargetSettings, timeouts: Timeouts) -> None:
        self._target = target
        self._timeouts = timeouts
        self._state = _State(target)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        self._to: Any = None
        # In a row: they say how long to wait, and which of a name's addresses comes next.
        self._failures = 0
        self._is_reopening = False
        self._quiet_since_s: float | None = None
        if in_numbers(target.host) is not None:
            self._reopen()
        if self._socket is None:
            self._reopen_in_background()

    @property
    def errors(self) -> int:
        return self._state.errors

    def send(self, packet: bytes) -> None:
        with self._lock:
            if self._socket is None:
                self._state.errors += 1
                self._reopen_in_background()
                return
            try:
                self._hand_over(self._socket, packet)
            except OSError as error:
                self._state.errors += 1
                self._state.fault = _reason(error)
                if error.errno == errno.EACCES and self._target.transport == "udp":
                    self._state.fault += '; a broadcast address needs transport = "broadcast"'
                if error.errno not in _PASSING:
                    self._state.is_up = False
                    self._reopen_in_background(after_failure=True)
            else:
                self._state.is_up = True
                self._failures = 0

    def summary(self) -> str:
        with self._lock:
            return str(self._state)

    def _hand_over(self, made: socket.socket, packet: bytes) -> None:
        """Raises OSError where the packet does not get away; what came back on those before it is noted."""
        returned = None
        try:
            made.sendto(packet, self._to)
        except OSError:
            returned = _returned(made)
            if returned is None:
                raise
            made.sendto(packet, self._to)
        if returned is not None:
            refused = returned == errno.ECONNREFUSED
            self._state.returned = "nobody listens there" if refused else f"not delivered: {os.strerror(returned)}"
            self._quiet_since_s = None
        elif self._state.returned:
            now_s = time.monotonic()
            if self._quiet_since_s is None:
                self._quiet_since_s = now_s
            elif now_s - self._quiet_since_s >= self._timeouts.quiet_s:
                self._state.returned = ""

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _reopen_in_background(self, after_failure: bool = False) -> None:
        if self._is_reopening or self._closed.is_set():
            return
        self._is_reopening = True
        self._failures += after_failure
        try:
            threading.Thread(target=self._keep_reopening, name=f"osc opening {self._target.host}", daemon=True).start()
        except RuntimeError as error:  # no more threads: the next packet asks again
            self._is_reopening = False
            self._state.fault = str(error)

    def _keep_reopening(self) -> None:
        """The thread in the background. It ends with the first success."""
        while not self._closed.wait(self._timeouts.wait_s(self._failures)) and not self._reopen():
            pass

    def _reopen(self) -> bool:
        """Returns whether there is a new socket, or no need for one."""
        try:
            made, to = self._opened()
        except OSError as error:
            with self._lock:
                self._failures += 1
                self._state.fault = _reason(error)
            return False
        with self._lock:
            self._is_reopening = False
            if self._closed.is_set():
                made.close()
                return True
            if self._socket is not None:
                self._socket.close()
            self._socket, self._to = made, to
            # After failures only a packet that gets away is a proof.
            self._state.is_up = self._failures == 0
            return True

    def _opened(self) -> tuple[socket.socket, Any]:
        """A socket, and where it is to send to. Raises OSError."""
        found = _look_up(self._target)
        family, to = found[self._failures % len(found)]
        made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            if self._target.transport == "broadcast":
                _prepare_broadcast(made, self._target.interface)
            elif self._target.transport == "multicast":
                _prepare_multicast(made, to[0], self._target)
            elif sys.platform == "linux":
                # A sandbox may not know it: then nothing is known of what came back.
                with contextlib.suppress(OSError):
                    made.setsockopt(*_RECVERR[family], 1)
        except OSError:
            made.close()
            raise
        return made, to


def _returned(made: socket.socket) -> int | None:
    """The error number of the last of what came back on packets; None where nothing did, or the system is silent."""
    last = None
    if sys.platform == "linux":
        # All of it: what is left would make the next call fail again.
        with contextlib.suppress(OSError):
            for _ in range(_MOST_RETURNS):
                for _, _, data in made.recvmsg(0, _EXTENDED_ERROR_BYTES, socket.MSG_ERRQUEUE)[1]:
                    number, origin = struct.unpack_from("@IB", data)
                    last = number if origin in _BY_ICMP else last
    return last


def _prepare_broadcast(made: socket.socket, interface: str | None) -> None:
    if made.family == socket.AF_INET6:
        raise OSError("IPv6 has no broadcast; a multicast group such as ff02::1 reaches every computer of a network")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if interface is None:
        return
    with _naming(interface):
        if in_numbers(interface) is not None:
            made.bind((interface, 0))
        else:
            _check_name_serves()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())


def _prepare_multicast(made: socket.socket, group: str, target: TargetSettings) -> None:
    """Loop-back is left on, as it is by default: receivers on this computer hear it too."""
    if not ipaddress.ip_address(group).is_multicast:
        raise OSError(f"{group} is no multicast group (224.0.0.0 to 239.255.255.255, in IPv6 what begins with ff)")
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, target.ttl)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, target.ttl)
    if target.interface is None:
        return
    with _naming(target.interface):
        if made.family == socket.AF_INET6:
            index = socket.if_nametoindex(target.interface)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        elif in_numbers(target.interface) is not None:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(target.interface))
        else:
            _check_name_serves()
            # struct ip_mreqn of ip(7): group, address (none: that which the interface has at the time), index.
            chosen = struct.pack("@4s4si", bytes(4), bytes(4), socket.if_nametoindex(target.interface))
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)


def _check_name_serves() -> None:
    """Raises OSError where IPv4 cannot choose an interface by name, or not in the way that Linux has for it."""
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise OSError("on this system, give its IPv4 address instead of its name")


@contextlib.contextmanager
def _naming(interface: str) -> Iterator[None]:
    """Says of an OSError that it is about this network interface."""
    try:
        yield
    except OSError as error:
        raise OSError(f"the network interface {interface!r} cannot be used: {_reason(error)}") from error


class _TcpOutput:
    """TCP with SLIP frames (OSC 1.1): https://opensoundcontrol.stanford.edu/files/2009-NIME-OSC-1.1.pdf, RFC 1055.

    Each frame stands between two END bytes, as OSC 1.1 has it; only the very first begins without, as in RFC 1055: from
    the first four bytes, liblo tells SLIP and OSC 1.0's length prefix apart, and it does not know END before a bundle.

    A thread of its own keeps it connected, and reads and throws away what the receiver says, for as long as this is
    open. A frame that got away only in part is finished before any other; what comes meanwhile is dropped whole.
    """

    def __init__(self, target: TargetSettings, timeouts: Timeouts) -> None:
        self._target = target
        self._timeouts = timeouts
        self._state = _State(target)
        self._lock = threading.Lock()
        self._closed = False
        # The connection, while packets may be written to it. Only the background thread makes and closes sockets.
        self._connection: socket.socket | None = None
        self._is_fresh = True
        self._rest = b""
        self._stuck_since_s: float | None = None
        # A byte from the one to the other gets the background thread out of whatever it waits for.
        self._waker, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        threading.Thread(target=self._keep_connected, name=f"osc connecting {target.host}", daemon=True).start()

    @property
    def errors(self) -> int:
        return self._state.errors

    def send(self, packet: bytes) -> None:
        with self._lock:
            frame = slip.encode(packet)
            if self._connection is None or not self._write(self._connection, frame[1:] if self._is_fresh else frame):
                self._state.errors += 1

    def summary(self) -> str:
        with self._lock:
            return str(self._state)

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._let_go()
                self._waker.send(b"\0")

    def _write(self, connection: socket.socket, frame: bytes) -> bool:
        """Returns whether the frame is on its way, whole or in part."""
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
                # What it has not read would only come late: thrown away with the connection, instead of sent first.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
                self._drop(f"the receiver read nothing for {self._timeouts.stalled_s:g} s")
                return False
        except OSError as error:
            self._drop(_reason(error))
            return False
        self._state.fault = "the receiver reads too slowly"
        return False

    def _drop(self, why: str) -> None:
        """Gives the connection up; the background thread closes it."""
        self._state.fault = why
        self._state.is_up = False
        self._let_go()
        self._waker.send(b"\0")

    def _let_go(self) -> None:
        """Nothing more is written to the connection, if there is one; a frame that got away in part is lost."""
        self._state.errors += bool(self._rest)
        self._connection, self._rest = None, b""

    def _keep_connected(self) -> None:
        """The thread in the background."""
        failures = 0
        while not self._closed:
            try:
                connection = self._connect()
            except OSError as error:
                failures += 1
                with self._lock:
                    if not self._closed:
                        self._state.fault = _reason(error)
            else:
                failures = 1
                self._serve(connection)
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(_READ_BYTES)
            # If that was the byte of `close`, this is known by now; if it comes from now on, it ends the wait.
            if not self._closed:
                self._selector.select(self._timeouts.wait_s(failures))
        with self._lock:
            self._selector.close()
            self._wake.close()
            self._waker.close()

    def _connect(self) -> socket.socket:
        """Connects to the first of the target's addresses where that succeeds. Raises OSError."""
        errors = []
        for family, address in _look_up(self._target):
            try:
                return self._connect_to(family, address)
            except OSError as error:
                errors.append(error)
        raise errors[0]

    def _connect_to(self, family: socket.AddressFamily, address: Any) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            _prepare_tcp(made)
            fault = made.connect_ex(address)
            if fault in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                fault = self._outcome(made)
            if fault:
                raise OSError(fault, os.strerror(fault))
            # On one computer, the system may by chance give our end the very port that nobody listens on, and connect
            # the two; the receiver could then not even be started.
            if made.getsockname() == made.getpeername():
                raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except OSError:
            made.close()
            raise
        return made

    def _outcome(self, connecting: socket.socket) -> int:
        """Waits for it; an error number, or 0. Raises OSError where none comes, or `close` is called first."""
        self._selector.register(connecting, selectors.EVENT_WRITE)
        ready = [key.fileobj for key, _ in self._selector.select(self._timeouts.connect_s)]
        self._selector.unregister(connecting)
        if connecting not in ready:
            raise OSError("no answer")
        return connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def _serve(self, connection: socket.socket) -> None:
        """Lets packets be written to the connection until that ends, and closes it."""
        with connection:
            with self._lock:
                if self._closed:
                    return
                self._connection, self._is_fresh, self._stuck_since_s = connection, True, None
                self._state.is_up = True
            self._selector.register(connection, selectors.EVENT_READ)
            why = None
            while why is None and self._connection is connection:
                self._selector.select()
                why = _read_away(connection)
            self._selector.unregister(connection)
            with self._lock:
                if why is not None and self._connection is connection:
                    self._drop(why)


def _prepare_tcp(made: socket.socket) -> None:
    made.setblocking(False)
    # Each frame leaves when it is sent; otherwise it waits until the last one is acknowledged.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _TCP_BUFFER_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_ALIVE_OPTIONS.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _read_away(connection: socket.socket) -> str | None:
    """Reads what there is, for otherwise the receiver might wait for us to. Returns why the connection has ended."""
    try:
        return None if connection.recv(_READ_BYTES) else "the receiver closed the connection"
    except BlockingIOError:
        return None
    except OSError as error:
        return _reason(error)


def _look_up(target: TargetSettings) -> list[SocketAddress]:
    """The target's addresses, IPv4 first. An address in numbers takes no time and asks nobody. Raises OSError."""
    flags = socket.AI_NUMERICHOST if in_numbers(target.host) is not None else 0
    return look_up(target.host, target.port, tcp=target.transport == "tcp", flags=flags)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
