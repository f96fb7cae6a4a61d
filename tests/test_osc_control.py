"""The control port: what a packet asks for, the answers, floods, and its end. Damaged packets: test_hostile.py."""

from __future__ import annotations

import contextlib
import gc
import math
import queue
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from osc_corpus import BAD, LARGEST_UDP_BYTES, PING, RATE, SMOOTHING, STRANGE, blob, bundle, message, string
from osc_sockets import GENEROUS_S, HERE, eventually, udp_socket
from pythonosc.osc_packet import OscPacket

from realtime_mer.config.space import COMMANDS, Values
from realtime_mer.osc import control
from realtime_mer.osc.control import (
    CONTROL,
    MAX_ANSWER,
    MAX_BYTES,
    MAX_MESSAGES,
    MAX_TEXT,
    ControlServer,
    Order,
    Refusal,
    read_commands,
)
from realtime_mer.osc.messages import PacketError
from realtime_mer.updates import Answer

REPORTS_DROPS = sys.platform == "linux"
NAN, INFINITY = math.nan, math.inf

# Sends packets as fast as it can. Arguments: port, seconds; input: the packet in hexadecimal. Prints a line when the
# flood has begun, and the number of packets at the end.
FLOODER = """
import socket, sys, time
datagram, target = bytes.fromhex(sys.stdin.readline()), ("127.0.0.1", int(sys.argv[1]))
flood, sent, end_s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0, time.monotonic() + float(sys.argv[2])
while time.monotonic() < end_s:
    for _ in range(50):
        flood.sendto(datagram, target)
    sent += 50
    if sent == 5000:
        print("begun", flush=True)
print(sent)
"""


class Program:
    """Records the commands that a control port passes on, and answers each as `obey` does."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, Values]] = []
        self.reported: queue.Queue[tuple[bool, str, str]] = queue.Queue()
        self.obey: Callable[[str, Values, Answer], None] = lambda name, _values, answer: answer(True, f"{name}: done")

    def carry_out(self, name: str, values: Values, answer: Answer) -> None:
        self.orders.append((name, values))
        self.obey(name, values, answer)

    def report(self, carried_out: bool, name: str, text: str) -> None:
        self.reported.put((carried_out, name, text))

    def next_report(self) -> tuple[bool, str, str]:
        return self.reported.get(timeout=GENEROUS_S)

    def opened(self, host: str = HERE, port: int = 0) -> ControlServer:
        return ControlServer(host, port, self.carry_out, self.report)


class Desk:
    """A socket that sends commands, and is answered."""

    def __init__(self, port: int, host: str = HERE) -> None:
        self.socket = udp_socket(host)
        self.target = (host, port)

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.target)

    def answer(self) -> tuple[str, str, str]:
        """The next one, as python-osc reads it: the address's last part, the command, the text."""
        datagram = self.socket.recv(LARGEST_UDP_BYTES)
        assert datagram.startswith(b"#bundle\0" + struct.pack(">Q", 1))
        ((_, message),) = OscPacket(datagram).messages
        name, text = message.params
        assert message.address in ("/mer/status/ack", "/mer/status/error")
        return message.address.rpartition("/")[2], name, text

    def ping(self) -> None:
        """Returns when everything that was sent before has been processed, and all answers were received."""
        self.send(PING)
        assert self.answer() == ("ack", "ping", "ping: done")


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def server(program: Program) -> Iterator[ControlServer]:
    with contextlib.closing(program.opened()) as made:
        yield made


@pytest.fixture
def desk(server: ControlServer) -> Iterator[Desk]:
    made = Desk(server.port)
    with made.socket:
        yield made


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that send a lot, and are not about that."""
    monkeypatch.setattr(control, "_RATE_HZ", 1e9)


def command(name: str, tags: str = "", values: bytes = b"") -> bytes:
    return message(f"{CONTROL}{name}", tags, values)


def floats(*values: float) -> bytes:
    return struct.pack(f">{len(values)}f", *values)


def ints(*values: int) -> bytes:
    return struct.pack(f">{len(values)}i", *values)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "control port"}


def wait_for_end(before: set[threading.Thread]) -> None:
    for thread in threads() - before:
        thread.join(GENEROUS_S)
        assert not thread.is_alive()


# --- what a packet asks for ---

PRESSED = [("f", floats(0.01)), ("i", ints(127)), ("d", struct.pack(">d", 0.5)), ("h", bytes([1] * 8)), ("T", b"")]
PRESSED += [("I", b"")]


@pytest.mark.parametrize(
    ("datagram", "name", "values"),
    [
        (string("/mer/control/pause"), "pause", ()),
        (command("rate", "i", ints(30)), "rate", (30.0,)),
        (command("rate", "ff", floats(30, 2**30)), "rate", (30.0, 2**30)),
        # Numbers of the other types.
        (command("rate", "dh", struct.pack(">dq", 29.5, 2)), "rate", (29.5, 2)),
        (command("rate", "TT"), "rate", (1.0, 1)),
        (command("delay", "F"), "delay", (0.0,)),
        (command("smoothing", "sdh", string("spring") + struct.pack(">dq", 0.25, 1)), "smoothing", ("spring", 0.25, 1)),
        (command("device", "s", string("Bühne 2")), "device", ("Bühne 2",)),
        (command("device", "s", string("x" * MAX_TEXT)), "device", ("x" * MAX_TEXT,)),
        # A button that is pressed.
        *((command("pause", tags, value), "pause", ()) for tags, value in PRESSED),
        (command("mark", "N"), "mark", ()),
    ],
)
def test_commands_are_understood(datagram: bytes, name: str, values: Values) -> None:
    (order,) = read_commands(datagram)
    assert order == Order(name, values)
    assert isinstance(order, Order)
    assert [type(value) for value in order.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("tags", "value"), [("f", floats(-0.0)), ("i", ints(0)), ("d", bytes(8)), ("h", bytes(8)), ("F", b"")]
)
def test_a_released_button_is_no_command(tags: str, value: bytes) -> None:
    # With required values, and with optional ones.
    assert read_commands(bundle(*(command(name, tags, value) for name in ("pause", "mark")))) == [None, None]


@pytest.mark.parametrize(
    ("datagram", "name", "reason"),
    [
        (command("puase"), "puase", "unknown command; there are pause, resume, "),
        (command(""), "", "unknown command; "),
        (command("record"), "record", "unknown command; "),
        (command("rate"), "rate", "got no value; expected: a number, optionally followed by a whole number"),
        (command("rate", "s", string("fast")), "rate", "got values of the types s; expected: a number, "),
        (command("rate", "[f]", floats(30)), "rate", "got values of the types [f]; "),
        (command("rate", "f" * 100, floats(*[1] * 100)), "rate", "got values of the types fffffffff...; "),
        (command("rate", "f", floats(NAN)), "rate", "nan is not a finite number; "),
        (command("rate", "d", struct.pack(">d", INFINITY)), "rate", "inf is not a finite number; "),
        (command("rate", "ff", floats(30, 1.5)), "rate", "1.5 is not a whole number of 32 bits; "),
        (command("rate", "fh", floats(30) + struct.pack(">q", 2**31)), "rate", "2.14748e+09 is not a whole number"),
        (command("device", "i", ints(3)), "device", "got values of the types i; expected: a text"),
        (command("device", "s", string("x" * 501)), "device", "the text has 501 characters, the limit is 500; "),
        (command("device", "s", string("a\n\x1b[2J")), "device", "the text has characters that cannot be printed; "),
        (command("pause", "f", floats(-1)), "pause", "-1 is not what a button sends; expected: no value"),
        (command("pause", "f", floats(NAN)), "pause", "nan is not a finite number; expected: no value"),
        (command("pause", "ff", floats(1, 1)), "pause", "got values of the types ff; expected: no value"),
        (command("mark", "b", blob(b"x")), "mark", "got values of the types b; expected: no value, optionally "),
        *(
            (message(address), None, f"{address} is not below {CONTROL}")
            for address in ("/", "/mer/control", "/a/ping")
        ),
    ],
)
def test_a_refusal_shows_what_was_expected(datagram: bytes, name: str | None, reason: str) -> None:
    (refusal,) = read_commands(datagram)
    assert isinstance(refusal, Refusal)
    assert refusal.name == name
    assert refusal.reason.startswith(reason)
    assert len(refusal.reason) <= MAX_ANSWER


def test_the_size_of_a_packet_is_limited() -> None:
    assert read_commands(bundle(*[PING] * MAX_MESSAGES)) == [Order("ping", ())] * MAX_MESSAGES
    with pytest.raises(PacketError, match="got 65"):
        read_commands(bundle(*[PING] * (MAX_MESSAGES + 1)))
    largest = command("mark", "s", string("x" * (MAX_BYTES - 25)))
    (refusal,) = read_commands(largest)
    assert isinstance(refusal, Refusal)
    with pytest.raises(PacketError, match="Expected at most 8192 bytes, got 8196"):
        read_commands(largest + bytes(4))


# --- the port ---


def test_a_command_is_carried_out_and_its_sender_is_answered(
    server: ControlServer, desk: Desk, program: Program
) -> None:
    other = Desk(server.port)
    with other.socket:
        desk.send(RATE)
        assert program.next_report() == (True, "rate", "rate: done")
        other.send(SMOOTHING)
        assert desk.answer() == ("ack", "rate", "rate: done")
        assert other.answer() == ("ack", "smoothing", "smoothing: done")
        desk.ping()
    assert program.orders == [("rate", (30.0, 1)), ("smoothing", ("spring", 0.5)), ("ping", ())]
    assert server.ignored == 0
    assert str(server.status()) == f"commands on 127.0.0.1:{server.port}: 3 taken"


def test_an_answer_may_come_later_from_another_thread_but_only_once(desk: Desk, program: Program) -> None:
    pending: list[Answer] = []
    program.obey = lambda name, _values, answer: (
        pending.append(answer) if name == "device" else answer(True, f"{name}: done")
    )
    desk.send(command("device", "s", string("microphone")))
    desk.ping()
    (answer,) = pending
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(answer, [True] * 8, ["opened"] * 8))
    answer(False, "lost")
    assert desk.answer() == ("ack", "device", "opened")
    desk.ping()
    assert [program.next_report()[1] for _ in range(3)] == ["ping", "device", "ping"]
    assert program.reported.empty()


def test_a_fault_in_carrying_out_is_an_error_and_the_port_lives_on(
    server: ControlServer, desk: Desk, program: Program
) -> None:
    def fail(name: str, _values: Values, answer: Answer) -> None:
        if name == "mark":
            answer(True, "marked")
        if name != "ping":
            raise RuntimeError("no such thing")
        answer(True, "ping: done")

    program.obey = fail
    desk.send(bundle(command("pause"), PING, command("mark")))
    assert desk.answer() == ("error", "pause", "this program failed: RuntimeError: no such thing")
    assert desk.answer() == ("ack", "ping", "ping: done")
    assert desk.answer() == ("ack", "mark", "marked")
    desk.ping()
    assert server.ignored == 0


def test_a_bundle_is_carried_out_in_its_order(server: ControlServer, desk: Desk, program: Program) -> None:
    desk.send(bundle(RATE, bundle(command("nope"), SMOOTHING), command("pause", "f", floats(0)), PING))
    answers = [desk.answer() for _ in range(4)]
    assert [answer[:2] for answer in answers] == [
        ("ack", "rate"),
        ("error", "nope"),
        ("ack", "smoothing"),
        ("ack", "ping"),
    ]
    assert answers[1][2].startswith("unknown command; there are pause, ")
    assert [name for name, _ in program.orders] == ["rate", "smoothing", "ping"]
    assert server.ignored == 1
    assert [program.next_report() for _ in range(4)] == [(kind == "ack", name, text) for kind, name, text in answers]


def test_other_addresses_are_counted_but_not_answered(server: ControlServer, desk: Desk, program: Program) -> None:
    desk.send(message("/lights/1", "f", floats(1)))
    desk.send(bundle())
    desk.ping()
    assert server.ignored == 2
    assert program.next_report()[1] == "ping"
    assert program.reported.empty()
    mine = desk.socket.getsockname()
    assert str(server.status()) == (
        f"commands on 127.0.0.1:{server.port}: 1 taken, 2 ignored "
        f"(the last: a bundle without messages; from 127.0.0.1:{mine[1]})"
    )


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Bühne:\n 21 °C\t♫", "B?hne: 21 ?C ?"),
        ("\x1b[2J\x00\x7f\udc80", "?[2J???"),
        ("x" * 200, "x" * 200),
        ("x" * 1_000_000, "x" * 197 + "..."),
    ],
)
def test_answers_are_short_printable_ascii(desk: Desk, program: Program, text: str, plain: str) -> None:
    for kind in ("ack", "error"):
        program.obey = lambda _name, _values, answer, kind=kind: answer(kind == "ack", text)  # type: ignore[misc]
        desk.send(RATE)
        assert desk.answer() == (kind, "rate", plain)
        assert program.next_report() == (kind == "ack", "rate", plain)


# --- packets of every kind ---


def test_strange_packets_have_valid_orders_at_most() -> None:
    by_name = {command.name: command for command in COMMANDS}
    names = []
    for datagram in STRANGE.values():
        with contextlib.suppress(PacketError):  # too large, or too many messages
            for result in read_commands(datagram):
                if isinstance(result, Refusal):
                    assert result.reason.isprintable()
                elif result is not None:
                    names.append(result.name)
                    types = by_name[result.name].types + by_name[result.name].optional
                    kinds = [{"s": str, "f": float, "i": int}[letter] for letter in types]
                    assert list(map(type, result.values)) == kinds[: len(result.values)]
    assert Counter(names) == {"rate": 6, "ping": 4, "mark": 1, "smoothing": 1}


@pytest.mark.usefixtures("unlimited")
def test_bad_packets_are_counted_and_the_port_lives_on(server: ControlServer, desk: Desk) -> None:
    packets = [data for data in BAD.values() if len(data) <= MAX_BYTES] + [bytes(MAX_BYTES + 4)]
    for n, datagram in enumerate(packets, start=1):
        desk.send(datagram)
        eventually(lambda n=n: server.ignored == n)  # type: ignore[misc]
    desk.ping()
    assert len(str(server.status())) < 200


# --- floods ---


def test_after_each_packet_the_port_waits_as_long_as_its_work_allows(
    server: ControlServer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s: list[float] = []
    monkeypatch.setattr(server._closing, "wait", waits_s.append)
    # It looks in vain, and does not wait.
    eventually(lambda: waits_s)
    # Small, with many messages, long, and too large to be read.
    for packet in (bytes(112), bundle(*[PING] * 64), bytes(4096), bytes(MAX_BYTES + 4)):
        desk.send(packet)
    eventually(lambda: sum(map(bool, waits_s)) == 4)
    assert [wait_s for wait_s in waits_s if wait_s] == [1 / 200, 64 / 200, 32 / 200, 1 / 200]


@contextlib.contextmanager
def flood(port: int, datagram: bytes, duration_s: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", FLOODER, str(port), str(duration_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flooder:
        assert flooder.stdin is not None
        assert flooder.stdout is not None
        try:
            print(datagram.hex(), file=flooder.stdin, flush=True)
            assert flooder.stdout.readline() == "begun\n"
            yield flooder
        finally:
            flooder.kill()


@pytest.mark.slow
def test_after_a_flood_commands_are_taken_as_before(server: ControlServer, desk: Desk, program: Program) -> None:
    desk.send(bytes(16))
    desk.ping()
    n_threads = threading.active_count()
    gc.collect()
    tracemalloc.start()
    try:
        held_bytes, _ = tracemalloc.get_traced_memory()
        with flood(server.port, bytes(112), 1.0) as flooder:
            assert flooder.stdout is not None
            n_sent = int(flooder.stdout.read())
        n_pings = 0

        def are_taken() -> bool:
            # Again and again, since a full buffer drops some. The system reports what it dropped with the next packet
            # that it does not drop.
            nonlocal n_pings
            desk.send(PING)
            n_pings += 1
            return len(program.orders) >= 4

        eventually(are_taken)
        gc.collect()
        grown_bytes = tracemalloc.get_traced_memory()[0] - held_bytes
    finally:
        tracemalloc.stop()
    assert threading.active_count() == n_threads
    # Over 200 packets were read; kept, they would be more than this.
    assert grown_bytes < 20_000
    assert server.ignored + len(program.orders) <= 2 + n_sent + n_pings
    if REPORTS_DROPS:
        # Packets that the network's own queue drops are not counted.
        assert server.ignored > 64


def test_a_flood_does_not_hold_up_the_end(program: Program) -> None:
    before = threads()
    server = program.opened()
    with flood(server.port, bundle(*[PING] * 64), GENEROUS_S):
        server.close()
        wait_for_end(before)


# --- beginning and end ---


def test_the_end_frees_the_port_and_is_harmless_twice(program: Program) -> None:
    before = threads()
    server = program.opened()
    assert len(threads() - before) == 1
    server.close()
    server.close()
    wait_for_end(before)
    assert threads() == before
    again = program.opened(port=server.port)
    again.close()
    wait_for_end(before)


def test_an_answer_after_the_end_is_reported_but_not_sent(server: ControlServer, desk: Desk, program: Program) -> None:
    pending: queue.Queue[Answer] = queue.Queue()
    program.obey = lambda _name, _values, answer: pending.put(answer)
    desk.send(RATE)
    answer = pending.get(timeout=GENEROUS_S)
    server.close()
    eventually(lambda: not server._thread.is_alive())
    answer(True, "late")
    assert program.next_report() == (True, "rate", "late")
    desk.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        desk.socket.recv(1)
