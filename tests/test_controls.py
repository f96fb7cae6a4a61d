"""What can be asked of a running program: what is done, what is refused and how, and that each is answered once."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osc_sockets import GENEROUS_S, HERE, eventually

from realtime_mer.config import LiveSettings, TargetSettings
from realtime_mer.config.osc import SMOOTHINGS
from realtime_mer.config.space import COMMANDS, Command, Values
from realtime_mer.live.controls import Controls, pause_toggle
from realtime_mer.live.recognition import Recognition, run_live
from realtime_mer.live.requests import RefusedError, Requests
from realtime_mer.live.session import Session
from realtime_mer.osc.sink import OscSink
from realtime_mer.recording import Beginning, RecordingError
from realtime_mer.recording.recorder import Recorder
from realtime_mer.sources import Source
from realtime_mer.updates import Answer, SourceState

TARGET = TargetSettings(HERE, 9, send=("frame",))
NO_COMMAND = "There is no such command."
A_DATE = r"recording \d{4}-\d{2}-\d{2} \d{2}\.\d{2}\.\d{2}"


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
    """What the recognising thread would do."""

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


class Unheard:
    """A session that has heard nothing."""

    time_s = 0.0
    beginning = Beginning()

    def end_segment(self) -> list[object]:
        return []


class Real(Recognition):
    """What the recognising thread really does, before any sound."""

    def __init__(self, open_session: Callable[[], Session] | None = None) -> None:
        source = cast(Source, Music())
        super().__init__(
            source,
            open_session or (lambda: self._session),
            [],
            None,
            requests=Requests(),
            emit=lambda _event: None,
            ignored_packets=lambda: 0,
        )
        self._session = cast(Session, Unheard())

    @property
    def requests(self) -> Requests:
        return self._requests


class Spool:
    """A recorder that records nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.finished: list[bool] = []

    def finish(self, *, open_end: bool) -> None:
        self.finished.append(open_end)


class Told(OscSink):
    """Also keeps what it was told."""

    def __init__(self, n_targets: int) -> None:
        super().__init__([TARGET] * n_targets)
        self.told: list[tuple[object, ...]] = []

    def set_rate(self, rate_hz: float, target: int | None) -> None:
        self.told.append((rate_hz, target))
        super().set_rate(rate_hz, target)

    def set_smoothing(self, kind: str, settle_s: float | None, target: int | None) -> None:
        self.told.append((kind, settle_s, target))
        super().set_smoothing(kind, settle_s, target)

    def set_delay(self, delay_s: float) -> None:
        self.told.append((delay_s,))
        super().set_delay(delay_s)


@dataclass
class Run:
    """A program that runs, to be asked for things."""

    sink: Told
    source: Music = field(default_factory=Card)
    recognising: Recognising = field(default_factory=Recognising)
    requests: Requests = field(default_factory=Requests)
    open_recorder: Callable[[Path], Any] = Spool

    def __post_init__(self) -> None:
        source = cast(Source, self.source)
        self.controls = Controls(source, self.sink, self.requests, self.open_recorder)

    def carry_out(self) -> None:
        """What was asked for of the recognising thread, here."""
        self.requests.carry_out(cast(Recognition, self.recognising))

    def ask(self, name: str, *values: float | int | str) -> tuple[bool, str]:
        """Returns the one answer, when everybody had time for it."""
        answers: list[tuple[bool, str]] = []
        self.controls.carry_out(name, values, lambda done, text: answers.append((done, text)))
        if isinstance(self.source, Card):
            self.source.answer_all()
        self.wait_for(answers, 1)
        (answer,) = answers
        return answer

    def wait_for(self, answers: list[tuple[bool, str]], n: int) -> None:
        """Carries out until there are so many."""

        def are_there() -> bool:
            self.carry_out()
            return len(answers) >= n

        eventually(are_there)
        self.carry_out()

    def fill(self) -> None:
        """Asks for so much that nothing more is taken."""
        with contextlib.suppress(RefusedError):
            while True:
                self.requests.put(lambda _: "", lambda _done, _text: None)


@pytest.fixture
def sink() -> Iterator[Told]:
    with contextlib.closing(Told(2)) as made:
        yield made


@pytest.fixture
def run(sink: Told) -> Run:
    return Run(sink)


# --- the table ---


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_of_the_table_is_understood(sink: Told, command: Command) -> None:
    example: dict[str, float | int | str] = {"f": 1.0, "i": 1, "s": "spring"}
    every = command.types + command.optional
    for n_values in range(len(command.types), len(every) + 1):
        assert Run(sink).ask(command.name, *(example[letter] for letter in every[:n_values]))[0]


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("reset", (), "reset is done"),
        ("device", ("Line In",), "Line In is opened"),
        ("record/stop", (), "stop is done"),
        ("ping", (), "pong"),
    ],
)
def test_a_command_is_answered(run: Run, name: str, values: Values, text: str) -> None:
    assert run.ask(name, *values) == (True, text)


@pytest.mark.parametrize("name", ["", "Ping", "record/", "/ping"])
def test_an_unknown_command_is_refused(run: Run, name: str) -> None:
    assert run.ask(name) == (False, NO_COMMAND)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
VALUES: dict[str, st.SearchStrategy[float | int | str]] = {
    "f": st.sampled_from([0.0, 0.04, 0.05, 1.0, 60.0, 120.0, 120.5, 10_000.0, -1.0]) | FLOATS,
    "i": st.integers(-3, 4) | st.integers(-(2**31), 2**31 - 1),
    "s": st.sampled_from([*SMOOTHINGS, "none", "take 1", "../up", "NUL", ""]) | st.text(max_size=500),
}


@st.composite
def asked_for(draw: st.DrawFn) -> tuple[str, Values]:
    """A command of the table, with values of its types."""
    command = draw(st.sampled_from(COMMANDS))
    n_optional = draw(st.integers(0, len(command.optional)))
    types = command.types + command.optional[:n_optional]
    return command.name, tuple(draw(VALUES[letter]) for letter in types)


def make_or_refuse(directory: Path) -> Spool:
    if len(directory.name) > 5:
        raise RecordingError(f"The folder {directory} is not empty. Nothing is overwritten: give a new folder.")
    return Spool(directory)


@pytest.mark.parametrize("n_targets", [0, 1, 2])
def test_whatever_is_asked_for_is_answered_once_and_a_refusal_is_a_sentence(n_targets: int) -> None:
    with contextlib.closing(Told(n_targets)) as sink:

        @settings(max_examples=200)
        @given(
            st.lists(asked_for(), min_size=1, max_size=4),
            st.sampled_from([Music, Tape, Card]),
            st.sampled_from(["", "No recording is being made."]),
            st.booleans(),
        )
        def check(asked: list[tuple[str, Values]], source: type[Music], refusal: str, is_full: bool) -> None:
            run = Run(sink, source(), Recognising(refusal), open_recorder=make_or_refuse)
            sink.told.clear()
            for name, values in asked:
                if is_full:
                    run.fill()
                done, text = run.ask(name, *values)
                assert text
                assert text != NO_COMMAND
                if not done:
                    assert re.fullmatch(r"[A-Z].*\.", text, re.DOTALL)
            for told in sink.told:
                target = told[-1] if len(told) > 1 else None
                assert target is None or target in range(1, n_targets + 1)

        check()


# --- the sound ---


def test_a_source_that_can_rest_is_paused_and_resumed(run: Run) -> None:
    states = []
    for name in ("pause", "pause", "resume", "resume"):
        assert run.ask(name)[0]
        states.append(run.source.state)
    assert states == [SourceState.PAUSED, SourceState.PAUSED, SourceState.RUNNING, SourceState.RUNNING]


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_one_that_cannot_is_not(sink: Told, name: str) -> None:
    assert Run(sink, Music()).ask(name) == (False, "This input cannot be paused.")


def test_another_device_is_chosen_by_the_source_which_answers(sink: Told) -> None:
    card = Card()
    run = Run(sink, card)
    answers: list[tuple[bool, str]] = []
    run.controls.carry_out("device", ("Line In",), lambda done, text: answers.append((done, text)))
    assert [name for name, _ in card.asked] == ["Line In"]
    assert answers == [], "it is not open yet"
    card.answer_all()
    assert answers == [(True, "Line In is opened")]
    assert run.ask("device", "none") == (False, "There is no such input.")
    assert Run(sink, Tape()).ask("device", "Line In") == (
        False,
        "The input is a file, so there is no device to change.",
    )


def test_pause_and_resume_in_turn() -> None:
    tape = Tape()
    toggle = pause_toggle(cast(Source, tape))
    assert toggle is not None
    states = []
    for _ in range(3):
        toggle()
        states.append(tape.state)
    assert states == [SourceState.PAUSED, SourceState.RUNNING, SourceState.PAUSED]
    assert pause_toggle(cast(Source, Music())) is None


# --- what goes out ---


@pytest.mark.parametrize(
    ("name", "values", "text", "told"),
    [
        ("rate", (1.0,), "1 Hz", (1.0, None)),
        ("rate", (59.94, 1), "59.94 Hz", (59.94, 1)),
        ("rate", (120, 2), "120 Hz", (120.0, 2)),
        ("smoothing", ("none",), "none", ("none", None, None)),
        ("smoothing", ("spring", 0.0), "spring", ("spring", None, None)),
        ("smoothing", ("spring", 0.05, 2), "spring, 0.05 s", ("spring", 0.05, 2)),
        ("smoothing", ("one-euro", 60.0, 1), "one-euro, 60 s", ("one-euro", 60.0, 1)),
        ("delay", (0.0,), "0 ms", (0.0,)),
        ("delay", (10_000,), "10000 ms", (10.0,)),
    ],
)
def test_the_output_is_changed(run: Run, name: str, values: Values, text: str, told: tuple[object, ...]) -> None:
    assert run.ask(name, *values) == (True, text)
    assert run.sink.told == [told]


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("rate", (0.5,), "Expected a rate from 1 to 120 Hz, got 0.5."),
        ("rate", (121.0,), "Expected a rate from 1 to 120 Hz, got 121.0."),
        ("rate", (float("nan"),), "Expected a rate from 1 to 120 Hz, got nan."),
        ("rate", (30.0, 0), "Expected a target from 1 to 2, got 0."),
        ("rate", (30.0, 3), "Expected a target from 1 to 2, got 3."),
        ("smoothing", ("sprung",), "Expected one of none, linear, spring, one-euro, got 'sprung'."),
        ("smoothing", ("spring", 0.04), "Expected a time of 0 or from 0.05 to 60 s, got 0.04."),
        ("smoothing", ("spring", 61.0), "Expected a time of 0 or from 0.05 to 60 s, got 61.0."),
        ("smoothing", ("spring", 1.0, 3), "Expected a target from 1 to 2, got 3."),
        ("delay", (-1.0,), "Expected a delay from 0 to 10000 ms, got -1.0."),
        ("delay", (10_001.0,), "Expected a delay from 0 to 10000 ms, got 10001.0."),
    ],
)
def test_values_out_of_range_change_nothing(run: Run, name: str, values: Values, why: str) -> None:
    assert run.ask(name, *values) == (False, why)
    assert run.sink.told == []


def test_without_targets_none_can_be_named_but_all_can() -> None:
    with contextlib.closing(Told(0)) as sink:
        run = Run(sink)
        assert run.ask("rate", 30.0, 1) == (False, "There are no targets.")
        assert run.ask("rate", 30.0) == (True, "30 Hz")


# --- recording ---


def test_without_a_name_the_folder_has_a_date(run: Run) -> None:
    assert run.ask("record/start")[0]
    ((_, spool),) = run.recognising.done
    assert isinstance(spool, Spool)
    assert re.fullmatch(A_DATE, str(spool.directory))


NAMES = [
    "take 1",
    "a",
    "7",
    "TAKE_2.final",
    "set-list",
    "a" * 80,
    "Console",
    "con1",
    "com",
    "com10",
    "nul-set",
    "auxin",
]
NO_NAMES = [
    *("", " ", ".", "..", "...", "-rf", "_a", ".hidden", " a", "a ", "a.", "a .", "a" * 81, "a\n", "a\0b", "a\tb"),
    *("a/b", "/a", "a/", "../a", "a/../b", "a\\b", "\\\\server\\share", "C:", "C:\\a", "C:a", "~", "~/a", "a:b"),
    *("$HOME", "%TEMP%", "a*", "a?", "a|b", "a<b", 'a"b', "a'b", "a;b", "Bühne", "ａ", "\u212a", "²"),
    *("con", "CON", "Prn", "aux", "NUL", "nul.txt", "con.a.b", "aux .txt", "com1", "COM9.log", "lpt0", "LPT3"),
]


def test_plain_names_are_names(run: Run) -> None:
    for name in NAMES:
        assert run.ask("record/start", name)[0], name


def test_names_that_lead_elsewhere_or_mean_something_else_are_refused(run: Run) -> None:
    for name in NO_NAMES:
        done, why = run.ask("record/start", name)
        assert not done, name
        assert why.startswith("Expected a folder name of letters, digits, spaces and _ . -, got ")
    assert run.recognising.done == []


NEARLY_NAMES = st.one_of(
    st.text(max_size=90),
    st.text(st.sampled_from("aZ09 ._-/\\:"), max_size=8),
    st.builds(
        "{}{}".format,
        st.sampled_from(["con", "PRN", "aux", "nul", "COM1", "lpt9"]),
        st.text(st.sampled_from(" .a1"), max_size=4),
    ),
)


@settings(max_examples=500)
@given(NEARLY_NAMES)
def test_whatever_is_taken_for_a_name_is_one_everywhere(name: str) -> None:
    opened: list[Path] = []

    def open_recorder(directory: Path) -> Spool:
        opened.append(directory)
        return Spool(directory)

    with contextlib.closing(Told(0)) as sink:
        done, _ = Run(sink, open_recorder=open_recorder).ask("record/start", name)
    assert opened == ([Path(name)] if done else [])
    if done:
        assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
        # As Windows' own rule has it, too: the part before the first dot, without spaces, is no device.
        device = name.partition(".")[0].rstrip(" ").upper()
        assert not re.fullmatch(r"CON|PRN|AUX|NUL|COM\d|LPT\d", device)
        assert name[0] not in "-. "
        assert name[-1] not in ". "
        assert name.isascii()
        assert name.isprintable()


def real_recorder(tmp_path: Path) -> Callable[[Path], Recorder]:
    return lambda directory: Recorder(tmp_path / directory, LiveSettings(), "music", "0" * 64)


def test_a_folder_that_cannot_be_recorded_into_is_refused(sink: Told, tmp_path: Path) -> None:
    run = Run(sink, open_recorder=real_recorder(tmp_path))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a file").touch()
    (tmp_path / "file").touch()
    assert run.ask("record/start", "full") == (
        False,
        f"The folder {tmp_path / 'full'} is not empty. Nothing is overwritten: give a new folder.",
    )
    done, why = run.ask("record/start", "file")
    assert not done
    assert why.endswith("is a file; a recording needs a folder of its own.")
    assert run.recognising.done == []


def test_where_too_much_is_asked_for_no_recording_is_opened(sink: Told) -> None:
    opened: list[Path] = []

    def open_recorder(directory: Path) -> Spool:
        opened.append(directory)
        return Spool(directory)

    run = Run(sink, open_recorder=open_recorder)
    run.fill()
    assert run.ask("record/start", "take 1") == (False, "Too many requests at once.")
    assert opened == []


def test_nobody_waits_for_the_disk(sink: Told) -> None:
    is_there = threading.Event()
    threads: list[threading.Thread] = []

    def open_recorder(directory: Path) -> Spool:
        threads.append(threading.current_thread())
        assert is_there.wait(GENEROUS_S)
        return Spool(directory)

    run = Run(sink, open_recorder=open_recorder)
    answers: list[tuple[bool, str]] = []
    run.controls.carry_out("record/start", ("take 1",), lambda done, text: answers.append((done, text)))
    assert threads == [], "it is prepared first"
    assert run.ask("mark") == (True, "mark is done")
    eventually(lambda: threads)
    assert run.ask("mark") == (True, "mark is done")
    assert answers == []
    is_there.set()
    run.wait_for(answers, 1)
    assert answers == [(True, "start is done")]
    assert threads != [threading.current_thread()]


@dataclass
class RealRun(Run):
    """One that really records. Relative folders are made in `place`."""

    place: Path = Path()
    recognition: Real = field(default_factory=Real)
    opened: list[Recorder] = field(default_factory=list)

    def __post_init__(self) -> None:
        def open_recorder(directory: Path) -> Recorder:
            self.opened.append(real_recorder(self.place)(directory))
            return self.opened[-1]

        self.requests, self.open_recorder = self.recognition.requests, open_recorder
        super().__post_init__()

    def carry_out(self) -> None:
        self.requests.carry_out(self.recognition)


@pytest.fixture
def real_run(sink: Told, tmp_path: Path) -> Iterator[RealRun]:
    made = RealRun(sink, place=tmp_path)
    yield made
    made.recognition.close_recording()
    eventually(lambda: all(recorder.is_ended for recorder in made.opened))


def test_of_many_recordings_asked_for_at_once_one_is_begun_and_leaves_the_only_folder(real_run: RealRun) -> None:
    answers: list[tuple[bool, str]] = []

    def ask(first: int) -> None:
        for number in range(first, first + 5):
            real_run.controls.carry_out(
                "record/start", (f"take {number}",), lambda ok, text: answers.append((ok, text))
            )

    threads = [threading.Thread(target=ask, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    real_run.wait_for(answers, 20)
    (folder,) = [text for ok, text in answers if ok]
    assert [str(path) for path in real_run.place.iterdir()] == [folder]
    refusals = {text for ok, text in answers if not ok}
    assert refusals <= {"A recording is already being started.", f"A recording is already being made, in {folder}."}
    assert len(answers) == 20


def test_while_a_recording_is_made_no_other_is_begun(real_run: RealRun) -> None:
    first = real_run.place / "take 1"
    assert real_run.ask("record/start", "take 1") == (True, str(first))
    assert real_run.ask("record/start", "take 2") == (False, f"A recording is already being made, in {first}.")
    assert list(real_run.place.iterdir()) == [first]
    # One that has stopped is no hindrance.
    real_run.opened[0].fault = "The disk is full."
    assert real_run.ask("record/start", "take 2") == (True, str(real_run.place / "take 2"))
    eventually(lambda: real_run.opened[0].is_ended)


def test_a_stop_followed_at_once_by_a_start_ends_one_and_begins_another(real_run: RealRun) -> None:
    folders = [str(real_run.place / f"take {number}") for number in range(4)]
    assert real_run.ask("record/start", "take 0") == (True, folders[0])
    answers: list[tuple[bool, str]] = []
    for number in range(1, 4):
        real_run.controls.carry_out("record/stop", (), lambda ok, text: answers.append((ok, text)))
        real_run.controls.carry_out("record/start", (f"take {number}",), lambda ok, text: answers.append((ok, text)))
        real_run.wait_for(answers, 2 * number)
        assert answers[-2:] == [(True, folders[number - 1]), (True, folders[number])]
    eventually(lambda: [recorder.is_ended for recorder in real_run.opened] == [True, True, True, False])
    assert [recorder.fault for recorder in real_run.opened] == [""] * 4


def test_after_one_that_could_not_be_begun_another_can(real_run: RealRun, monkeypatch: pytest.MonkeyPatch) -> None:
    (real_run.place / "file").touch()
    assert not real_run.ask("record/start", "file")[0]
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


def test_a_recorder_that_nobody_takes_is_ended(real_run: RealRun, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[tuple[bool, str]] = []

    def ask(name: str) -> Recorder:
        """The recorder, opened, of which the recognising thread does not know yet."""
        n_before = len(real_run.opened)
        real_run.controls.carry_out("record/start", (name,), lambda ok, text: answers.append((ok, text)))
        real_run.carry_out()
        eventually(lambda: len(real_run.opened) > n_before)
        return real_run.opened[-1]

    def break_down() -> str:
        raise ValueError("what is this?")

    with monkeypatch.context() as patched:
        patched.setattr(real_run.recognition, "reset", break_down)
        broken = ask("take 1")
        with pytest.raises(ValueError, match="what is this"):
            real_run.wait_for(answers, 1)
    left = ask("take 2")
    real_run.recognition.refuse_requests()
    eventually(lambda: len(answers) == 2)
    assert answers == [(False, "ValueError: what is this?"), (False, "The program is ending.")]
    eventually(lambda: broken.is_ended and left.is_ended)
    assert broken.fault == left.fault == ""


# --- what only the recognising thread may do ---


def test_a_mark_has_its_text_or_none(run: Run) -> None:
    assert run.ask("mark", "chorus")[0]
    assert run.ask("mark")[0]
    assert run.recognising.done == [("mark", "chorus"), ("mark", "")]


@pytest.mark.parametrize(
    ("name", "values"), [("reset", ()), ("record/stop", ()), ("mark", ("a",)), ("record/start", ())]
)
def test_what_the_recognising_thread_refuses_is_refused(sink: Told, name: str, values: Values) -> None:
    run = Run(sink, recognising=Recognising("No, not now."))
    assert run.ask(name, *values) == (False, "No, not now.")


def test_requests_wait_for_their_thread_and_keep_their_order(run: Run) -> None:
    answers: list[str] = []

    def ask() -> None:
        for name, values in (("mark", ("a",)), ("reset", ()), ("mark", ("b",))):
            run.controls.carry_out(name, values, lambda _done, text: answers.append(text))

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(GENEROUS_S)
    assert not asking.is_alive()
    assert (answers, run.recognising.done) == ([], [])
    run.carry_out()
    assert run.recognising.thread is threading.current_thread()
    assert run.recognising.done == [("mark", "a"), ("reset", None), ("mark", "b")]
    assert answers == ["mark is done", "reset is done", "mark is done"]
    run.carry_out()
    assert len(run.recognising.done) == 3


def test_only_so_much_can_be_asked_for_at_once(run: Run) -> None:
    answers: list[tuple[bool, str]] = []
    for _ in range(100):
        run.controls.carry_out("reset", (), lambda done, text: answers.append((done, text)))
    assert answers == [(False, "Too many requests at once.")] * 36
    run.carry_out()
    assert len(run.recognising.done) == 64
    assert answers[36:] == [(True, "reset is done")] * 64
    # Then there is room again.
    assert run.ask("reset")[0]


def test_what_is_asked_for_meanwhile_waits_for_the_next_time() -> None:
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


def test_what_breaks_down_is_answered_before_it_is_raised() -> None:
    requests = Requests()
    answers: list[tuple[bool, str]] = []

    def break_down(_recognition: Recognition) -> str:
        raise MemoryError("too large")

    for request in (lambda _: "done", break_down, lambda _: "done"):
        requests.put(request, lambda ok, text: answers.append((ok, text)))
    with pytest.raises(MemoryError, match="too large"):
        requests.carry_out(cast(Recognition, Recognising()))
    assert answers == [(True, "done"), (False, "MemoryError: too large")]
    requests.refuse_all()
    assert answers[2:] == [(False, "The program is ending.")]


def test_at_the_end_and_afterwards_everything_is_refused() -> None:
    requests = Requests()
    answers: list[tuple[bool, str]] = []
    for _ in range(3):
        requests.put(lambda _: "done", lambda ok, text: answers.append((ok, text)))
    requests.refuse_all()
    assert answers == [(False, "The program is ending.")] * 3
    requests.put(lambda _: "done", lambda ok, text: answers.append((ok, text)))
    requests.follow_up(lambda _: "done", lambda ok, text: answers.append((ok, text)))
    assert answers == [(False, "The program is ending.")] * 5


def test_a_run_that_ends_answers_who_still_waits() -> None:
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
    answers: list[tuple[str, bool, str]] = []

    def ask(name: str, *values: str) -> None:
        real_run.controls.carry_out(name, values, lambda done, text: answers.append((name, done, text)))

    ask("record/start", "slow")
    real_run.carry_out()
    assert answers == []
    for _ in range(2):
        ask("record/stop")
        real_run.carry_out()
    may_open.set()

    def are_all_there() -> bool:
        real_run.carry_out()
        return len(answers) == 3

    eventually(are_all_there)
    assert answers == [
        ("record/stop", True, "before it began"),
        ("record/stop", True, "before it began"),
        ("record/start", False, "It was stopped before it began."),
    ]
    (recorder,) = real_run.opened
    eventually(lambda: recorder.is_ended)
    assert real_run.ask("record/stop") == (False, "No recording is being made.")
    assert real_run.ask("record/start", "next") == (True, str(real_run.place / "next"))
    assert real_run.ask("record/stop") == (True, str(real_run.place / "next"))
