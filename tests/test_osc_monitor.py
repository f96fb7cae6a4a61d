"""osc-monitor: what it counts and times, what it receives, and the command as a process."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from osc_corpus import BAD, GOOD, PING, RATE, STRANGE
from osc_sockets import GENEROUS_S, HERE, eventually, free_port, name_of, sender_to, skip_without, udp_socket
from pseudo_terminal import on_a_terminal
from pythonosc import slip
from rich.console import Console

from realtime_mer.errors import OutputError
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import MAX_PACKET_BYTES, Message, packet
from realtime_mer.osc.ports import Datagrams
from realtime_mer.osc_monitor.command import Monitor, run
from realtime_mer.osc_monitor.receiving import MOST_CONNECTIONS, Receiver, Where
from realtime_mer.osc_monitor.traffic import MOST_ADDRESSES, MOST_SENDERS, Arrivals, Traffic, values_text

ROOT = Path(__file__).resolve().parents[1]
GROUP, GROUP6 = "239.255.77.7", "ff15::7"
SENDER = "127.0.0.1:53211"

# --- what is counted and timed ---


@pytest.mark.parametrize(
    ("times_s", "rate_hz", "jitter_ms"),
    [
        ([1.0], None, None),
        ([1.0, 1.5], 2.0, None),
        ([1.0, 1.0, 1.0], None, 0.0),
        # Intervals of 10 and 30 ms in turn.
        ([0.02 * k + 0.01 * (k % 2) for k in range(51)], 50.0, 10.0),
        # Only the last WINDOW_S count.
        ([0.0, 0.3, *(20 + k / 8 for k in range(30))], 8.0, 0.0),
    ],
)
def test_rate_and_jitter_are_of_the_intervals(
    times_s: list[float], rate_hz: float | None, jitter_ms: float | None
) -> None:
    arrivals = Arrivals()
    for time_s in times_s:
        arrivals.add(time_s, "f 0.5")
    assert arrivals.timing() == (
        None if rate_hz is None else pytest.approx(rate_hz),
        None if jitter_ms is None else pytest.approx(jitter_ms, abs=1e-6),
    )


def test_everything_is_counted_and_every_message_has_a_text() -> None:
    traffic = Traffic()
    two = packet([Message("/a", "i", (1,)), Message("/b", "s", ("lost",))])
    assert traffic.add(0.0, "x:1", two) == ["/a i 1", "/b s 'lost'"]
    assert traffic.add(1.0, "x:2", PING) == ["/mer/control/ping"]
    assert traffic.add(2.0, "x:1", two)
    assert traffic.add(3.0, "x:3", b"junk1") == ["malformed: The packet has 5 bytes; OSC's have a multiple of 4."]
    assert traffic.add(4.0, "x:4", "Too much.") == ["malformed: Too much."]
    assert (traffic.packets, traffic.messages, traffic.malformed) == (3, 5, 2)
    assert traffic.last_malformed == "from x:4: Too much."
    assert list(traffic.senders.items()) == [("x:2", 1), ("x:1", 2)]
    assert {address: arrivals.count for address, arrivals in traffic.addresses.items()} == {
        **{"/a": 2, "/b": 2, "/mer/control/ping": 1}
    }


def test_memory_is_bounded() -> None:
    traffic = Traffic()
    for k in range(MOST_ADDRESSES + 9):
        traffic.add(k / 1000, f"x:{k}", packet([Message(f"/{k}", "s", ("x" * 200,))]))
    for k in range(400):
        traffic.add(1.0 + k / 1000, "x:1", packet([Message("/0", "", ())]))
    assert (len(traffic.addresses), traffic.hidden, len(traffic.senders)) == (MOST_ADDRESSES, 9, MOST_SENDERS)
    assert max(len(arrivals.times_s) for arrivals in traffic.addresses.values()) <= 256
    assert max(len(arrivals.values) for arrivals in traffic.addresses.values()) <= 120


def test_values_are_shown_in_short_printable_ascii() -> None:
    shown = {"fd": (0.25, 0.1234567890123), "s": ("a\x1b[2J\n\x9b\x7fü",), "[iTN]b": ([1, True, None], b"\x00")}
    assert [values_text(Message("/a", types, values)) for types, values in shown.items()] == [
        "fd 0.25 0.123457",
        r"s 'a\x1b[2J\n\x9b\x7f\xfc'",
        r"[iTN]b [1, True, None] b'\x00'",
    ]
    traffic = Traffic()
    for data in (*BAD.values(), *STRANGE.values()):
        for text in traffic.add(0.0, SENDER, data):
            assert len(text) < 400
            assert text.isascii()
            assert text.isprintable()
    assert (traffic.malformed, traffic.packets) == (len(BAD), len(STRANGE))


# --- what is received ---


@contextlib.contextmanager
def receiver(where: Where) -> Iterator[tuple[Receiver, Callable[[], tuple[str, bytes | str]]]]:
    """A receiver, and a function that returns the next sender with its packet or fault."""
    taken: list[tuple[str, bytes | str]] = []
    with contextlib.closing(Receiver(where, lambda _time_s, *what: taken.append(what))) as made:

        def is_received() -> bool:
            made.receive(0.0)
            return bool(taken)

        def take() -> tuple[str, bytes | str]:
            eventually(is_received)
            return taken.pop(0)

        yield made, take


def send_to(address: tuple[str, int], *datagrams: bytes) -> str:
    """Over one socket; returns its name."""
    with udp_socket("::1" if ":" in address[0] else HERE) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, address)
        return name_of(sender)


@pytest.mark.parametrize(("host", "to"), [("localhost", HERE), ("::", "::1"), ("::", HERE)])
def test_udp_packets_come_with_their_sender(host: str, to: str) -> None:
    skip_without(host)
    port = free_port()
    with receiver(Where(host, port)) as (_, take):
        sender = send_to((to, port), PING, b"", b"x" * MAX_PACKET_BYTES)
        assert [take() for _ in range(3)] == [(sender, PING), (sender, b""), (sender, b"x" * MAX_PACKET_BYTES)]


def test_dropped_packets_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    received = iter([(PING, (HERE, 9), 2), (PING, (HERE, 9), 3)])
    monkeypatch.setattr(Datagrams, "receive", lambda _: next(received))
    with receiver(Where(HERE, free_port())) as (made, _):
        with pytest.raises(StopIteration):
            made._read_datagrams()
        assert made.dropped == 5


def multicast_sender() -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
    sender.bind((HERE, 0))
    return sender


@pytest.mark.parametrize("host", [HERE, "0.0.0.0"])
def test_two_receive_a_group_and_nothing_else_at_its_port(host: str) -> None:
    port = free_port()
    where = Where(host, port, GROUP)
    with receiver(where) as (_, one), receiver(where) as (_, other), multicast_sender() as sender:
        sender.sendto(RATE, (HERE, port))
        sender.sendto(RATE, ("239.255.77.8", port))
        sender.sendto(PING, (GROUP, port))
        assert one() == other() == (name_of(sender), PING)


def test_an_ipv6_group_on_all_networks_and_on_the_one_that_it_names() -> None:
    skip_without("::1")
    port = free_port()
    for index, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            try:
                sender.sendto(PING, (GROUP6, 9, 0, index))
            except OSError:
                continue
            for group in (GROUP6, f"ff12::7%{name}"):
                with receiver(Where(HERE, port, group)) as (_, take):
                    sender.sendto(RATE, (group.partition("%")[0], port, 0, index))
                    assert take()[1] == RATE
            return
    pytest.skip("no multicast over IPv6 on this machine")


@pytest.mark.parametrize(
    ("host", "group", "why"),
    [
        (HERE, "10.0.0.1", "10.0.0.1 is not a multicast group"),
        ("192.0.2.77", GROUP, "cannot be listened on: "),
        ("a host", GROUP, "cannot be listened on: "),
        (HERE, "no such group", "cannot be listened on: .* Give a multicast group, such as 239.1.2.3."),
    ],
)
def test_a_group_or_network_that_cannot_be_used_is_refused(host: str, group: str, why: str) -> None:
    with pytest.raises(OscError, match=why):
        Receiver(Where(host, free_port(), group), lambda *_: None)


def test_slip_frames_of_several_connections() -> None:
    port = free_port(tcp=True)
    connect = functools.partial(sender_to, port, tcp=True)
    with receiver(Where(HERE, port, tcp=True)) as (_, take), connect() as one, connect() as other:
        one.sendall(slip.encode(PING) + slip.encode(GOOD)[:10])
        assert take() == (name_of(one), PING)
        other.sendall(slip.encode(RATE))
        assert take() == (name_of(other), RATE)
        one.sendall(slip.encode(GOOD)[10:])
        assert take() == (name_of(one), GOOD)
        # Without a first END, in pieces, and of bytes that need two.
        for data in (bytes(range(1, 256)), slip.END * MAX_PACKET_BYTES):
            other.sendall(slip.encode(data)[1:])
            assert take() == (name_of(other), data)


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (slip.END + b"/a" + slip.ESC + b"x" + slip.END, "A SLIP frame has an invalid escape."),
        (b"x" * (2 * MAX_PACKET_BYTES + 1), "A SLIP frame does not end within 131014 bytes."),
        (slip.encode(PING)[:-3], "The connection ended within a packet."),
        (struct.pack(">i", len(PING)) + PING, "Packets come with their size in front (OSC 1.0), not as SLIP frames."),
    ],
)
def test_a_bad_frame_is_refused_and_other_connections_are_read(sent: bytes, fault: str) -> None:
    port = free_port(tcp=True)
    with receiver(Where(HERE, port, tcp=True)) as (_, take):
        with sender_to(port, tcp=True) as bad:
            name = name_of(bad)
            bad.sendall(sent)
        assert take() == (name, fault)
        with sender_to(port, tcp=True) as good:
            good.sendall(slip.encode(PING))
            assert take() == (name_of(good), PING)
            # A reset ends it without a fault.
            good.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        with sender_to(port, tcp=True) as good:
            good.sendall(slip.encode(RATE))
            assert take() == (name_of(good), RATE)


def test_the_number_of_connections_is_limited() -> None:
    port = free_port(tcp=True)
    with receiver(Where(HERE, port, tcp=True)) as (_, take), contextlib.ExitStack() as opened:
        connections = [opened.enter_context(sender_to(port, tcp=True)) for _ in range(MOST_CONNECTIONS)]
        for connection in connections:
            connection.sendall(slip.encode(PING))
        assert {take()[0] for _ in connections} == {name_of(connection) for connection in connections}
        with sender_to(port, tcp=True) as one_more:
            assert take() == (name_of(one_more), f"More than {MOST_CONNECTIONS} connections.")
        connections[0].sendall(slip.encode(RATE)[:5])
        connections[0].close()
        assert take()[1] == "The connection ended within a packet."
        with sender_to(port, tcp=True) as another:
            another.sendall(slip.encode(GOOD))
            assert take() == (name_of(another), GOOD)


@pytest.mark.parametrize("tcp", [False, True])
def test_a_port_is_refused_while_it_is_in_use_and_free_at_once_afterwards(tcp: bool) -> None:
    where = Where(HERE, free_port(tcp=tcp), tcp=tcp)
    with contextlib.ExitStack() as connections:
        for _ in range(2):
            with receiver(where) as (_, take):
                with pytest.raises(OscError, match=r"cannot be listened on: .*osc-monitor PORT"):
                    Receiver(where, lambda *_: None)
                # The side that ends a TCP connection has to wait for late packets.
                sender = connections.enter_context(sender_to(where.port, tcp=tcp))
                sender.sendall(slip.encode(PING) if tcp else PING)
                assert take()[1] == PING


# --- what is shown ---


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with contextlib.closing(Monitor(Where(HERE, free_port()), print_lines=False)) as made:
        yield made


def shown(monitor: Monitor, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(monitor.view())
    return captured.get()


def test_the_table_shows_addresses_values_rates_jitter_and_senders(monitor: Monitor) -> None:
    assert "Nothing has arrived yet." in shown(monitor)
    assert "add --host 0.0.0.0" in shown(monitor)
    assert "to this group" in " ".join(Where("0.0.0.0", 9000, GROUP).hints())
    now_s = time.monotonic()
    for k in range(33):
        monitor.traffic.add(now_s + k / 16, SENDER, packet([Message(f"/{n}", "f", (0.5,)) for n in range(9)]))
    monitor.traffic.add(now_s + 9.0, "10.0.0.7:1", "A string does not end.")
    monitor._receiver.dropped = 5
    for text in (
        *(", 33 packets, 297 messages, 1 malformed, 5 dropped here", "from 127.0.0.1:53211 (33)"),
        "last malformed: from 10.0.0.7:1: A string does not end.",
    ):
        assert text in shown(monitor)
    assert re.search(r"\n/8 +33 +16\.00 +0\.0 +-?\d+\.\d +f 0\.5 *\n", shown(monitor))
    # Each address stays on one line of a narrow terminal.
    monitor.traffic.add(now_s, SENDER, packet([Message("/" + "x" * 90, "s", ("y" * 90,))]))
    lines = shown(monitor, width=50).splitlines()
    assert max(map(len, lines)) <= 50
    assert sum("x" * 5 in line for line in lines) == 1


# --- the command ---

PROGRAM = """
import fcntl, sys, termios
if sys.argv[1] == "terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from realtime_mer.osc_monitor.command import run
run("127.0.0.1", int(sys.argv[2]), multicast=None, tcp="tcp" in sys.argv, plain="plain" in sys.argv, seconds=None)
print("ends", flush=True)
"""


@pytest.mark.slow
def test_a_pipe_gets_a_line_for_each_message_and_a_summary() -> None:
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, "pipe", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process, sender_to(port) as sender:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline().startswith("realtime-mer: listening on 127.0.0.1:")
        sender.send(packet([Message("/mer/valence", "f", (0.123,)), Message("/mer/status/source", "s", ("lost",))]))
        sender.send(b"no packet")
        first = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=GENEROUS_S)
    assert (process.returncode, errors) == (0, "")
    lines = output.splitlines()
    pattern = r"\d+\.\d{3} 127\.0\.0\.1:\d+ "
    assert re.fullmatch(pattern + r"/mer/valence f 0\.123\n", first[0])
    assert re.fullmatch(pattern + r"/mer/status/source s 'lost'\n", first[1])
    assert re.fullmatch(pattern + r"malformed: The packet has 9 bytes; OSC's have a multiple of 4\.\n", first[2])
    assert re.fullmatch(rf"\d+ s on 127\.0\.0\.1:{port}, 1 packets, 2 messages, 1 malformed", lines[1])
    assert any(line.startswith("/mer/valence ") and line.rstrip().endswith("  f 0.123") for line in lines)
    assert lines[-1] == "ends"


def test_a_closed_reader_a_full_disk_and_no_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_with(out: object) -> None:
        monkeypatch.setattr(sys, "stdout", out)
        run(HERE, free_port(), multicast=None, tcp=False, plain=True, seconds=1e-9)

    class Failing(io.StringIO):
        def __init__(self, error: OSError) -> None:
            self.error = error

        def write(self, _text: str) -> int:
            raise self.error

    with pytest.raises(BrokenPipeError):
        run_with(Failing(BrokenPipeError(32, "Broken pipe")))
    with pytest.raises(OutputError, match="The output cannot be written: No space left on device"):
        run_with(Failing(OSError(28, "No space left on device")))
    # With `seconds` it ends by itself.
    run_with(None)
    assert "osc monitor" not in [thread.name for thread in threading.enumerate()]


def test_a_port_that_is_lost_ends_it_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(_datagrams: object) -> None:
        raise OSError(100, "Network is down")

    monkeypatch.setattr("realtime_mer.osc.ports.Datagrams.receive", lose)
    port = free_port()
    sending = threading.Timer(0.1, lambda: send_to((HERE, port), PING))
    sending.start()
    with pytest.raises(OscError, match=f"127.0.0.1:{port} cannot be read any more: Network is down"):
        run(HERE, port, multicast=None, tcp=False, plain=True, seconds=None)
    sending.join()


def sends(port: int, n_addresses: int) -> Callable[[], None]:
    def send() -> None:
        with sender_to(port) as sender:
            sender.send(packet([Message(f"/desk/{k:02}", "f", (k / 8,)) for k in range(n_addresses)]))

    return send


def test_on_a_terminal_there_is_a_table_until_ctrl_c() -> None:
    port = free_port()
    script: list[tuple[bytes, Callable[[], None] | bytes]] = [
        (b"Nothing has arrived yet", sends(port, 3)),
        (b"/desk/02", b"\x03"),
    ]
    code, wrote = on_a_terminal(PROGRAM, "terminal", str(port), script=script)
    assert code == 0
    assert b"listening on" not in wrote
    last = wrote.rpartition(b" s on ")[2]
    assert last.startswith(f"127.0.0.1:{port}, 1 packets, 3 messages".encode())
    assert b"/desk/02" in last
    assert last.rstrip().endswith(b"ends")


@pytest.mark.slow
def test_plain_lines_on_a_terminal() -> None:
    port = free_port()
    script: list[tuple[bytes, Callable[[], None] | bytes]] = [
        (b"listening on 127.0.0.1", sends(port, 2)),
        (b"/desk/01 f 0.125\r\n", b"\x03"),
    ]
    code, wrote = on_a_terminal(PROGRAM, "terminal", str(port), "plain", script=script)
    assert code == 0
    assert b"jitter" in wrote
    assert b"1 packets, 2 messages" in wrote
