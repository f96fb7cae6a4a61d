"""All targets together, over real sockets."""

from __future__ import annotations

import contextlib
import errno
import io
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from osc_examples import Decoded, decode
from osc_sockets import GENEROUS_S, HERE, Receiver, eventually, receiving
from pythonosc.osc_message import OscMessage

from realtime_mer.config import TargetSettings
from realtime_mer.osc import sink as sink_module
from realtime_mer.osc.composing import Event
from realtime_mer.osc.messages import Message
from realtime_mer.osc.sink import OscSink
from realtime_mer.osc.status import TargetState, TargetStatus
from realtime_mer.osc.transports import Output
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

UPDATE = Update(7, Prediction(4.5, 0.25, -0.5), True, 0.14)
STATUS = Status("a source", SourceState.RUNNING, level=InputLevel(-6.0, -30.0, LevelState.QUIET), dropped_blocks=3)
FRAMES = ("frame",)


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    yield
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("osc ")])


@contextlib.contextmanager
def sending(*targets: TargetSettings, delay_s: float = 0.0) -> Iterator[OscSink]:
    with contextlib.closing(OscSink(targets, delay_s)) as sink:
        yield sink


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def bundle(receiver: Receiver) -> list[Decoded]:
    """The next one."""
    return decode(receiver.receive())


def bundles_so_far(receiver: Receiver) -> list[list[Decoded]]:
    return [decode(datagram) for datagram in receiver.drain()]


def target(receiver: Receiver, send: Sequence[str] = FRAMES, host: str | None = None) -> TargetSettings:
    return TargetSettings(host or receiver.host, receiver.port, send=tuple(send))


def frames(bundles: Sequence[Sequence[Decoded]]) -> list[object]:
    return [values[0] for bundle in bundles for address, _, values in bundle if address == "/mer/frame"]


def texts(sink: OscSink) -> list[str]:
    return list(map(str, sink.target_statuses()))


def not_sent(sink: OscSink) -> tuple[int, ...]:
    """How many packets each target did not get."""
    return tuple(status.n_failed + status.n_late for status in sink.target_statuses())


@pytest.fixture
def hang() -> Iterator[Callable[[list[Message]], None]]:
    """A listener that does not return before the end of the test."""
    released = threading.Event()

    def take(_messages: list[Message]) -> None:
        # Longer than any test waits.
        released.wait(5 * GENEROUS_S)

    yield take
    released.set()


def close(sink: OscSink) -> None:
    """In another thread, so that a test that hangs fails."""
    closing = threading.Thread(target=sink.close, daemon=True)
    closing.start()
    closing.join(GENEROUS_S)
    assert not closing.is_alive(), "it does not come back"


# --- what arrives ---


def test_a_prediction_arrives_as_one_bundle_and_a_status_as_another(receiver: Receiver) -> None:
    with sending(target(receiver, ["valence", "va", "held", "frame", "status/source", "status/ack"])) as sink:
        sink.update(UPDATE)
        sink.status(STATUS)
        sink.event(Event("status/ack", ("ping", "pong")))
        bundles = [bundle(receiver) for _ in range(3)]
        assert receiver.drain() == []
    assert bundles == [
        [
            ("/mer/valence", "f", (0.25,)),
            ("/mer/va", "ff", (0.25, -0.5)),
            ("/mer/held", "i", (1,)),
            ("/mer/frame", "i", (7,)),
        ],
        [("/mer/status/source", "s", ("running",))],
        [("/mer/status/ack", "ss", ("ping", "pong"))],
    ]


# --- targets that misbehave ---


def test_targets_that_misbehave_hinder_no_other(
    receiver: Receiver, hang: Callable[[list[Message]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = socket.getaddrinfo
    unanswered = threading.Event()

    def look_up(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        if host == "slow-desk":
            assert unanswered.wait(GENEROUS_S)
            raise OSError("no answer")
        return list(really(host, *args, **kwargs))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with socket.socket() as stuck:
        # The system connects it; nothing reads.
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.bind((HERE, 0))
        stuck.listen()
        port = stuck.getsockname()[1]
        sink = OscSink(
            [
                TargetSettings("slow-desk", 9000),
                TargetSettings(port=port, transport="tcp", rate_hz=120.0),
                target(receiver),
            ]
        )
        sink.add_listener(TargetSettings(send=FRAMES), hang)
        listened: queue.SimpleQueue[object] = queue.SimpleQueue()
        sink.add_listener(TargetSettings(send=FRAMES), lambda messages: listened.put(messages[0].values[0]))
        eventually(lambda: sink.target_statuses()[1].is_up)
        for index in range(400):
            sink.update(replace(UPDATE, index=index))
            assert frames([bundle(receiver)]) == [index]
            assert listened.get(timeout=GENEROUS_S) == index
        eventually(lambda: not_sent(sink)[1] > 0)
        summary, errors = texts(sink), not_sent(sink)
        close(sink)
        unanswered.set()
    assert errors[0] > 0
    assert errors[2] == 0
    assert summary[0].startswith("slow-desk:9000 (not sending yet; ")
    assert summary[1].startswith(f"tcp {HERE}:{port} (")
    assert "not sent" in summary[1]
    assert summary[2] == f"{HERE}:{receiver.port}"


class FailingOutput(Output):
    """The output of a target that is up or not."""

    def __init__(self) -> None:
        self.is_up = False
        self.n_failed = 0
        self.is_closed = False
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> bool:
        if self.is_up:
            self.sent.append(data)
        else:
            self.n_failed += 1
        return self.is_up

    def status(self) -> TargetStatus:
        return TargetStatus("a desk", TargetState.UP if self.is_up else TargetState.OPENING)

    def close(self) -> None:
        self.is_closed = True

    def _keep_open(self) -> None:
        pass


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> FailingOutput:
    output = FailingOutput()
    monkeypatch.setattr(sink_module, "open_output", lambda _target: output)
    return output


def test_late_items_are_counted(failing: FailingOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(failing, "send", lambda _data: released.wait(GENEROUS_S))
    failing.is_up = True
    sink = OscSink([TargetSettings(send=FRAMES)])
    try:
        assert texts(sink) == ["a desk"]
        for _ in range(2000):
            sink.update(UPDATE)
        # One may already have been taken from the mailbox when it was full.
        (n_missing,) = not_sent(sink)
        assert n_missing in (2000 - 1024, 2000 - 1025)
        assert texts(sink) == [f"a desk ({n_missing} not taken in time)"]
        close(sink)
        assert failing.is_closed
    finally:
        released.set()


NO_OSC = "realtime-mer: no OSC to a desk (not sending yet)\n"
OSC_AGAIN = "realtime-mer: OSC goes again to a desk\n"


def test_one_notice_is_shown_if_a_target_fails_and_one_if_it_is_back(
    failing: FailingOutput, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(sink_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    send = sink_module._Encoder(failing, TargetSettings()).send

    def notice(is_up: bool, after_s: float) -> str:
        """Of the next attempt."""
        nonlocal now_s
        failing.is_up = is_up
        now_s += after_s
        assert send([Message("/1", "i", (1,))]) is is_up
        return capsys.readouterr().err

    assert [notice(True, 0.0), notice(False, 1.0), notice(False, 1.9)] == ["", "", ""]
    # After a success the patience starts again.
    assert [notice(True, 0.0), notice(False, 1.0), notice(False, 1.9)] == ["", "", ""]
    assert [notice(False, 0.1), notice(False, 5.0), notice(False, 50.0)] == [NO_OSC, "", ""]
    assert [notice(True, 1.0), notice(True, 1.0)] == [OSC_AGAIN, ""]
    assert [notice(False, 9.0), notice(False, 2.0), notice(True, 0.1)] == ["", NO_OSC, OSC_AGAIN]


@pytest.mark.parametrize("first", [False, True])
def test_without_bundles_each_message_is_a_packet_and_is_tried_even_if_another_fails(first: bool) -> None:
    class Halting(FailingOutput):
        def send(self, data: bytes) -> bool:
            self.is_up = not self.is_up
            return super().send(data)

    output = Halting()
    output.is_up = first
    messages = [Message("/1", "i", (1,)), Message("/2", "i", (2,))]
    assert not sink_module._Encoder(output, TargetSettings(bundle=False)).send(messages)
    assert [OscMessage(data).params for data in output.sent] == [[2 if first else 1]]
    assert output.n_failed == 1


def test_without_standard_error_it_goes_on(failing: FailingOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        n_written = 0

        def write(self, _text: str) -> int:
            self.n_written += 1
            raise OSError(errno.EIO, "the terminal is gone")

    gone = Gone()
    monkeypatch.setattr(sys, "stderr", gone)
    monkeypatch.setattr(sink_module, "_PATIENCE_S", 0.0)
    with sending(TargetSettings(send=FRAMES)) as sink:
        for index in range(3):
            sink.update(replace(UPDATE, index=index))
        eventually(lambda: failing.n_failed == 3)
        assert gone.n_written == 1
        failing.is_up = True
        for index in (3, 4):
            sink.update(replace(UPDATE, index=index))
        eventually(lambda: len(failing.sent) == 2)
    assert gone.n_written == 2
    assert frames([decode(data) for data in failing.sent]) == [3, 4]


def test_with_on_change_a_target_that_is_back_gets_what_it_missed(failing: FailingOutput) -> None:
    settings = TargetSettings(send=("valence", "held"), on_change=True)
    everything = [("/mer/valence", "f", (0.25,)), ("/mer/held", "i", (1,))]
    with sending(settings) as sink:
        failing.is_up = True
        sink.update(UPDATE)
        eventually(lambda: len(failing.sent) == 1)
        failing.is_up = False
        sink.update(replace(UPDATE, held=False))
        eventually(lambda: failing.n_failed == 1)
        failing.is_up = True
        sink.update(UPDATE)
        eventually(lambda: len(failing.sent) == 2)
    assert [decode(data) for data in failing.sent] == [everything, everything]


# --- the end ---


def test_closing_sends_the_answers_and_the_last_status_despite_the_delay(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However busy the machine is.
    monkeypatch.setattr(sink_module, "_JOIN_TIMEOUT_S", GENEROUS_S)
    sink = OscSink([target(receiver, ["frame", "status/source", "status/ack"])], delay_s=10.0)
    for index in range(20):
        sink.update(replace(UPDATE, index=index))
        sink.status(STATUS)
    sink.event(Event("status/ack", ("record/stop", "take 1")))
    sink.status(replace(STATUS, state=SourceState.ENDED))
    close(sink)
    assert bundles_so_far(receiver) == [
        [("/mer/status/ack", "ss", ("record/stop", "take 1"))],
        [("/mer/status/source", "s", ("ended",))],
    ]


def test_closing_does_not_wait_for_a_target_that_hangs(
    receiver: Receiver, hang: Callable[[list[Message]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "_JOIN_TIMEOUT_S", 0.5)
    sink = OscSink([target(receiver)])
    sink.add_listener(TargetSettings(), hang)
    sink.update(UPDATE)
    assert frames([bundle(receiver)]) == [7]
    close(sink)
    # Nor a second time.
    monkeypatch.setattr(sink_module, "_JOIN_TIMEOUT_S", 2 * GENEROUS_S)
    close(sink)


# --- what can be changed ---


def test_the_smoothing_of_one_target_or_of_all_can_be_changed(receiver: Receiver) -> None:
    settings = replace(target(receiver, ["smooth/valence"]), rate_hz=120.0, smoothing="linear", settle_s=60.0)

    def latest(of: Receiver) -> float:
        of.drain()
        ((_, _, (value,)),) = bundle(of)
        assert isinstance(value, float)
        return value

    with receiving() as other, sending(settings, replace(settings, port=other.port)) as sink:
        listened: list[object] = []
        sink.add_listener(replace(settings, port=9), lambda messages: listened.append(messages[0].values[0]))
        sink.update(Update(0, Prediction(0.5, 1.0, 0.0), False, None))
        sink.set_smoothing("none", None, 1)
        eventually(lambda: latest(receiver) == 1.0)
        assert latest(other) != 1.0
        eventually(lambda: listened)
        assert listened[-1] != 1.0
        sink.set_smoothing("none", None, None)
        eventually(lambda: latest(other) == 1.0 and listened[-1] == 1.0)


def test_the_delay_can_be_changed_for_all_and_for_later_listeners(receiver: Receiver) -> None:
    arrived_s: list[float] = []

    def listen(_messages: list[Message]) -> None:
        arrived_s.append(time.monotonic())

    with sending(target(receiver), delay_s=0.1) as sink:
        sink.add_listener(TargetSettings(send=FRAMES), listen)
        sink.set_delay(0.3)
        sink.add_listener(TargetSettings(send=FRAMES), listen)
        put_s = time.monotonic()
        sink.update(UPDATE)
        assert frames([bundle(receiver)]) == [7]
        arrived_s.append(time.monotonic())
        eventually(lambda: len(arrived_s) == 3)
        assert min(arrived_s) >= put_s + 0.3


def test_a_listener_gets_what_a_target_would_be_sent(receiver: Receiver) -> None:
    settings = target(receiver, ["valence", "event/*"])
    taken: list[list[Message]] = []
    with sending(settings) as sink:
        sink.add_listener(replace(settings, prefix=""), taken.append)
        assert sink.n_targets == 1
        sink.update(replace(UPDATE, held=False, quadrant=4))
        sink.event(Event("event/mark", (1,)))
        eventually(lambda: len(taken) == 2)
        assert len(texts(sink)) == 1
        assert [len(bundle(receiver)) for _ in range(2)] == [3, 1]
    assert taken == [
        [
            Message("/valence", "f", (0.25,)),
            Message("/event/quadrant", "i", (4,)),
            Message("/event/music", "i", (1,)),
        ],
        [Message("/event/mark", "i", (1,))],
    ]
