"""What can be asked of a running program: what is done, what is refused and how, and that each is answered once."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from osc_sockets import GENEROUS_S, HERE, eventually

from realtime_mer.config import LiveSettings, TargetSettings
from realtime_mer.config.space import Values
from realtime_mer.live.controls import Controls, pause_toggle
from realtime_mer.live.recognition import Recognition, run_live
from realtime_mer.live.requests import RefusedError, Requests
from realtime_mer.live.session import Session
from realtime_mer.osc.sink import OscSink
from realtime_mer.recording import Beginning
from realtime_mer.recording.recorder import Recorder
from realtime_mer.sources import Source
from realtime_mer.updates import Answer, SourceState

TARGET = TargetSettings(HERE, 9, send=("frame",))
NO_COMMAND = "There is no such command."


class Music:
    """A source that can neither rest nor be changed."""

    state = SourceState.RUNNING

    def close(self) -> None:
        pass


class Tape(Music):
    """One that can rest."""

    def pause(self) -> None:
        self.state = SourceState.PAUSED

    def resume(self) -> None:
        self.state = SourceState.RUNNING


class Card(Tape):
    """One that can be changed, too; the answer comes later."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Answer]] = []

    def choose(self, name: str, answer: Answer) -> None:
        self.asked.append((name, answer))

    def answer_all(self) -> None:
        while self.asked:
            name, answer = self.asked.pop(0)
            if name == "none":
                answer(False, "There is no such input.")
            else:
                answer(True, f"{name} is opened")


class Recognising:
    """Stands for what the recognising thread does."""

    def __init__(self, refusal: str = "") -> None:
        self._refusal = refusal
        self.done: list[tuple[str, object]] = []
        self.thread: threading.Thread | None = None

    def reset(self) -> str:
        return self._do("reset", None)

    def prepare_recording(self) -> str:
        if self._refusal:
            raise RefusedError(self._refusal)
        return ""

    def give_up_recording(self, reason: str) -> str:
        raise RefusedError(reason)

    def start_recording(self, recorder: Any) -> str:
        return self._do("start", recorder)

    def stop_recording(self) -> str:
        return self._do("stop", None)

    def mark(self, text: str) -> str:
        return self._do("mark", text)

    def _do(self, what: str, how: object) -> str:
        self.thread = threading.current_thread()
        if self._refusal:
            raise RefusedError(self._refusal)
        self.done.append((what, how))
        return f"{what} is done"


class NewSession:
    """A session before any sound."""

    time_s = 0.0
    beginning = Beginning()

    def end_segment(self) -> list[object]:
        return []


class Real(Recognition):
    """What the recognising thread really does, before any sound."""

    def __init__(self, open_session: Callable[[], Session] | None = None) -> None:
        self.requests = Requests()
        super().__init__(
            cast(Source, Music()),
            open_session or (lambda: self._session),
            [],
            None,
            requests=self.requests,
            emit=lambda _event: None,
            ignored_packets=lambda: 0,
        )
        self._session = cast(Session, NewSession())


class Spool:
    """A recorder that records nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.finished: list[bool] = []

    def finish(self, *, open_end: bool) -> None:
        self.finished.append(open_end)


class NotingSink(OscSink):
    """Also keeps what was set."""

    def __init__(self, n_targets: int) -> None:
        super().__init__([TARGET] * n_targets)
        self.set: list[tuple[object, ...]] = []

    def set_rate(self, rate_hz: float, target: int | None) -> None:
        self.set.append((rate_hz, target))
        super().set_rate(rate_hz, target)

    def set_smoothing(self, kind: str, settle_s: float | None, target: int | None) -> None:
        self.set.append((kind, settle_s, target))
        super().set_smoothing(kind, settle_s, target)

    def set_delay(self, delay_s: float) -> None:
        self.set.append((delay_s,))
        super().set_delay(delay_s)


@dataclass
class Run:
    """A running program to send commands to."""

    sink: NotingSink
    source: Music = field(default_factory=Card)
    recognising: Recognising = field(default_factory=Recognising)
    requests: Requests = field(default_factory=Requests)
    open_recorder: Callable[[Path], Any] = Spool
    # The answers to `send`.
    answers: list[tuple[bool, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        source = cast(Source, self.source)
        self.controls = Controls(source, self.sink, self.requests, self.open_recorder)

    def carry_out(self) -> None:
        """Carries out here what was requested of the recognising thread."""
        self.requests.carry_out(cast(Recognition, self.recognising))

    def send(self, name: str, *values: float | int | str) -> None:
        self.controls.carry_out(name, values, lambda done, text: self.answers.append((done, text)))

    def ask(self, name: str, *values: float | int | str) -> tuple[bool, str]:
        """Returns the one answer."""
        n_before = len(self.answers)
        self.send(name, *values)
        if isinstance(self.source, Card):
            self.source.answer_all()
        self.wait_for(n_before + 1)
        assert len(self.answers) == n_before + 1
        return self.answers[-1]

    def wait_for(self, n: int) -> None:
        """Carries out requests until there are this many answers."""

        def are_there() -> bool:
            self.carry_out()
            return len(self.answers) >= n

        eventually(are_there)
        self.carry_out()

    def fill(self) -> None:
        """Makes requests until no more are accepted."""
        with contextlib.suppress(RefusedError):
            while True:
                self.requests.put(lambda _: "", lambda _done, _text: None)


@pytest.fixture
def sink() -> Iterator[NotingSink]:
    with contextlib.closing(NotingSink(2)) as made:
        yield made


@pytest.fixture
def run(sink: NotingSink) -> Run:
    return Run(sink)


# --- the table ---


@pytest.mark.parametrize(
    ("name", "values", "text", "changed"),
    [
        ("rate", (1.0,), "1 Hz", (1.0, None)),
        ("rate", (59.94, 2), "59.94 Hz", (59.94, 2)),
        ("rate", (120, 1), "120 Hz", (120.0, 1)),
        ("smoothing", ("spring", 0.0), "spring", ("spring", None, None)),
        ("smoothing", ("one-euro", 60.0, 1), "one-euro, 60 s", ("one-euro", 60.0, 1)),
        # As a float32 arrives.
        ("smoothing", ("linear", 0.05000000074505806), "linear, 0.05 s", ("linear", 0.05000000074505806, None)),
        ("delay", (0.0,), "0 ms", (0.0,)),
        ("delay", (10_000,), "10000 ms", (10.0,)),
    ],
)
def test_a_command_changes_what_is_sent(
    run: Run, name: str, values: Values, text: str, changed: tuple[object, ...]
) -> None:
    assert run.ask(name, *values) == (True, text)
    assert run.sink.set == [changed]


@pytest.mark.parametrize(
    ("name", "values", "done"),
    [
        ("reset", (), ("reset", None)),
        ("record/stop", (), ("stop", None)),
        ("mark", (), ("mark", "")),
        ("mark", ("chorus",), ("mark", "chorus")),
    ],
)
def test_the_recognising_thread_carries_out_or_refuses(
    run: Run, sink: NotingSink, name: str, values: Values, done: tuple[str, object]
) -> None:
    assert run.ask(name, *values) == (True, f"{done[0]} is done")
    assert run.recognising.done == [done]
    refusing = Run(sink, recognising=Recognising("No, not now."))
    assert refusing.ask(name, *values) == refusing.ask("record/start") == (False, "No, not now.")


def test_ping_is_answered_and_an_unknown_command_refused(run: Run) -> None:
    assert run.ask("ping") == (True, "pong")
    for name in ("", "Ping", "record/", "*"):
        assert run.ask(name) == (False, NO_COMMAND)


# --- the sound ---


def test_pause_and_resume(run: Run, sink: NotingSink) -> None:
    for name, state in (("pause", SourceState.PAUSED), ("resume", SourceState.RUNNING)):
        for _ in range(2):
            assert run.ask(name) == (True, f"{name}d")
            assert run.source.state is state
        assert Run(sink, Music()).ask(name) == (False, "This input cannot be paused.")
    toggle = pause_toggle(cast(Source, run.source))
    assert toggle is not None
    for state in (SourceState.PAUSED, SourceState.RUNNING):
        toggle()
        assert run.source.state is state
    assert pause_toggle(cast(Source, Music())) is None


def test_the_source_answers_a_request_for_another_device(sink: NotingSink) -> None:
    card = Card()
    run = Run(sink, card)
    run.send("device", "Line In")
    assert [name for name, _ in card.asked] == ["Line In"]
    assert run.answers == [], "it is not open yet"
    card.answer_all()
    assert run.answers == [(True, "Line In is opened")]
    assert run.ask("device", "none") == (False, "There is no such input.")
    assert not Run(sink, Tape()).ask("device", "Line In")[0]


# --- what goes out ---


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("rate", (0.5,), "Expected a rate from 1 to 120 Hz, got 0.5."),
        ("rate", (121.0,), "Expected a rate from 1 to 120 Hz, got 121.0."),
        ("rate", (float("nan"),), "Expected a rate from 1 to 120 Hz, got nan."),
        ("rate", (30.0, 0), "Expected a target from 1 to 2, got 0."),
        ("smoothing", ("Spring",), "Expected one of none, linear, spring, one-euro, got 'Spring'."),
        ("smoothing", ("spring", 0.04), "Expected a time of 0 or from 0.05 to 60 s, got 0.04."),
        ("smoothing", ("spring", 61.0), "Expected a time of 0 or from 0.05 to 60 s, got 61.0."),
        ("smoothing", ("spring", 1.0, 3), "Expected a target from 1 to 2, got 3."),
        ("delay", (-1.0,), "Expected a delay from 0 to 10000 ms, got -1.0."),
        ("delay", (10_001.0,), "Expected a delay from 0 to 10000 ms, got 10001.0."),
    ],
)
def test_a_value_out_of_range_changes_nothing(run: Run, name: str, values: Values, why: str) -> None:
    assert run.ask(name, *values) == (False, why)
    assert run.sink.set == []


def test_without_targets_only_all_targets_can_be_set() -> None:
    with contextlib.closing(NotingSink(0)) as sink:
        run = Run(sink)
        assert run.ask("rate", 30.0, 1) == (False, "There are no targets.")
        assert run.ask("rate", 30.0) == (True, "30 Hz")


# --- recording ---


@pytest.mark.parametrize(
    ("names", "folder"), [(("take 1",), "take 1"), ((), r"recording \d{4}-\d{2}-\d{2} \d{2}\.\d{2}\.\d{2}")]
)
def test_the_recording_folder_is_the_name_given_or_the_date(run: Run, names: tuple[str, ...], folder: str) -> None:
    assert run.ask("record/start", *names) == (True, "start is done")
    ((what, spool),) = run.recognising.done
    assert what == "start"
    assert isinstance(spool, Spool)
    assert re.fullmatch(folder, str(spool.directory))
    assert spool.finished == []


NAMES = ["take 1", "a", "7", "TAKE_2.final", "set-list", "a" * 80, "Console", "com10", "nul-set"]
NO_NAMES = [
    *("", ".", "..", "-rf", ".hidden", " a", "a ", "a.", "a" * 81, "a\n", "a\0b"),
    *("a/b", "/a", "a/../b", "a\\b", "\\\\server\\share", "C:a", "~", "$HOME", "%TEMP%", "a*", "a|b", "a'b"),
    *("Bühne", "ａ", "\u212a", "²", "con", "Prn", "aux", "nul.txt", "aux .txt", "COM9.log", "lpt0"),
]


def test_only_a_plain_name_is_a_recording_folder(run: Run) -> None:
    for name in NAMES:
        assert run.ask("record/start", name)[0], name
    n_done = len(run.recognising.done)
    for name in NO_NAMES:
        done, why = run.ask("record/start", name)
        assert not done, name
        assert "folder name" in why
    assert len(run.recognising.done) == n_done


def opening(opened: list[Path]) -> Callable[[Path], Spool]:
    """Opens a recorder and adds its folder to the list."""

    def open_recorder(directory: Path) -> Spool:
        opened.append(directory)
        return Spool(directory)

    return open_recorder


def test_other_commands_do_not_wait_for_the_disk(sink: NotingSink) -> None:
    is_there = threading.Event()
    threads: list[threading.Thread] = []

    def open_recorder(directory: Path) -> Spool:
        threads.append(threading.current_thread())
        assert is_there.wait(GENEROUS_S)
        return Spool(directory)

    run, other = Run(sink, open_recorder=open_recorder), Run(sink)
    run.send("record/start", "take 1")
    assert threads == [], "it is prepared first"
    run.carry_out()
    eventually(lambda: threads)
    assert other.ask("mark") == run.ask("mark") == (True, "mark is done")
    is_there.set()
    run.wait_for(2)
    assert run.answers[1:] == [(True, "start is done")]
    assert threads != [threading.current_thread()]


@dataclass
class RealRun(Run):
    """A run that really records, into folders in `place`."""

    place: Path = Path()
    recognition: Real = field(default_factory=Real)
    opened: list[Recorder] = field(default_factory=list)

    def __post_init__(self) -> None:
        def open_recorder(directory: Path) -> Recorder:
            self.opened.append(Recorder(self.place / directory, LiveSettings(), "music", "0" * 64))
            return self.opened[-1]

        self.requests, self.open_recorder = self.recognition.requests, open_recorder
        super().__post_init__()

    def carry_out(self) -> None:
        self.requests.carry_out(self.recognition)


@pytest.fixture
def real_run(sink: NotingSink, tmp_path: Path) -> Iterator[RealRun]:
    made = RealRun(sink, place=tmp_path)
    yield made
    made.recognition.close_recording()
    eventually(lambda: all(recorder.is_ended for recorder in made.opened))


def test_of_many_recordings_requested_at_once_only_one_starts(real_run: RealRun) -> None:
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda number: real_run.send("record/start", f"take {number}"), range(20)))
    real_run.wait_for(20)
    (folder,) = [text for ok, text in real_run.answers if ok]
    assert [str(path) for path in real_run.place.iterdir()] == [folder]
    refusals = {text for ok, text in real_run.answers if not ok}
    assert refusals <= {"A recording is already being started.", f"A recording is already being made, in {folder}."}
    assert len(real_run.answers) == 20


def test_while_recording_no_other_recording_starts(real_run: RealRun) -> None:
    first = real_run.place / "take 1"
    assert real_run.ask("record/start", "take 1") == (True, str(first))
    assert real_run.ask("record/start", "take 2") == (False, f"A recording is already being made, in {first}.")
    assert list(real_run.place.iterdir()) == [first]
    # One that has stopped does not count.
    real_run.opened[0].fault = "The disk is full."
    assert real_run.ask("record/start", "take 2") == (True, str(real_run.place / "take 2"))
    eventually(lambda: real_run.opened[0].is_ended)


def test_a_stop_followed_at_once_by_a_start(real_run: RealRun) -> None:
    folders = [str(real_run.place / f"take {number}") for number in range(4)]
    real_run.ask("record/start", "take 0")
    for number in range(1, 4):
        real_run.send("record/stop")
        real_run.send("record/start", f"take {number}")
        real_run.wait_for(1 + 2 * number)
        assert real_run.answers[-2:] == [(True, folders[number - 1]), (True, folders[number])]
    eventually(lambda: [recorder.is_ended for recorder in real_run.opened] == [True, True, True, False])
    assert [recorder.fault for recorder in real_run.opened] == [""] * 4


def test_after_a_failed_start_another_recording_can_start(real_run: RealRun, monkeypatch: pytest.MonkeyPatch) -> None:
    (real_run.place / "full").mkdir()
    for file in (real_run.place / "full" / "a file", real_run.place / "file"):
        file.touch()
    for name, why in (("full", "is not empty"), ("file", "is a file")):
        done, text = real_run.ask("record/start", name)
        assert not done
        assert why in text
    with monkeypatch.context() as patched:
        unhandled: list[object] = []
        patched.setattr(threading, "excepthook", unhandled.append)
        patched.setattr(Recorder, "__init__", lambda *_: 1 / 0)
        assert real_run.ask("record/start", "take 1") == (False, "ZeroDivisionError: division by zero")
        eventually(lambda: len(unhandled) == 1)

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        assert real_run.ask("record/start", "take 1") == (False, "can't start new thread")
    assert real_run.ask("record/start", "take 1") == (True, str(real_run.place / "take 1"))


def test_a_recorder_that_is_not_taken_over_is_ended(real_run: RealRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(name: str) -> Recorder:
        """The open recorder, which the recognising thread has not received yet."""
        n_before = len(real_run.opened)
        real_run.send("record/start", name)
        real_run.carry_out()
        eventually(lambda: len(real_run.opened) > n_before)
        return real_run.opened[-1]

    def break_down() -> str:
        raise ValueError("what is this?")

    with monkeypatch.context() as patched:
        patched.setattr(real_run.recognition, "reset", break_down)
        broken = ask("take 1")
        with pytest.raises(ValueError, match="what is this"):
            real_run.wait_for(1)
    left = ask("take 2")
    real_run.recognition.refuse_requests()
    eventually(lambda: len(real_run.answers) == 2)
    assert real_run.answers == [(False, "ValueError: what is this?"), (False, "The program is ending.")]
    eventually(lambda: broken.is_ended and left.is_ended)
    assert broken.fault == left.fault == ""


# --- what only the recognising thread may do ---


def test_requests_wait_for_their_thread_and_keep_their_order(run: Run) -> None:
    def ask() -> None:
        for name, values in (("mark", ("a",)), ("reset", ()), ("mark", ("b",))):
            run.send(name, *values)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(GENEROUS_S)
    assert (run.answers, run.recognising.done) == ([], [])
    for _ in range(2):
        run.carry_out()
    assert run.recognising.thread is threading.current_thread()
    assert run.recognising.done == [("mark", "a"), ("reset", None), ("mark", "b")]
    assert [text for _, text in run.answers] == ["mark is done", "reset is done", "mark is done"]


def test_the_number_of_waiting_requests_is_limited(sink: NotingSink) -> None:
    opened: list[Path] = []
    run = Run(sink, open_recorder=opening(opened))
    for _ in range(100):
        run.send("reset")
    assert run.answers == [(False, "Too many requests at once.")] * 36
    run.send("record/start")
    assert run.answers[36:] == [(False, "Too many requests at once.")]
    run.carry_out()
    assert len(run.recognising.done) == 64
    assert run.answers[37:] == [(True, "reset is done")] * 64
    assert opened == []
    assert run.ask("reset")[0], "there is room again"


def test_a_request_made_while_carrying_out_waits_for_the_next_time() -> None:
    requests = Requests()
    n_done = 0

    def again(_recognition: Recognition) -> str:
        nonlocal n_done
        n_done += 1
        requests.put(again, lambda _done, _text: None)
        return ""

    requests.put(again, lambda _done, _text: None)
    for n_rounds in range(1, 4):
        requests.carry_out(cast(Recognition, Recognising()))
        assert n_done == n_rounds


# --- each is answered, whatever happens ---


def test_every_request_is_answered_also_after_an_error_and_at_the_end() -> None:
    requests = Requests()
    answers: list[tuple[bool, str]] = []

    def answer(ok: bool, text: str) -> None:
        answers.append((ok, text))

    def break_down(_recognition: Recognition) -> str:
        raise MemoryError("too large")

    for request in (lambda _: "done", break_down, lambda _: "done"):
        requests.put(request, answer)
    with pytest.raises(MemoryError, match="too large"):
        requests.carry_out(cast(Recognition, Recognising()))
    assert answers == [(True, "done"), (False, "MemoryError: too large")]
    requests.refuse_all()
    requests.put(lambda _: "done", answer)
    requests.follow_up(lambda _: "done", answer)
    assert answers[2:] == [(False, "The program is ending.")] * 3


def test_a_run_that_fails_answers_the_waiting_requests() -> None:
    def open_session() -> Session:
        raise OSError("there is no model")

    recognition = Real(open_session)
    answers: list[tuple[bool, str]] = []
    recognition.requests.put(Recognition.reset, lambda ok, text: answers.append((ok, text)))
    stop = threading.Event()
    with pytest.raises(OSError, match="there is no model"):
        run_live(cast(Source, Music()), recognition, [], lambda stop: cast(None, stop.wait(GENEROUS_S)), stop)
    assert answers == [(False, "The program is ending.")]


def test_a_recording_that_is_stopped_while_it_is_being_begun_does_not_begin(real_run: RealRun) -> None:
    may_open = threading.Event()
    really_open = real_run.open_recorder

    def open_slowly(directory: Path) -> Recorder:
        assert may_open.wait(GENEROUS_S)
        recorder: Recorder = really_open(directory)
        return recorder

    real_run.controls._open_recorder = open_slowly
    real_run.send("record/start", "slow")
    real_run.carry_out()
    assert real_run.answers == []
    for _ in range(2):
        assert real_run.ask("record/stop") == (True, "before it began")
    may_open.set()
    real_run.wait_for(3)
    assert real_run.answers[2] == (False, "It was stopped before it began.")
    (recorder,) = real_run.opened
    eventually(lambda: recorder.is_ended)
    assert real_run.ask("record/stop") == (False, "No recording is being made.")
    assert real_run.ask("record/start", "next") == (True, str(real_run.place / "next"))
    assert real_run.ask("record/stop") == (True, str(real_run.place / "next"))
