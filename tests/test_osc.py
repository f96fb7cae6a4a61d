from __future__ import annotations

import contextlib
import ipaddress
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_message import OscMessage
from pythonosc.osc_packet import OscPacket
from pythonosc.osc_server import BlockingOSCUDPServer

from realtime_mer.osc import (
    HEARTBEAT_S,
    Message,
    OscError,
    OscSink,
    OscTarget,
    packet,
    parse_target,
    status_messages,
    update_messages,
)
from realtime_mer.status import InputLevel, LevelState, Sink, SourceState, Status, Update

GENEROUS_S = 20.0
UPDATE = Update(index=7, time_s=4.5, valence=0.25, arousal=-0.5, held=True, latency_s=0.14)
STATUS = Status("a source", SourceState.RUNNING, level=InputLevel(-6.0, -18.0, LevelState.QUIET), dropped_blocks=3)
UPDATE_CONTENT = [
    ("/mer/valence", ",f", (0.25,)),
    ("/mer/arousal", ",f", (-0.5,)),
    ("/mer/va", ",ff", (0.25, -0.5)),
    ("/mer/frame", ",i", (7,)),
    ("/mer/time", ",f", (4.5,)),
    ("/mer/held", ",i", (1,)),
]


class Receiver:
    """A UDP socket of our own on a free port."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((self.host, 0))
        self.socket.settimeout(GENEROUS_S)
        self.target = OscTarget(self.host, self.socket.getsockname()[1])

    def receive(self) -> bytes:
        return self.socket.recv(65_536)

    def drain(self) -> list[bytes]:
        """All that was sent so far: what is sent on one computer arrives in its order."""
        with socket.socket(self.socket.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", (self.target.host, self.target.port))
        return list(iter(self.receive, b"end"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.socket.close()


@pytest.fixture
def receiver6() -> Iterator[Receiver]:
    try:
        made = Receiver(socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    yield made
    made.socket.close()


def decode(datagram: bytes) -> list[tuple[str, str, tuple[object, ...]]]:
    """Addresses, type tags and values of a flat bundle, read by hand after the specification; tag: immediate."""
    assert datagram[:16] == b"#bundle\x00" + struct.pack(">Q", 1)
    found = []
    rest = datagram[16:]
    while rest:
        (size,) = struct.unpack(">i", rest[:4])
        element, rest = rest[4 : 4 + size], rest[4 + size :]
        assert len(element) == size
        assert size % 4 == 0
        address, element = take_string(element)
        types, element = take_string(element)
        values: list[object] = []
        for letter in types[1:]:
            if letter == "s":
                text, element = take_string(element)
                values.append(text)
            else:
                values.append(struct.unpack(f">{letter}", element[:4])[0])
                element = element[4:]
        assert element == b""
        found.append((address, types, tuple(values)))
    return found


def take_string(data: bytes) -> tuple[str, bytes]:
    length = data.index(b"\x00")
    padded = (length // 4 + 1) * 4
    assert not data[length:padded].strip(b"\x00")
    return data[:length].decode("ascii"), data[padded:]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- targets ---


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("localhost:1", "localhost", 1),
        ("lighting-desk.local:65535", "lighting-desk.local", 65_535),
        ("[::1]:9000", "::1", 9000),
        ("[fe80::1%eth0]:7700", "fe80::1%eth0", 7700),
        ("bühne:9000", "bühne", 9000),
    ],
)
def test_a_target_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_target(text) == OscTarget(host, port)
    assert str(parse_target(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no port"),
        ("127.0.0.1", "names no port"),
        ("localhost", "names no port"),
        ("9000", "names no host"),
        (":9000", "names no host"),
        ("localhost:", "the port must be"),
        ("localhost:0", "the port must be"),
        ("localhost:65536", "the port must be"),
        ("localhost:-1", "the port must be"),
        ("localhost:+9", "the port must be"),
        ("localhost:9 ", "the port must be"),
        ("localhost:9\n", "the port must be"),
        ("localhost:٩٠٠٠", "the port must be"),
        ("localhost:" + "9" * 5000, "the port must be"),
        ("localhost:osc", "the port must be"),
        ("[::1]:", "the port must be"),
        ("::1:9000", "square brackets"),
        ("fe80::1", "square brackets"),
        ("2001:db8:0:0:0:0:0:1:9000", "square brackets"),
        ("[::1]", "no host name"),
        ("[127.0.0.1]:9000", "no IPv6 address"),
        ("[]:9000", "no IPv6 address"),
        ("osc.udp://localhost:9000", "no host name"),
        ("user@host:9000", "no host name"),
        ("two words:9000", "no host name"),
        ("nul\x00:9000", "no host name"),
        ("a:b:9000", "no host name"),
    ],
)
def test_what_is_no_target_is_refused_with_the_reason_and_the_form(text: str, why: str) -> None:
    with pytest.raises(OscError, match=why) as caught:
        parse_target(text)
    assert str(caught.value).endswith("Expected HOST:PORT, as in 127.0.0.1:9000 or [::1]:9000.")


@given(st.text())
def test_any_text_is_a_target_or_an_osc_error(text: str) -> None:
    with contextlib.suppress(OscError):
        assert 1 <= parse_target(text).port <= 65_535


@given(st.ip_addresses().map(str), st.integers(1, 65_535))
def test_a_target_is_written_as_it_is_read(host: str, port: int) -> None:
    target = OscTarget(host, port)
    assert parse_target(str(target)) == target
    assert (str(target)[0] == "[") == (ipaddress.ip_address(host).version == 6)


# --- what is said ---


def test_a_packet_is_the_bytes_of_the_specification() -> None:
    bundle = packet([Message("/mer/va", "ff", (1.0, -2.0)), Message("/mer/status/source", "s", ("lost",))])
    assert bundle == (
        b"#bundle\0" + b"\0\0\0\0\0\0\0\1"
        b"\0\0\0\x14" + b"/mer/va\0" + b",ff\0" + b"\x3f\x80\0\0" + b"\xc0\0\0\0"
        b"\0\0\0\x20" + b"/mer/status/source\0\0" + b",s\0\0" + b"lost\0\0\0\0"
    )


def test_an_update_is_one_bundle_of_32_bit_numbers() -> None:
    assert decode(packet(update_messages(UPDATE))) == UPDATE_CONTENT
    assert decode(packet(update_messages(replace(UPDATE, held=False))))[-1] == ("/mer/held", ",i", (0,))


@given(
    st.integers(0, 2**31 - 1),
    st.floats(0, 4e5),
    st.floats(-1, 1),
    st.floats(-1, 1),
    st.booleans(),
)
def test_every_prediction_is_said_to_the_precision_of_float32(
    index: int, time_s: float, valence: float, arousal: float, held: bool
) -> None:
    said = {a: v for a, _, v in decode(packet(update_messages(Update(index, time_s, valence, arousal, held, None))))}
    assert said["/mer/frame"] == (index,)
    assert said["/mer/held"] == (int(held),)
    assert said["/mer/va"] == (*said["/mer/valence"], *said["/mer/arousal"])
    assert said["/mer/va"] == pytest.approx((valence, arousal), rel=2**-24, abs=1e-40)
    # As the module promises for the first 4e5 s, somewhat below 6 days.
    (time_said,) = said["/mer/time"]
    assert isinstance(time_said, float)
    assert abs(time_said - time_s) <= 1 / 64


@pytest.mark.parametrize("state", SourceState)
@pytest.mark.parametrize("level", [None, *LevelState])
def test_a_status_is_one_bundle(state: SourceState, level: LevelState | None) -> None:
    status = Status(
        "Bühne 音", state, level=None if level is None else InputLevel(-3.0, -9.0, level), dropped_blocks=5, losses=2
    )
    assert decode(packet(status_messages(status))) == [
        ("/mer/status/source", ",s", (state.value,)),
        ("/mer/status/input", ",s", ("none" if level is None else level.value,)),
        ("/mer/status/drops", ",i", (5,)),
        ("/mer/status/losses", ",i", (2,)),
    ]


def test_strings_are_said_under_status_only() -> None:
    for message in (*update_messages(UPDATE), *status_messages(STATUS)):
        assert ("s" in message.types) <= message.address.startswith("/mer/status/")


# --- sending ---


def test_every_target_gets_every_prediction(receiver: Receiver, receiver6: Receiver) -> None:
    sink: Sink = OscSink([receiver.target, receiver6.target])
    for index in range(3):
        sink.update(replace(UPDATE, index=index))
    sink.close()
    for one in (receiver, receiver6):
        got = [decode(datagram) for datagram in one.drain()]
        assert [content[3] for content in got] == [("/mer/frame", ",i", (index,)) for index in range(3)]
        assert got[0][:3] == UPDATE_CONTENT[:3]


def test_a_name_is_looked_up_and_ipv4_preferred(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    port = receiver.target.port
    both = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port)),
    ]
    asked: list[str] = []

    def look_up(host: str, _port: int, **_how: object) -> list[object]:
        asked.append(host)
        return list(both)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    sink = OscSink([OscTarget("desk", port)])
    for _ in range(3):
        sink.update(UPDATE)
    sink.close()
    assert len(receiver.drain()) == 3
    assert asked == ["desk"]


def test_localhost_is_found(receiver: Receiver) -> None:
    sink = OscSink([OscTarget("localhost", receiver.target.port)])
    sink.update(UPDATE)
    sink.close()
    assert decode(receiver.receive()) == UPDATE_CONTENT


@pytest.mark.parametrize("host", ["no-such-desk.invalid", "a..b", "x" * 300, "fe80::1%no-such-interface"])
def test_a_name_without_an_address_is_an_error_with_the_cure(host: str, receiver: Receiver) -> None:
    with pytest.raises(OscError, match=r"has no known address: .+\. Check the name, or give its address in numbers\."):
        OscSink([receiver.target, OscTarget(host, 9000)])


def test_a_kind_of_address_that_this_computer_lacks_is_an_error_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(OscError, match=r"IPv6 does not work on this computer \(Address family .*\)\. Give an address"):
        OscSink([OscTarget("::1", 9000)])


def test_nobody_listening_is_no_error() -> None:
    sink = OscSink([OscTarget("127.0.0.1", free_port())])
    for _ in range(50):
        sink.update(UPDATE)
        sink.status(STATUS)
    assert sink.send_errors == (0,)
    sink.close()


def test_what_cannot_be_sent_is_counted_and_hinders_no_other_target(receiver: Receiver) -> None:
    # A broadcast address, which a socket has to be allowed to send to, and ours is not.
    sink = OscSink([OscTarget("255.255.255.255", 9000), receiver.target])
    assert sink.summary() == ["255.255.255.255:9000", str(receiver.target)]
    for _ in range(3):
        sink.update(UPDATE)
    sink.status(STATUS)
    assert sink.send_errors == (4, 0)
    failing, working = sink.summary()
    assert failing.startswith("255.255.255.255:9000 (4 packets not sent: ")
    assert working == str(receiver.target)
    assert len(receiver.drain()) == 4
    sink.close()


def test_a_receiver_that_never_reads_holds_nothing_up(receiver: Receiver) -> None:
    sink = OscSink([receiver.target])
    for index in range(20_000):
        sink.update(replace(UPDATE, index=index))
    sink.close()


def test_a_closed_sink_sends_nothing_and_raises_nothing(receiver: Receiver) -> None:
    sink = OscSink([receiver.target])
    sink.close()
    sink.update(UPDATE)
    sink.status(STATUS)
    sink.close()
    assert sink.send_errors == (2,)
    assert receiver.drain() == []


def test_no_target_is_fine() -> None:
    sink = OscSink([])
    sink.update(UPDATE)
    sink.status(STATUS)
    assert sink.summary() == []
    sink.close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_status_is_said_once_a_second(receiver: Receiver) -> None:
    clock = Clock()
    sink = OscSink([receiver.target], clock)
    for tick in range(80):
        clock.now_s = 1000.0 + tick / 8
        sink.status(replace(STATUS, dropped_blocks=tick))
    sink.close()
    drops = [decode(datagram)[2][2] for datagram in receiver.drain()]
    assert drops == [(int(8 * HEARTBEAT_S) * second,) for second in range(10)]


def test_a_change_of_source_or_input_is_said_at_once(receiver: Receiver) -> None:
    clock = Clock()
    sink = OscSink([receiver.target], clock)
    lost = replace(STATUS, state=SourceState.LOST, losses=1)
    silent = replace(STATUS, level=InputLevel(-120.0, -120.0, LevelState.SILENCE))
    for status in (STATUS, replace(STATUS, time_s=0.1), lost, lost, STATUS, silent, replace(silent, level=None)):
        clock.now_s += 0.01
        sink.status(status)
    sink.close()
    said = [tuple(values[0] for _, _, values in decode(datagram)) for datagram in receiver.drain()]
    assert said == [
        ("running", "too quiet", 3, 0),
        ("lost", "too quiet", 3, 1),
        ("running", "too quiet", 3, 0),
        ("running", "silence", 3, 0),
        ("running", "none", 3, 0),
    ]


# --- receivers that we did not write ---


def test_python_osc_reads_it() -> None:
    messages: list[OscMessage] = [timed.message for timed in OscPacket(packet(update_messages(UPDATE))).messages]
    assert [(m.address, tuple(m.params)) for m in messages] == [(a, v) for a, _, v in UPDATE_CONTENT]


def test_python_oscs_server_hears_it() -> None:
    heard: list[tuple[str, tuple[object, ...]]] = []
    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda address, *values: heard.append((address, values)))
    with BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        server.timeout = GENEROUS_S
        sink = OscSink([OscTarget("127.0.0.1", server.server_address[1])])
        sink.update(UPDATE)
        sink.status(STATUS)
        sink.close()
        server.handle_request()
        server.handle_request()
    assert heard == [
        *((address, values) for address, _, values in UPDATE_CONTENT),
        ("/mer/status/source", ("running",)),
        ("/mer/status/input", ("too quiet",)),
        ("/mer/status/drops", (3,)),
        ("/mer/status/losses", (0,)),
    ]


def test_liblos_oscdump_hears_it() -> None:
    oscdump = shutil.which("oscdump")
    if oscdump is None:
        pytest.skip("no oscdump here (Debian's liblo-tools)")
    port = free_port()
    lines: list[str] = []
    with subprocess.Popen([oscdump, "-L", str(port)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reader = Thread(target=lines.extend, args=(process.stdout,))
        reader.start()
        clock = Clock()
        sink = OscSink([OscTarget("127.0.0.1", port)], clock)
        try:
            # It does not say when it listens: what comes too early is lost.
            give_up_at = time.monotonic() + GENEROUS_S
            while len(lines) < 20 and time.monotonic() < give_up_at:
                sink.update(UPDATE)
                sink.status(STATUS)
                clock.now_s += HEARTBEAT_S
                time.sleep(0.05)
        finally:
            sink.close()
            process.terminate()
            reader.join()
    said = [line.split(" ", 1)[1].strip() for line in lines]
    first = said.index("/mer/valence f 0.250000")
    assert said[first : first + 10] == [
        "/mer/valence f 0.250000",
        "/mer/arousal f -0.500000",
        "/mer/va ff 0.250000 -0.500000",
        "/mer/frame i 7",
        "/mer/time f 4.500000",
        "/mer/held i 1",
        '/mer/status/source s "running"',
        '/mer/status/input s "too quiet"',
        "/mer/status/drops i 3",
        "/mer/status/losses i 0",
    ]
