"""The path to one target over UDP and TCP, with real sockets."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from osc_sockets import (
    GENEROUS_S,
    HERE,
    Receiver,
    eventually,
    free_port,
    open_files,
    receiving,
    skip_without,
    udp_socket,
)
from pythonosc import slip

from realtime_mer.config import TargetSettings
from realtime_mer.osc import transports
from realtime_mer.osc.messages import Message
from realtime_mer.osc.messages import packet as message_bundle
from realtime_mer.osc.transports import Output, Timeouts, open_output

# Retries are immediate, or never happen.
QUICK = Timeouts(retry_s=(0.01,))
NEVER_AGAIN = Timeouts(retry_s=(3600.0,))

# Python's warnings of sockets that were not closed.
pytestmark = pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way")


def background_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("osc ")}


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    """After `close` every thread ends, and every socket is closed."""
    before = open_files()
    yield
    eventually(lambda: not background_threads())
    eventually(lambda: open_files() <= before)


@contextlib.contextmanager
def opened(target: TargetSettings, timeouts: Timeouts = QUICK) -> Iterator[Output]:
    output = open_output(target, timeouts)
    try:
        yield output
    finally:
        output.close()


def n_failed(output: Output) -> int:
    return output.status().n_failed


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


Answer = Callable[[], list[str]]


class Names:
    """Replaces the name server. Each look-up gets the next answer; the last answer is repeated."""

    def __init__(self, patch: pytest.MonkeyPatch, *answers: Answer) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self._really = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, port: int, **how: Any) -> list[Any]:
        if how.get("flags", 0) & socket.AI_NUMERICHOST:
            return list(self._really(host, port, **how))
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [entry for found in answer() for entry in self._really(found, port, **how)]


def at(*addresses: str) -> Answer:
    return lambda: list(addresses)


def unknown() -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# --- waiting ---


def test_the_wait_grows_with_the_failures_in_a_row_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(TargetSettings(), Timeouts()) as output:
        waits_s: list[float] = []
        monkeypatch.setattr(output._closed, "wait", waits_s.append)
        for failures in (0, 1, 2, 3, 4, 5, 1000):
            monkeypatch.setattr(output, "_failures", failures)
            output._is_time_to_open()
        assert waits_s == [0, 1, 2, 5, 10, 10, 10]


# --- UDP ---


@pytest.mark.parametrize("host", [HERE, "::1"])
def test_the_very_first_packet_arrives_and_all_in_order(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No name server is asked for a numeric address.
    Names(monkeypatch, unknown)
    sent = [b"%d" % index for index in range(10)]
    with receiving(host) as receiver, opened(TargetSettings(host=host, port=receiver.port)) as output:
        for packet in sent:
            output.send(packet)
        assert receiver.drain() == sent
        assert n_failed(output) == 0
        assert str(output.status()) == (f"[::1]:{receiver.port}" if ":" in host else f"{HERE}:{receiver.port}")


@pytest.mark.parametrize("transport", ["udp", "multicast", "tcp"])
@pytest.mark.parametrize("is_known", [True, False])
def test_until_the_next_attempt_a_name_is_looked_up_once(
    transport: str, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, at("239.255.0.1" if transport == "multicast" else HERE) if is_known else unknown)
    port = free_port(tcp=True)
    with opened(TargetSettings(host="desk", port=port, transport=transport), NEVER_AGAIN) as output:
        eventually(lambda: names.asked if is_known else "not known" in str(output.status()))
        for _ in range(20):
            output.send(b"packet")
        assert is_known or n_failed(output) == 20
    assert names.asked == ["desk"]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["no-such-desk.invalid", "a..b", "x" * 300, "fe80::1%no-such-interface"])
def test_an_unknown_name_is_reported_and_its_packets_counted(host: str, transport: str) -> None:
    with opened(TargetSettings(host=host, transport=transport)) as output:
        output.send(b"packet")
        output.send(b"packet")
        assert n_failed(output) == 2
        eventually(lambda: re.search(r"\(not sending: .+; 2 packets not sent\)$", str(output.status())))


def test_a_name_that_fails_is_tried_again_even_when_nothing_is_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def wait() -> list[str]:
        gate.wait(GENEROUS_S)
        return [HERE]

    names = Names(monkeypatch, unknown, unknown, unknown, wait)
    with opened(TargetSettings(host="desk", port=receiver.port)) as output:
        output.send(b"too early")
        eventually(lambda: len(names.asked) == 4)
        why = "Name or service not known"
        assert str(output.status()) == f"desk:{receiver.port} (not sending: {why}; 1 packet not sent)"
        gate.set()
        eventually(lambda: output.send(b"packet"))
        assert receiver.receive() == b"packet"
        assert re.search(rf"\(\d+ packets? not sent, the last time: {why}\)$", str(output.status()))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_look_up_that_hangs_holds_nothing_up(
    transport: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def hang() -> list[str]:
        gate.wait(GENEROUS_S)
        return [HERE]

    names = Names(monkeypatch, hang)
    hanging = TargetSettings(host="desk", port=free_port(tcp=True), transport=transport)
    with opened(hanging) as output, opened(TargetSettings(port=receiver.port)) as other:
        for _ in range(50):
            output.send(b"packet")
            other.send(b"packet")
        assert len(receiver.drain()) == 50
        assert n_failed(output) == 50
        assert re.search(r"\(not sending yet; 50 packets not sent\)$", str(output.status()))
        # Closed before the look-up ends, which then changes nothing.
        output.close()
        assert not gate.is_set()
        gate.set()
    eventually(lambda: not background_threads())
    output.send(b"packet")
    assert n_failed(output) == 51
    assert names.asked == ["desk"]


@pytest.mark.parametrize(
    ("host", "answers"), [(HERE, [at("255.255.255.255"), at(HERE)]), ("::1", [at("255.255.255.255", "::1")])]
)
def test_after_a_failure_the_name_is_looked_up_again_and_its_next_address_is_used(
    host: str, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Packets to a broadcast address fail on a socket without SO_BROADCAST.
    names = Names(monkeypatch, *answers)
    with receiving(host) as receiver, opened(TargetSettings(host="desk", port=receiver.port)) as output:
        eventually(lambda: str(output.status()) == f"desk:{receiver.port}")
        output.send(b"lost")
        # A packet may still go to the old address.
        eventually(lambda: output.send(b"packet"))
        assert receiver.receive() == b"packet"
        assert names.asked == ["desk"] * len(names.asked)
        assert output._failures == 0, "the next wait is short again"


@pytest.mark.parametrize("host", [HERE, "::1"])
def test_if_nothing_listens_that_is_reported_but_is_no_error(host: str) -> None:
    skip_without(host)
    with udp_socket(host) as probe:
        port: int = probe.getsockname()[1]
    with opened(TargetSettings(host=host, port=port), Timeouts(retry_s=(0.01,), quiet_s=0.05)) as output:
        name = str(output.status())
        for _ in range(50):
            output.send(b"packet")
        assert n_failed(output) == 0
        if sys.platform == "linux":
            assert str(output.status()) == f"{name} (nothing listens there)"
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as late:
            late.bind((host, port))
            late.settimeout(GENEROUS_S)
            output.send(b"packet")
            # The return of an earlier packet does not lose this one.
            assert late.recv(100) == b"packet"

            def is_up_again() -> bool:
                output.send(b"packet")
                return str(output.status()) == name

            eventually(is_up_again)
        assert n_failed(output) == 0


@linux_only
def test_a_returned_packet_is_not_forgotten_before_the_next_packet() -> None:
    """Even long after the last packet: only a packet that is not returned shows that something listens."""
    port = free_port()
    with opened(TargetSettings(port=port), Timeouts(quiet_s=0.0)) as output:
        output.send(b"packet")
        for _ in range(5):
            output.send(b"packet")
        assert str(output.status()) == f"{HERE}:{port} (nothing listens there)"


def test_a_packet_that_is_too_large_is_lost_alone(receiver: Receiver) -> None:
    with opened(TargetSettings(port=receiver.port)) as output:
        output.send(bytes(70_000))
        assert str(output.status()).endswith("(1 packet not sent, the last time: Message too long)")
        output.send(b"packet")
        assert receiver.receive() == b"packet"


def test_the_error_for_a_broadcast_address_names_the_transport_that_it_needs() -> None:
    with opened(TargetSettings(host="255.255.255.255")) as output:
        output.send(b"packet")
        assert "(not sending: Permission denied; a broadcast address needs transport = " in str(output.status())


# --- broadcast and multicast ---


@pytest.mark.parametrize(
    ("interface", "source"),
    [(None, HERE), ("127.0.0.3", "127.0.0.3"), pytest.param("lo", HERE, marks=linux_only)],
)
def test_a_broadcast_reaches_the_network_from_the_interface(interface: str | None, source: str) -> None:
    with receiving("0.0.0.0") as receiver:
        target = TargetSettings(host="127.255.255.255", port=receiver.port, transport="broadcast", interface=interface)
        with opened(target) as output:
            output.send(b"packet")
            data, sender = receiver.socket.recvfrom(100)
            assert (data, sender[0]) == (b"packet", source)
            over = f" over {interface}" if interface else ""
            assert str(output.status()) == f"broadcast 127.255.255.255:{receiver.port}{over}"


@contextlib.contextmanager
def listening_to(group: str, interface: str) -> Iterator[Receiver]:
    """A member of the group, which also gets each packet's TTL. interface: IPv4: its address; IPv6: its name."""
    with receiving("::" if ":" in group else "0.0.0.0") as receiver:
        try:
            if ":" in group:
                membership = socket.inet_pton(socket.AF_INET6, group) + struct.pack(
                    "@I", socket.if_nametoindex(interface)
                )
                receiver.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
                receiver.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            else:
                membership = socket.inet_aton(group) + socket.inet_aton(interface)
                receiver.socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
                receiver.socket.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        except OSError as error:
            pytest.skip(f"no multicast on {interface} here: {error}")
        yield receiver


# Of Linux; Python has no name for it yet.
IP_RECVTTL = 12


def receive_with_ttl(receiver: Receiver) -> tuple[bytes, int]:
    data, ancillary, _, _ = receiver.socket.recvmsg(100, 100)
    ((_, _, ttl),) = ancillary
    return data, struct.unpack("@i", ttl)[0]


@linux_only
@pytest.mark.parametrize(
    ("group", "interface", "ttl"),
    [("239.255.90.1", HERE, 0), ("239.255.90.1", HERE, 32), ("239.255.90.1", "lo", 1), ("ff12::90:1", "", 3)],
)
def test_a_multicast_reaches_the_group_by_the_interface(group: str, interface: str, ttl: int) -> None:
    interface = interface or ipv6_interface()
    with listening_to(group, interface if ":" in group else HERE) as receiver:
        target = TargetSettings(host=group, port=receiver.port, transport="multicast", interface=interface, ttl=ttl)
        with opened(target) as output:
            output.send(b"packet")
            assert receive_with_ttl(receiver) == (b"packet", ttl)
            host = f"[{group}]" if ":" in group else group
            assert str(output.status()) == f"multicast {host}:{receiver.port} over {interface}"


def ipv6_interface() -> str:
    """Skips the test if this computer has none that takes multicast."""
    for _, name in socket.if_nameindex():
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(name))
            probe.connect(("ff12::90:1", 9))
            return name
    pytest.skip("no network interface for IPv6 multicast here")


@pytest.mark.parametrize(
    ("transport", "address", "interface", "reason"),
    [
        ("multicast", "10.0.0.5", None, r"\S+ is not a multicast group \(224\.0\.0\.0 to"),
        ("multicast", "2001:db8::1", None, r"\S+ is not a multicast group \(224\.0\.0\.0 to"),
        ("broadcast", "ff02::1", None, "IPv6 has no broadcast; a multicast group"),
        *(
            pytest.param(*case, f"the network interface '{case[-1]}' cannot be used: ", marks=linux_only)
            for case in (
                ("broadcast", "255.255.255.255", "no-such-0"),
                ("broadcast", "255.255.255.255", "203.0.113.77"),
                ("multicast", "239.255.90.1", "no-such-0"),
                ("multicast", "ff12::1", "no-such-0"),
            )
        ),
    ],
)
def test_an_address_or_interface_that_cannot_be_used_is_reported(
    transport: str, address: str, interface: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(address)
    # The settings refuse such an address, but not a name that turns out to have it.
    Names(monkeypatch, at(address))
    with opened(TargetSettings(host="desk", transport=transport, interface=interface)) as output:
        eventually(lambda: re.search(f"not sending: {reason}", str(output.status())))
        output.send(b"packet")
        assert n_failed(output) == 1


# --- TCP ---


class Peer:
    """A TCP server, with the last connection that it accepted."""

    def __init__(self, host: str = HERE, port: int = 0, receive_bytes: int | None = None) -> None:
        self._listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._listener.bind((host, port))
        self._listener.listen()
        self._listener.settimeout(GENEROUS_S)
        self.port: int = self._listener.getsockname()[1]
        self.target = TargetSettings(host=host, port=self.port, transport="tcp")
        self.connection = socket.socket()
        self._read = slip.END

    def accept(self) -> None:
        self.connection.close()
        self.connection, _ = self._listener.accept()
        self.connection.settimeout(GENEROUS_S)
        # The first frame comes without.
        self._read = slip.END

    def receive(self) -> bytes:
        """The next frame's packet; every frame but the first stands between two ENDs of its own."""
        while self._read.count(slip.END) < 2:
            data = self.connection.recv(65_536)
            if not data:
                raise EOFError
            self._read += data
        assert self._read.startswith(slip.END)
        end = self._read.index(slip.END, 1) + 1
        frame, self._read = self._read[:end], self._read[end:]
        packet: bytes = slip.decode(frame)
        return packet

    def read_to_the_end(self) -> None:
        while self.connection.recv(65_536):
            pass

    def close(self) -> None:
        self.connection.close()
        self._listener.close()


@contextlib.contextmanager
def connected(
    timeouts: Timeouts = QUICK, host: str = HERE, receive_bytes: int | None = None
) -> Iterator[tuple[Peer, Output]]:
    try:
        peer = Peer(host, receive_bytes=receive_bytes)
    except OSError as error:
        pytest.skip(f"no {host} here: {error}")
    with contextlib.closing(peer), opened(peer.target, timeouts) as output:
        peer.accept()
        eventually(lambda: "not sending" not in str(output.status()))
        yield peer, output


@pytest.mark.parametrize("host", [HERE, "::1", "localhost"])
def test_frames_arrive_whole_and_in_order_as_specified(host: str) -> None:
    with connected(host=host) as (peer, output):
        output.send(b"a\xc0b\xdbc")
        assert peer.connection.recv(100) == b"a\xdb\xdcb\xdb\xddc" + b"\xc0"
        output.send(b"\xdbd\xc0")
        assert peer.connection.recv(100) == b"\xc0" + b"\xdb\xddd\xdb\xdc" + b"\xc0"
        peer._read = b""
        for index in range(200):
            output.send(b"%d" % index)
            assert peer.receive() == b"%d" % index
        assert n_failed(output) == 0
        assert str(output.status()) == f"tcp {f'[{host}]' if ':' in host else host}:{peer.port}"


def test_a_refused_port_is_tried_again_even_when_nothing_is_sent() -> None:
    port = free_port(tcp=True)
    with opened(TargetSettings(port=port, transport="tcp")) as output:
        output.send(b"too early")
        output.send(b"too early")
        eventually(
            lambda: str(output.status()) == f"tcp {HERE}:{port} (not sending: Connection refused; 2 packets not sent)"
        )
        with contextlib.closing(Peer(port=port)) as peer:
            peer.accept()
            eventually(lambda: "not sending" not in str(output.status()))
            output.send(b"packet")
            assert peer.receive() == b"packet"
            assert str(output.status()) == f"tcp {HERE}:{port} (2 packets not sent, the last time: Connection refused)"


def test_every_attempt_to_connect_looks_the_name_up_and_tries_all_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch, unknown, at("127.0.0.2"), at("127.0.0.2", HERE))
    peer = Peer()
    target = TargetSettings(host="desk", port=peer.port, transport="tcp")
    with contextlib.closing(peer), opened(target) as output:
        peer.accept()
        eventually(lambda: "not sending" not in str(output.status()))
        assert names.asked == ["desk"] * 3


def test_a_receiver_that_does_not_answer_is_reported_and_tried_again() -> None:
    with port_with_a_full_queue() as port:
        target = TargetSettings(port=port, transport="tcp")
        with opened(target, Timeouts(retry_s=(0.01,), connect_s=0.05)) as output:
            eventually(lambda: str(output.status()) == f"tcp {HERE}:{port} (not sending: timed out)")


@contextlib.contextmanager
def port_with_a_full_queue() -> Iterator[int]:
    """A port where connections neither succeed nor fail: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HERE, 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@linux_only
def test_a_connection_to_itself_counts_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port(tcp=True)
    really = transports._prepare_tcp

    def prepare(made: socket.socket) -> None:
        really(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HERE, port))

    monkeypatch.setattr(transports, "_prepare_tcp", prepare)
    with opened(TargetSettings(port=port, transport="tcp"), NEVER_AGAIN) as output:
        eventually(lambda: "not sending: Connection refused" in str(output.status()))


@pytest.mark.parametrize("abruptly", [False, True])
def test_a_peer_that_closes_is_noticed_at_once_and_may_come_back(abruptly: bool) -> None:
    with connected() as (peer, output):
        output.send(b"before")
        assert peer.receive() == b"before"
        if abruptly:
            peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        peer.close()
        # Even if nothing is sent.
        eventually(lambda: "(not sending: Connection refused)" in str(output.status()))
        output.send(b"meanwhile")
        assert n_failed(output) == 1
        with contextlib.closing(Peer(port=peer.port)) as again:
            again.accept()
            eventually(lambda: "not sending" not in str(output.status()))
            output.send(b"after")
            assert again.receive() == b"after"
            assert n_failed(output) == 1


def test_data_from_a_peer_is_read_and_discarded() -> None:
    with connected() as (peer, output):
        # More than all buffers hold: if nothing reads it, `sendall` times out.
        for _ in range(40):
            peer.connection.sendall(bytes(1_000_000))
        output.send(b"packet")
        assert peer.receive() == b"packet"


def numbered(index: int) -> bytes:
    """A packet with its number and an end, of varying length, full of bytes that SLIP has to escape."""
    return b"%06d" % index + slip.END * (index % 700) + b"whole"


def number_of(packet: bytes) -> int:
    index = int(packet[:6])
    assert packet == numbered(index)
    return index


def test_a_peer_that_stops_reading_gets_whole_frames_and_after_the_gap_new_ones() -> None:
    with connected(receive_bytes=4096) as (peer, output):
        index = 0
        while n_failed(output) < 100:
            output.send(numbered(index))
            index += 1
        assert index < 400, "too much is kept for a receiver that does not read"
        assert re.search(
            r"\(\d+ packets not sent, the last time: the receiver reads too slowly\)$", str(output.status())
        )
        got = [number_of(peer.receive())]
        while got[-1] < index:
            output.send(numbered(index + len(got)))
            got.append(number_of(peer.receive()))
        assert got == sorted(set(got))
        # All that did not arrive were counted, except those that are still being sent.
        assert got[0] == 0
        missing = set(range(got[-1])) - set(got)
        assert len(missing) >= 100
        assert n_failed(output) >= len([one for one in missing if one < index])


def test_a_frame_sent_in_part_is_lost_with_its_connection() -> None:
    with connected() as (peer, output):
        output.send(bytes(4_000_000))
        assert n_failed(output) == 0
        peer.connection.close()
        peer.accept()
        eventually(lambda: n_failed(output) == 1 and output.status().is_up)


def test_a_peer_that_takes_nothing_for_long_is_given_up_and_connected_anew() -> None:
    with connected(Timeouts(retry_s=(0.01,), stalled_s=0.05), receive_bytes=4096) as (peer, output):
        sent = 0

        def given_up() -> bool:
            nonlocal sent
            output.send(numbered(sent))
            sent += 1
            return "the receiver read nothing for 0.05 s" in str(output.status())

        eventually(given_up)
        # The rest is discarded.
        with pytest.raises(ConnectionResetError):
            peer.read_to_the_end()
        peer.accept()
        eventually(lambda: "not sending" not in str(output.status()))
        output.send(b"new")
        assert peer.receive() == b"new"


# --- liblo ---


@pytest.mark.skipif(not shutil.which("oscdump"), reason="liblo's oscdump is not installed")
def test_liblo_reads_bundles_over_tcp(tmp_path: Path) -> None:
    port = free_port(tcp=True)
    printed = tmp_path / "printed"
    with printed.open("wb") as file:
        dump = subprocess.Popen(["stdbuf", "-oL", "oscdump", "-L", f"osc.tcp://:{port}"], stdout=file)
    try:
        with opened(TargetSettings(port=port, transport="tcp")) as output:
            eventually(lambda: "not sending" not in str(output.status()))
            for index in range(3):
                messages = [Message("/mer/frame", "i", (index,)), Message("/mer/valence", "f", (0.5,))]
                output.send(message_bundle(messages))
            eventually(lambda: printed.read_bytes().count(b"\n") == 6)
    finally:
        dump.kill()
        dump.wait()
    received = [line.split(maxsplit=1)[1] for line in printed.read_text().splitlines()]
    assert received == [line for i in range(3) for line in (f"/mer/frame i {i}", "/mer/valence f 0.500000")]


# --- the end ---


@pytest.mark.parametrize("transport", ["udp", "broadcast", "multicast", "tcp"])
def test_closed_at_once_or_while_it_connects_it_ends(transport: str) -> None:
    with port_with_a_full_queue() as port:
        for host in ("239.255.90.1" if transport == "multicast" else HERE, "no-such-desk.invalid"):
            output = open_output(TargetSettings(host=host, port=port, transport=transport), Timeouts(connect_s=0.2))
            output.close()
            output.close()
            output.send(b"packet")
            assert "1 packet not sent" in str(output.status())


def test_closed_while_it_is_connected_it_ends_and_the_peer_has_all() -> None:
    with connected() as (peer, output):
        for index in range(20):
            output.send(numbered(index))
        output.close()
        assert [number_of(peer.receive()) for _ in range(20)] == list(range(20))
        with pytest.raises(EOFError):
            peer.receive()
        output.send(b"packet")
        assert n_failed(output) == 1
        assert str(output.status()) == f"tcp {HERE}:{peer.port} (1 packet not sent)"


@pytest.mark.parametrize("transport", ["udp", "broadcast", "multicast", "tcp"])
def test_closed_by_another_thread_while_it_sends_it_raises_nothing(transport: str) -> None:
    host = {"broadcast": "127.255.255.255", "multicast": "239.255.90.1"}.get(transport, HERE)
    interface = HERE if transport in ("broadcast", "multicast") else None
    with contextlib.closing(Peer()) as peer, ThreadPoolExecutor(1) as executor:
        target = TargetSettings(host=host, port=peer.port, transport=transport, interface=interface)
        for _ in range(20):
            output = open_output(target, QUICK)
            sending = executor.submit(lambda: [output.send(bytes(1000)) for _ in range(200)])  # noqa: B023
            str(output.status())
            output.close()
            sending.result(GENEROUS_S)
