from __future__ import annotations

import contextlib
import queue
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from osc_corpus import GOOD, PING, RATE
from osc_sockets import GENEROUS_S, HERE, free_port, name_of, sender_to, skip_without, udp_socket
from pythonosc import slip
from pythonosc.tcp_client import SimpleTCPClient
from pythonosc.udp_client import SimpleUDPClient

from realtime_mer.osc import OscError, ports
from realtime_mer.osc.messages import MAX_PACKET_BYTES, Message, read_packet
from realtime_mer.osc_monitor.receiving import MOST_CONNECTIONS, Listener, Where

GROUP, GROUP6 = "239.255.77.7", "ff15::7"


class Taken:
    """What a listener gave, in order: sender, and the packet's bytes or why there is none."""

    def __init__(self) -> None:
        self.all: queue.Queue[tuple[str, bytes | str]] = queue.Queue()
        self.times_s: list[float] = []
        self.n_dropped = 0

    def packet(self, time_s: float, sender: str, datagram: bytes) -> None:
        self.times_s.append(time_s)
        self.all.put((sender, datagram))

    def refused(self, time_s: float, sender: str, reason: str) -> None:
        self.times_s.append(time_s)
        self.all.put((sender, reason))

    def dropped(self, n: int) -> None:
        self.n_dropped += n

    def next(self) -> tuple[str, bytes | str]:
        return self.all.get(timeout=GENEROUS_S)


@contextlib.contextmanager
def listening(where: Where) -> Iterator[Taken]:
    taken = Taken()
    with contextlib.closing(Listener(where)) as listener:
        thread = threading.Thread(target=listener.listen, args=(taken,))
        thread.start()
        try:
            yield taken
        finally:
            listener.stop()
            thread.join(GENEROUS_S)
            assert not thread.is_alive()


def sent_to(address: tuple[str, int], *datagrams: bytes) -> str:
    """Sends them over one socket; returns its name."""
    with udp_socket("::1" if ":" in address[0] else HERE) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, address)
        return name_of(sender)


# --- UDP ---


def test_packets_come_with_time_and_sender() -> None:
    port = free_port()
    with listening(Where("127.0.0.1", port)) as taken:
        before_s = time.monotonic()
        sender = sent_to(("127.0.0.1", port), PING, b"", b"x" * MAX_PACKET_BYTES)
        assert [taken.next() for _ in range(3)] == [(sender, PING), (sender, b""), (sender, b"x" * MAX_PACKET_BYTES)]
        assert before_s <= taken.times_s[0] <= taken.times_s[1] <= taken.times_s[2] <= time.monotonic()
        SimpleUDPClient("127.0.0.1", port).send_message("/mer/va", [0.25, -0.5])
        _, data = taken.next()
        assert isinstance(data, bytes)
        assert read_packet(data) == [Message("/mer/va", "ff", (0.25, -0.5))]


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0"])
def test_a_name_and_all_addresses(host: str) -> None:
    port = free_port()
    with listening(Where(host, port)) as taken:
        sender = sent_to(("127.0.0.1", port), PING)
        assert taken.next() == (sender, PING)


def test_ipv6_and_ipv4_on_all_addresses() -> None:
    skip_without("::1")
    port = free_port()
    with listening(Where("::1", port)) as taken:
        assert taken.next is not None
        sender = sent_to(("::1", port), PING)
        assert sender.startswith("[::1]:")
        assert taken.next() == (sender, PING)
    with listening(Where("::", port)) as taken:
        assert (sent_to(("::1", port), PING), PING) == taken.next()
        assert (sent_to(("127.0.0.1", port), PING), PING) == taken.next()


def test_a_broadcast_is_heard_on_all_addresses() -> None:
    port = free_port()
    with listening(Where("0.0.0.0", port)) as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(PING, ("127.255.255.255", port))
        assert taken.next()[1] == PING


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what it dropped")
def test_what_the_system_drops_is_counted() -> None:
    port = free_port()
    taken = Taken()
    n = 30_000
    with contextlib.closing(Listener(Where("127.0.0.1", port))) as listener:
        sent_to(("127.0.0.1", port), *[PING] * n)
        thread = threading.Thread(target=listener.listen, args=(taken,))
        thread.start()
        # The next packet that is not dropped tells.
        give_up_at = time.monotonic() + GENEROUS_S
        while taken.all.qsize() + taken.n_dropped != n and time.monotonic() < give_up_at:
            sent_to(("127.0.0.1", port), b"and")
            n += 1
            time.sleep(0.01)
        listener.stop()
        thread.join(GENEROUS_S)
    assert taken.n_dropped > 0
    assert taken.all.qsize() + taken.n_dropped == n


# --- multicast ---


def multicast_sender(interface: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
    sender.bind((interface, 0))
    return sender


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_group_is_joined_on_every_network(host: str) -> None:
    port = free_port()
    with listening(Where(host, port, GROUP)) as taken, multicast_sender("127.0.0.1") as sender:
        sender.sendto(PING, (GROUP, port))
        assert taken.next() == (name_of(sender), PING)


def test_two_hear_a_group_and_nothing_else_at_its_port() -> None:
    port = free_port()
    where = Where("127.0.0.1", port, GROUP)
    with listening(where) as one, listening(where) as other, multicast_sender("127.0.0.1") as sender:
        sender.sendto(RATE, ("127.0.0.1", port))
        sender.sendto(RATE, ("239.255.77.8", port))
        sender.sendto(PING, (GROUP, port))
        assert one.next()[1] == PING
        assert other.next()[1] == PING


def multicast6_sender() -> tuple[socket.socket, int, str]:
    """A socket that sends to IPv6 groups over the first network that has any, with that network's number and name."""
    skip_without("::1")
    for index, name in socket.if_nameindex():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        with contextlib.suppress(OSError):
            sender.sendto(PING, (GROUP6, 9, 0, index))
            return sender, index, name
        sender.close()
    pytest.skip("no multicast over IPv6 on this machine")


def test_a_group_of_ipv6_on_all_networks_and_on_the_one_that_it_names() -> None:
    port = free_port()
    sender, index, name = multicast6_sender()
    with sender:
        for group in (GROUP6, f"ff12::7%{name}"):
            with listening(Where("127.0.0.1", port, group)) as taken:
                sender.sendto(RATE, (group.partition("%")[0], port, 0, index))
                assert taken.next()[1] == RATE


@pytest.mark.parametrize(
    ("host", "group", "why"),
    [
        ("127.0.0.1", "10.0.0.1", "10.0.0.1 is no multicast group"),
        ("127.0.0.1", "fe80::1", "is no multicast group"),
        ("127.0.0.1", "ff12::7", "ff12::7 is a group within one network: say in which, as in ff12::7%eth0."),
        ("192.0.2.77", GROUP, "cannot be listened on: .* Give an address of this computer"),
        ("a host", GROUP, "cannot be listened on: .* Give an address of this computer"),
        ("127.0.0.1", "no such group", "cannot be listened on: .* Give a multicast group, such as 239.1.2.3."),
    ],
)
def test_what_is_no_group_or_no_network_is_refused(host: str, group: str, why: str) -> None:
    with pytest.raises(OscError, match=why):
        Listener(Where(host, free_port(), group))


# --- TCP ---


def test_slip_frames_of_several_connections() -> None:
    port = free_port(tcp=True)
    with (
        listening(Where("127.0.0.1", port, tcp=True)) as taken,
        sender_to(port, tcp=True) as one,
        sender_to(port, tcp=True) as other,
    ):
        one.sendall(slip.encode(PING) + slip.encode(GOOD)[:10])
        assert taken.next() == (name_of(one), PING)
        other.sendall(slip.encode(RATE))
        assert taken.next() == (name_of(other), RATE)
        one.sendall(slip.encode(GOOD)[10:])
        assert taken.next() == (name_of(one), GOOD)


def python_osc_client(port: int) -> Any:
    client: Any = SimpleTCPClient
    return client("127.0.0.1", port)


def test_python_oscs_tcp_client_is_read() -> None:
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken, python_osc_client(port) as client:
        client.send_message("/mer/va", [0.25, -0.5])
        _, data = taken.next()
        assert isinstance(data, bytes)
        assert read_packet(data) == [Message("/mer/va", "ff", (0.25, -0.5))]


def test_a_frame_may_come_byte_by_byte_without_a_first_end_and_hold_every_byte() -> None:
    port = free_port(tcp=True)
    every = bytes(range(256)) * 2
    with listening(Where("127.0.0.1", port, tcp=True)) as taken, sender_to(port, tcp=True) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in slip.encode(PING)[1:] + slip.encode(every):
            connection.sendall(bytes([byte]))
        assert taken.next()[1] == PING
        assert taken.next()[1] == every


def test_the_largest_packet_of_bytes_that_need_two() -> None:
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken, sender_to(port, tcp=True) as connection:
        connection.sendall(slip.encode(slip.END * MAX_PACKET_BYTES))
        assert taken.next()[1] == slip.END * MAX_PACKET_BYTES


def test_a_bad_frame_is_refused_and_the_next_one_is_read() -> None:
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken, sender_to(port, tcp=True) as connection:
        connection.sendall(slip.END + b"/a" + slip.ESC + b"x" + slip.END + slip.encode(PING))
        assert taken.next() == (name_of(connection), "A SLIP frame has an escape that means nothing.")
        assert taken.next() == (name_of(connection), PING)


def test_a_connection_without_frames_is_ended() -> None:
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken, sender_to(port, tcp=True) as connection:
        name = name_of(connection)
        with contextlib.suppress(OSError):
            connection.sendall(b"x" * 1_000_000)
        assert taken.next() == (name, "A SLIP frame does not end within 131014 bytes.")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""


def test_a_connection_that_ends_within_a_packet_is_told() -> None:
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken:
        with sender_to(port, tcp=True) as connection:
            name = name_of(connection)
            connection.sendall(slip.encode(PING)[:-3])
        assert taken.next() == (name, "The connection ended within a packet.")
        with sender_to(port, tcp=True) as connection:
            connection.sendall(slip.encode(PING))
            assert taken.next()[1] == PING
            # It ends without a farewell.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        with sender_to(port, tcp=True) as connection:
            connection.sendall(slip.encode(RATE))
            assert taken.next()[1] == RATE
        assert taken.all.empty()


def test_liblos_size_in_front_is_recognised() -> None:
    if shutil.which("oscsend") is None:
        pytest.skip("no oscsend on this machine (Debian's liblo-tools)")
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken:
        subprocess.run(["oscsend", f"osc.tcp://127.0.0.1:{port}", "/mer/frame", "i", "7"], check=True)
        assert taken.next()[1] == "Packets come with their size in front (OSC 1.0), not as SLIP frames."


def test_connections_are_limited_and_room_is_made_again() -> None:
    port = free_port(tcp=True)
    with listening(Where("127.0.0.1", port, tcp=True)) as taken, contextlib.ExitStack() as open_ones:
        connections = [open_ones.enter_context(sender_to(port, tcp=True)) for _ in range(MOST_CONNECTIONS)]
        for connection in connections:
            connection.sendall(slip.encode(PING))
        assert {taken.next()[0] for _ in connections} == {name_of(connection) for connection in connections}
        with sender_to(port, tcp=True) as one_more:
            assert taken.next() == (name_of(one_more), f"More than {MOST_CONNECTIONS} connections.")
            assert one_more.recv(1) == b""
        connections[0].sendall(slip.encode(RATE)[:5])
        connections[0].close()
        assert taken.next()[1] == "The connection ended within a packet."
        with sender_to(port, tcp=True) as another:
            another.sendall(slip.encode(GOOD))
            assert taken.next() == (name_of(another), GOOD)


# --- a port that cannot be had ---


@pytest.mark.parametrize("tcp", [False, True])
def test_a_port_that_is_taken_is_told_with_the_cure(tcp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_holder", lambda _port, tcp: "receiver (process 7)" if tcp else "qlcplus (process 7)")
    port = free_port(tcp=tcp)
    with contextlib.closing(Listener(Where(HERE, port, tcp=tcp))), pytest.raises(OscError) as caught:
        Listener(Where(HERE, port, tcp=tcp))
    assert str(caught.value) == (
        f"{HERE}:{port}{' (TCP)' if tcp else ''} cannot be listened on: {'receiver' if tcp else 'qlcplus'} (process 7) "
        "has this port. End it, or have the sender send to another port too, and listen on that one: "
        "realtime-mer osc-monitor PORT"
    )


def test_a_tcp_port_is_free_again_at_once() -> None:
    port = free_port(tcp=True)
    with contextlib.ExitStack() as connections:
        for _ in range(2):
            # It is the one that ends the connection, and so has to wait for what may still come.
            with listening(Where(HERE, port, tcp=True)) as taken:
                connection = connections.enter_context(sender_to(port, tcp=True))
                connection.sendall(slip.encode(PING))
                assert taken.next()[1] == PING


# --- where nothing arrives ---


def test_hints_are_about_what_is_listened_on() -> None:
    hints = "\n".join(Where("127.0.0.1", 9000).hints())
    assert "to port 9000" in hints
    assert "--tcp" in hints
    assert "realtime-mer osc-monitor 9000 --host 0.0.0.0" in hints
    hints = "\n".join(Where("0.0.0.0", 9000).hints())
    assert "firewall" in hints
    assert "--host" not in hints
    hints = "\n".join(Where("127.0.0.1", 9000, tcp=True).hints())
    assert "SLIP" in hints
    assert "realtime-mer osc-monitor 9000 --tcp --host 0.0.0.0" in hints
    assert "group" in "\n".join(Where("127.0.0.1", 9000, GROUP).hints())


def test_where_in_words() -> None:
    assert str(Where("127.0.0.1", 9000)) == "127.0.0.1:9000"
    assert str(Where("::1", 9000, tcp=True)) == "[::1]:9000 (TCP)"
    assert str(Where("127.0.0.1", 9000, GROUP)) == f"{GROUP}:9000"
