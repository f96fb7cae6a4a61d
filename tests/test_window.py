"""The live window in use: its keys, its modes, its size and place. Drawn into memory (Qt's "offscreen").

test_window_process.py runs the tests of keys, modes and places again on an X server.
"""

from __future__ import annotations

import gc
import itertools
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import RUNNING, picture, plane_texts, require_qt, rgb, settle, update, where
from predictions import with_prediction
from windows import TIMEOUT_S

from realtime_mer.config import DisplaySettings
from realtime_mer.osc.status import ControlStatus, NetworkStatus, TargetState, TargetStatus
from realtime_mer.updates import Board, SourceState, Status, Update
from realtime_mer.window.notices import Notices
from realtime_mer.window.remembered import recall
from realtime_mer.window.shortcuts import KEYS, Action
from realtime_mer.window.theme import DARK, LIGHT

if TYPE_CHECKING:
    from PyQt5 import QtWidgets
    from pytestqt.qtbot import QtBot

    from realtime_mer.window.run import LiveWindow

# Not where the system lacks a library that it needs.
pytest.importorskip("PyQt5.QtWidgets", exc_type=ImportError)

TIMEOUT_MS = round(1000 * TIMEOUT_S)
PLATFORM = os.environ.get("WINDOW_TESTS_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def qapp() -> QtWidgets.QApplication:
    """For pytest-qt."""
    return require_qt(PLATFORM)


class Shown:
    """A window that is shown, its board, and the actions that its keys have called."""

    def __init__(self, qtbot: QtBot, settings: DisplaySettings, remembered: Path | None, *, bound: bool) -> None:
        from realtime_mer.window.run import LiveWindow

        self._qtbot = qtbot
        self.board, self.stop, self.notices = Board("a device"), threading.Event(), Notices()
        self.asked: list[str] = []
        self.network: list[NetworkStatus] = [TargetStatus("lights:1", TargetState.UP)]
        self.window: LiveWindow = LiveWindow(
            self.board,
            self.stop,
            settings,
            remembered=remembered,
            actions={
                action: (lambda name=action.name: self.asked.append(name)) if bound else None  # type: ignore[misc]
                for action in (Action.PAUSE, Action.RECORD, Action.MARK)
            },
            notices=self.notices,
            osc=lambda: self.network,
        )
        qtbot.addWidget(self.window)
        # The screen of "offscreen" is small.
        self.window.setMinimumSize(200, 200)
        self.window.open(screen=settings.screen)
        qtbot.waitExposed(self.window)

    def size(self, width: int, height: int) -> None:
        """Waits until the window has this size and its contents go with it."""
        self.window.resize(width, height)
        self.live(lambda: (self.window.width(), self.window.height()) == (width, height))
        self.live(lambda: not self.window._settled.isActive())
        settle()

    def give(self, status: Status, updates: Sequence[Update] = ()) -> None:
        """Puts these on the board, waits until the window has taken them, and lets everything come to rest."""
        for each in updates:
            self.board.update(each)
        self.board.status(replace(status))
        self.live(lambda: self.window._shown_status is self.board.latest_status)
        self.window.view.advance(60.0)
        settle()

    def live(self, until: Callable[[], bool]) -> None:
        """Handles Qt's events until this is true."""
        self._qtbot.waitUntil(until, timeout=TIMEOUT_MS)

    def key(self, name: str, modifier: str = "NoModifier") -> None:
        from PyQt5 import QtTest

        from realtime_mer.window.qt import QtCore

        # Sent to the window's handle, as real ones are, so that the part with the focus gets it.
        handle = self.window.windowHandle()
        assert handle is not None
        QtTest.QTest.keyClick(
            handle,
            getattr(QtCore.Qt.Key, f"Key_{name}"),
            getattr(QtCore.Qt.KeyboardModifier, modifier),
        )
        settle()

    def texts(self) -> list[str]:
        from realtime_mer.window.qt import QtWidgets

        return [label.text() for label in self.window.findChildren(QtWidgets.QLabel) if label.isVisible()]

    def background(self) -> list[int]:
        """The colour of the window's edge."""
        return [int(part) for part in picture(self.window)[2, 2]]


@pytest.fixture
def show(qtbot: QtBot) -> Callable[..., Shown]:
    """Shows a window with these settings of [display]."""

    def make(remembered: Path | None = None, *, bound: bool = True, **settings: Any) -> Shown:
        return Shown(qtbot, DisplaySettings(**settings), remembered, bound=bound)

    return make


@pytest.fixture
def shown(show: Callable[..., Shown]) -> Shown:
    window = show()
    window.size(1280, 720)
    return window


def wave(n: int) -> list[Update]:
    return [update(i, 0.5 * math.sin(i / 9), 0.5 * math.cos(i / 9)) for i in range(n)]


# What is shown


def test_the_figures_and_the_status_line_are_written(shown: Shown) -> None:
    shown.give(RUNNING, [update(0, 0.424, -0.318)])
    assert {"+0.42", "−0.32", "music", "running", "200 ms", "OSC to lights:1", "Following the music."} <= set(
        shown.texts()
    )
    shown.give(replace(RUNNING, state=SourceState.LOST))
    assert "music" not in shown.texts(), "a lost device has no level"


def test_the_attention_of_the_newest_prediction_is_drawn(shown: Shown) -> None:
    def n_bright() -> int:
        return len(where(picture(shown.window), DARK.text))

    shown.give(RUNNING, [update(0, 0.1, 0.1)])
    without = n_bright()
    shown.give(RUNNING, [with_prediction(update(1, 0.1, 0.1), attention=(0.125,) * 8)])
    assert n_bright() > without + 1_000
    shown.key("T")
    shown.key("T")
    assert n_bright() > without + 1_000


@pytest.mark.parametrize(
    ("status", "held", "word"),
    [
        (RUNNING, True, "SILENCE"),
        (replace(RUNNING, state=SourceState.LOST, detail="It was unplugged."), False, "DEVICE LOST"),
        (replace(RUNNING, state=SourceState.PAUSED), False, "PAUSED"),
        (replace(RUNNING, state=SourceState.ENDED), False, "ENDED"),
    ],
)
def test_a_point_that_does_not_follow_the_music_is_a_ghost(shown: Shown, status: Status, held: bool, word: str) -> None:
    shown.give(RUNNING, wave(30))
    assert len(where(picture(shown.window), DARK.point)) > 100
    shown.give(status, [update(30, 0.5, 0.0, held=held)])
    assert len(where(picture(shown.window), DARK.point)) == 0
    assert word in shown.texts()
    assert status.detail in [*shown.texts(), ""]
    shown.give(RUNNING, [update(31, 0.4, 0.1)])
    assert len(where(picture(shown.window), DARK.point)) > 100
    assert word not in shown.texts()


def test_names_are_not_read_as_markup(shown: Shown) -> None:
    from realtime_mer.window.qt import QtCore, QtWidgets

    shown.give(replace(RUNNING, source="<b>USB</b> & more"))
    shown.notices.post("Saved as <i>USB</i>.png")
    shown.live(lambda: "Saved as <i>USB</i>.png" in shown.texts())
    labels = [label for label in shown.window.findChildren(QtWidgets.QLabel) if "USB" in label.text()]
    assert [label.textFormat() for label in labels] == 2 * [QtCore.Qt.TextFormat.PlainText]


def test_the_stage_shows_a_lost_device(show: Callable[..., Shown]) -> None:
    shown = show(mode="stage")
    shown.give(RUNNING, wave(20))
    before = len(where(picture(shown.window), DARK.bad, 30))
    shown.give(replace(RUNNING, state=SourceState.LOST, detail="It was unplugged."))
    assert len(where(picture(shown.window), DARK.bad, 30)) > before + 200


@pytest.mark.parametrize("size", [(800, 480), (3840, 2160)])
def test_the_longest_texts_fit_at_any_size_and_move_nothing(shown: Shown, size: tuple[int, int]) -> None:
    from realtime_mer.window.qt import QtCore, QtWidgets

    long = "never ending " * 30
    shown.size(*size)
    trouble = replace(RUNNING, state=SourceState.LOST, source="a", detail="b", recording="/sets/friday")
    shown.give(trouble, wave(60))
    labels = [label for label in shown.window.findChildren(QtWidgets.QLabel) if label.isVisible()]
    before = [label.mapTo(shown.window, QtCore.QPoint()) for label in labels]
    assert len(before) > 20
    shown.give(replace(trouble, source=long, detail=long, recording_fault=long, overflows=10**9, losses=100))
    assert [label.mapTo(shown.window, QtCore.QPoint()) for label in labels] == before
    shown.notices.post(long * 9, fault=True)
    shown.key("H")
    shown.live(lambda: any("…" in text for text in shown.texts()))
    assert (shown.window.width(), shown.window.height()) == size
    for label in shown.window.findChildren(QtWidgets.QLabel):
        if label.isVisible() and not label.wordWrap():
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width(), label.text()
            inside = label.mapTo(shown.window, label.rect().bottomRight())
            assert shown.window.rect().contains(inside), label.text()


NETWORK: list[tuple[NetworkStatus, str]] = [
    (TargetStatus("127.0.0.1:7700", TargetState.UNDELIVERED, "nothing listens there"), "nothing listens there"),
    (TargetStatus("lighting-desk.local:9000", TargetState.UP), "sending"),
    (
        TargetStatus("tcp media-server.local:53000", TargetState.DOWN, "Connection refused"),
        "not sending: Connection refused",
    ),
    (ControlStatus("0.0.0.0:9001", 12, 0, ""), "12 taken"),
]


@pytest.mark.parametrize("size", [(1280, 720), (800, 480)])
def test_three_targets_and_their_states_can_be_read_and_nothing_overlaps(shown: Shown, size: tuple[int, int]) -> None:
    from realtime_mer.window.qt import QtCore, QtWidgets

    shown.network = [status for status, _ in NETWORK]
    shown.size(*size)
    shown.give(replace(RUNNING, source="USB Audio CODEC", recording="/sets/friday"), wave(60))
    assert {status.title for status, _ in NETWORK} | {state for _, state in NETWORK} <= set(shown.texts())
    assert not any("…" in text for text in shown.texts())
    places = {
        label.text(): QtCore.QRect(label.mapTo(shown.window, QtCore.QPoint()), label.size())
        for label in shown.window.findChildren(QtWidgets.QLabel)
        if label.isVisible() and label.text()
    }
    for one, other in itertools.combinations(places, 2):
        assert not places[one].intersects(places[other]), (one, other)
    assert all(shown.window.rect().contains(place) for place in places.values())
    words = {text: place for text, place in plane_texts(shown.window.view.plane).items() if text}
    assert len(words) == 15
    for one, other in itertools.combinations(words, 2):
        assert not words[one].intersects(words[other]), (one, other)


def test_a_new_size_forgets_nothing(shown: Shown) -> None:
    shown.give(RUNNING, wave(60))
    shown.notices.post("A message.")
    shown.key("H")
    shown.live(lambda: "A message." in shown.texts())
    before = sorted(shown.texts())
    shown.size(2560, 1440)
    assert sorted(shown.texts()) == before
    shown.size(1280, 720)
    shown.key("H")
    assert len(where(picture(shown.window), DARK.arousal, 40)) > 300, "the curve"


@pytest.mark.slow
def test_hours_of_use_make_no_new_items(shown: Shown) -> None:
    from realtime_mer.window.qt import QtCore, QtWidgets

    def n_things() -> tuple[int, int]:
        scenes = [view.scene() for view in shown.window.findChildren(QtWidgets.QGraphicsView)]
        items = [item for scene in scenes if scene is not None for item in scene.items()]
        return len(items), len(shown.window.findChildren(QtCore.QObject))

    # Of the whole program: what is no longer in the window has to be gone.
    def n_widgets() -> int:
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        gc.collect()
        return len(QtWidgets.QApplication.allWidgets())

    shown.give(RUNNING, wave(30))
    before, n_before = n_things(), n_widgets()
    for part in range(1, 4):
        for i in range(200):
            shown.board.update(update(200 * part + i, math.sin(i), math.cos(i), held=i % 7 == 0))
        state = SourceState.LOST if part % 3 == 0 else SourceState.RUNNING
        shown.board.status(replace(RUNNING, state=state, time_s=100.0 * (part + 1), losses=part))
        shown.board.mark(part)
        shown.live(lambda: shown.window._shown_status is shown.board.latest_status)
        for key in ("T", "C", "M", "M"):
            shown.key(key)
    shown.key("T")
    shown.give(RUNNING)
    assert shown.background() == [int(part) for part in rgb(DARK.background)]
    assert n_things() == before
    assert n_widgets() == n_before


def test_nothing_is_drawn_if_nothing_moves(shown: Shown) -> None:
    shown.give(RUNNING, wave(3))
    moving = shown.window.frames_painted
    assert moving > 0
    for _ in range(100):
        shown._qtbot.wait(100)
        before, moving = moving, shown.window.frames_painted
        if moving == before:
            break
    assert moving == before
    shown.board.update(update(3, -0.5, -0.5))
    shown.live(lambda: shown.window.frames_painted > before + 10)


# Keys


def test_the_list_of_keys_has_them_all(shown: Shown) -> None:
    before = shown.texts()
    for key in ("H", "Question", "F1"):
        shown.key(key)
        expected = {text for key in KEYS for text in ("  ".join(key.labels), key.does)}
        assert expected <= set(shown.texts())
        shown.key(key)
        assert shown.texts() == before


def test_keys_without_an_action_are_not_listed(show: Callable[..., Shown]) -> None:
    shown = show(bound=False)
    for key in ("Space", "R", "K", "H"):
        shown.key(key)
    assert shown.asked == []
    assert not {"Space", "R", "K"} & set(shown.texts())
    assert not any("pause" in text or "record " in text for text in shown.texts())


def test_space_pauses_r_records_and_k_marks(shown: Shown) -> None:
    for key in ("Tab", "Space", "Tab", "R", "Tab", "Space", "K"):
        shown.key(key)
    assert shown.asked == ["PAUSE", "RECORD", "PAUSE", "MARK"]
    assert any("Space pause" in text for text in shown.texts())


def test_an_unknown_key_one_held_down_and_one_with_ctrl_do_nothing(shown: Shown) -> None:
    from realtime_mer.window.qt import QtCore, QtGui, QtWidgets

    shown.key("X")
    shown.key("Space", "ControlModifier")
    shown.key("Q", "AltModifier")
    again = QtGui.QKeyEvent(
        QtCore.QEvent.Type.KeyPress, QtCore.Qt.Key.Key_Space, QtCore.Qt.KeyboardModifier.NoModifier, " ", True
    )
    QtWidgets.QApplication.sendEvent(shown.window, again)
    assert shown.asked == []
    assert not shown.stop.is_set()


def test_m_is_the_stage_and_back(shown: Shown) -> None:
    from realtime_mer.window.qt import QtCore

    shown.give(RUNNING, wave(30))
    shown.key("M")
    shown.live(shown.window.isFullScreen)
    assert shown.texts() == []
    assert shown.window.cursor().shape() == QtCore.Qt.CursorShape.BlankCursor
    shown.live(lambda: len(where(picture(shown.window), DARK.point)) > 100)
    shown.key("F")
    shown.live(lambda: not shown.window.isFullScreen())
    assert shown.window.cursor().shape() == QtCore.Qt.CursorShape.ArrowCursor
    shown.key("M")
    shown.live(lambda: not shown.window.isFullScreen())
    assert "running" in shown.texts()
    # Full screen survives the stage.
    shown.key("F")
    shown.key("M")
    shown.key("M")
    shown.live(shown.window.isFullScreen)
    assert "valence" in shown.texts()


def test_t_is_light_and_back(shown: Shown) -> None:
    shown.give(RUNNING, wave(30))
    shown.key("T")
    assert shown.background() == [int(part) for part in rgb(LIGHT.background)]
    drawn = picture(shown.window)
    assert len(where(drawn, LIGHT.point)) > 100
    assert len(where(drawn, LIGHT.text, 30)) > 500
    assert len(where(drawn, DARK.background)) == 0
    shown.key("T")
    assert shown.background() == [int(part) for part in rgb(DARK.background)]


def test_c_clears_the_trail_and_the_timelines_and_keeps_the_point(shown: Shown) -> None:
    shown.give(replace(RUNNING, time_s=41.0), wave(80))

    def n_coloured() -> int:
        return len(where(picture(shown.window), DARK.arousal, 40))

    before, point = n_coloured(), len(where(picture(shown.window), DARK.point))
    shown.key("C")
    shown.give(replace(RUNNING, time_s=41.0))
    assert n_coloured() < 0.6 * before, "the caption, the figure and one value are left"
    assert len(where(picture(shown.window), DARK.point)) == pytest.approx(point, rel=0.2)
    assert "Following the music." in shown.texts()
    assert shown.window._history.time_s.tolist() == [40.5]
    shown.give(replace(RUNNING, time_s=41.5), [update(80, -0.5, 0.5)])
    assert "−0.50" in shown.texts()


def test_n_with_only_one_screen_posts_a_message(shown: Shown) -> None:
    from realtime_mer.window.qt import QtWidgets

    if len(QtWidgets.QApplication.screens()) > 1:
        pytest.skip("there are several screens")
    shown.key("N")
    shown.live(lambda: "There is only one screen." in shown.texts())


def test_s_saves_a_picture_and_shows_its_path(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from realtime_mer.window.qt import QtGui

    monkeypatch.chdir(tmp_path)
    shown.give(RUNNING, wave(30))
    for count in (1, 2):
        shown.key("S")
        shown.live(lambda count=count: len(list(tmp_path.glob("realtime-mer *.png"))) == count)  # type: ignore[misc]
        shown.window._pictures.finish(TIMEOUT_S)
        shown.live(lambda: any("Saved as" in text for text in shown.texts()))
    images = [QtGui.QImage(str(file)) for file in tmp_path.iterdir()]
    ratio = shown.window.devicePixelRatioF()
    assert (images[0].width(), images[0].height()) == pytest.approx((1280 * ratio, 720 * ratio), abs=1)
    assert images[0] == images[1], "the message about the last picture is not in the next one"


def test_q_quits(shown: Shown) -> None:
    assert not shown.stop.is_set()
    shown.key("Q")
    assert shown.stop.is_set()
    assert not shown.window.isVisible()


def test_escape_closes_the_list_then_leaves_full_screen_then_quits(shown: Shown) -> None:
    shown.key("M")
    shown.key("H")
    shown.key("Escape")
    assert not any("pause, and go on" in text for text in shown.texts())
    shown.live(shown.window.isFullScreen)
    shown.key("Escape")
    shown.live(lambda: not shown.window.isFullScreen())
    assert shown.window.isVisible()
    shown.key("Escape")
    assert not shown.window.isVisible()
    assert shown.stop.is_set()


def turn_wheel(shown: Shown, x: int, y: int, steps: float) -> None:
    """Turns the wheel over this place of the window; steps: positive is away from the hand."""
    from realtime_mer.window.qt import QtCore, QtGui, QtWidgets

    place = QtCore.QPoint(x, y)
    under = shown.window.childAt(place) or shown.window
    at = QtCore.QPointF(under.mapFrom(shown.window, place))
    turn = QtGui.QWheelEvent(
        at,
        at,
        QtCore.QPoint(0, 0),
        QtCore.QPoint(0, round(120 * steps)),
        QtCore.Qt.MouseButton.NoButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QtWidgets.QApplication.sendEvent(under, turn)
    settle()


def test_the_wheel_zooms_the_timelines(shown: Shown) -> None:
    shown.give(replace(RUNNING, time_s=1201.0), wave(2400))
    turn_wheel(shown, 300, 200, 4)
    assert shown.window.look.span_s == 60.0, "over the plane it has no effect"
    minute = picture(shown.window)
    spans = []
    for y, steps in ((200, 1), (200, -1), (400, -0.5), (400, -0.5), (200, -20), (400, 1), (200, 20)):
        turn_wheel(shown, 950, y, steps)
        spans.append(shown.window.look.span_s)
    assert spans == [60.0, 120.0, 120.0, 300.0, None, 7200.0, 60.0]
    turn_wheel(shown, 950, 200, -2)
    assert (picture(shown.window) != minute).any()
    # From in between, Z goes back to the first; then through three spans.
    for _ in range(4):
        shown.key("Z")
        spans.append(shown.window.look.span_s)
    assert spans[-4:] == [60.0, 600.0, None, 60.0]
    assert (picture(shown.window) == minute).all()


def test_marks_are_on_both_timelines(shown: Shown) -> None:
    def n_lines() -> int:
        """The number of timelines with an upright line in the text's colour."""
        drawn = picture(shown.window)
        height, width, _ = drawn.shape
        bright = (np.abs(drawn[:, round(0.58 * width) :] - rgb(DARK.text)) <= 2).all(axis=2)
        parts = [bright[round(top * height) : round((top + 0.08) * height)] for top in (0.16, 0.44)]
        return sum(bool((part.mean(axis=0) > 0.7).any()) for part in parts)

    shown.give(replace(RUNNING, time_s=41.0), wave(80))
    assert n_lines() == 0
    shown.board.mark(1)
    shown.live(lambda: len(shown.window._history.marks) == 1)
    settle()
    assert n_lines() == 2
    shown.key("T")
    shown.key("T")
    assert n_lines() == 2
    shown.key("C")
    assert n_lines() == 0


# Messages


def test_messages_are_shown_and_disappear(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shown.texts()
    for number in range(7):
        shown.notices.post(f"message {number}")
    shown.live(lambda: "message 6" in shown.texts())
    messages = [text for text in shown.texts() if "message" in text]
    assert messages == ["4 earlier messages", "message 4", "message 5", "message 6"]
    monkeypatch.setattr(shown.notices, "_now_s", lambda: 1e9)
    shown.live(lambda: shown.texts() == before)


# Its end


@pytest.fixture
def run(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Board, threading.Event]]:
    """Runs the window as a live run does, with two predictions, and acts on it once it has taken these."""
    from realtime_mer.window import run as live_window
    from realtime_mer.window.qt import QtCore

    monkeypatch.setattr(live_window, "remembered_in", lambda name: tmp_path / name)

    def run(act: Callable[[QtWidgets.QWidget, threading.Event], None], **settings: Any) -> Any:
        board, stop = Board("a device"), threading.Event()
        board.status(RUNNING)
        for each in wave(2):
            board.update(each)

        def look() -> None:
            window = next((each for each in require_qt(PLATFORM).topLevelWidgets() if each.isVisible()), None)
            if window is None or board._updates:
                QtCore.QTimer.singleShot(20, look)
            else:
                QtCore.QTimer.singleShot(200, lambda: act(window, stop))

        QtCore.QTimer.singleShot(0, look)
        live_window.run_window(board, stop, settings=DisplaySettings(**settings))
        return board, stop

    return run


def test_it_runs_until_stop_or_until_it_is_closed(run: Callable[..., tuple[Board, threading.Event]]) -> None:
    for act in (lambda window, stop: stop.set(), lambda window, stop: window.close()):
        board, stop = run(act)
        assert (stop.is_set(), board.take_updates()) == (True, [])


def test_a_closed_window_with_keep_running_lets_the_run_continue(
    run: Callable[..., tuple[Board, threading.Event]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, stop = run(lambda window, _stop: window.close(), keep_running=True)
    assert not stop.is_set()
    assert "The window is closed, and the run goes on" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["paint", "set_path"])
def test_a_fault_in_drawing_is_printed_once_and_ends_nothing(
    run: Callable[..., tuple[Board, threading.Event]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    from realtime_mer.window.plane import TrailItem

    def broken(*_: object) -> None:
        raise OSError("no paint")

    monkeypatch.setattr(TrailItem, method, broken)
    hook = sys.excepthook
    board, stop = run(lambda _window, stop: stop.set())
    assert (stop.is_set(), board.take_updates(), sys.excepthook is hook) == (True, [], True)
    errors = capsys.readouterr().err
    assert errors.count("OSError: no paint") == errors.count("realtime-mer: the window has a fault") == 1


def test_if_the_window_cannot_be_created_the_run_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_qt(PLATFORM)
    from realtime_mer.window import run, view

    def broken(*_: object, **__: object) -> None:
        raise OSError("no paint")

    monkeypatch.setattr(view, "PlaneView", broken)
    stop = threading.Event()
    run.run_window(Board("a device"), stop, settings=DisplaySettings())
    assert not stop.is_set()
    assert capsys.readouterr().err.count("OSError: no paint") == 1


# Between runs


def test_it_comes_back_as_it_was_left(show: Callable[..., Shown], tmp_path: Path) -> None:
    remembered = tmp_path / "folder" / "window.json"
    first = show(remembered)
    first.window.setGeometry(40, 60, 500, 400)
    first.live(lambda: (first.window.width(), first.window.height()) == (500, 400))
    first.key("Z")
    first.key("T")
    place = first.window.geometry().getRect()
    first.window.close()
    second = show(remembered)
    assert second.window.geometry().getRect() == place
    assert second.background() == [int(part) for part in rgb(LIGHT.background)]
    assert second.window.look.span_s == 600.0
    second.key("M")
    second.window.close()
    third = show(remembered)
    third.live(third.window.isFullScreen)
    assert third.texts() == []
    third.key("M")
    third.live(lambda: not third.window.isFullScreen())
    # After full screen, "offscreen" returns a size that is not scaled.
    if PLATFORM != "offscreen":
        third.live(lambda: third.window.geometry().getRect() == place)
    third.key("F")
    third.window.close()
    fourth = show(remembered)
    fourth.live(fourth.window.isFullScreen)
    assert "valence" in fourth.texts()


def test_the_settings_count_more_than_what_is_remembered(show: Callable[..., Shown], tmp_path: Path) -> None:
    remembered = tmp_path / "window.json"
    first = show(remembered)
    first.key("M")
    first.key("T")
    first.window.close()
    assert (recall(remembered).mode, recall(remembered).theme) == ("stage", "light")
    second = show(remembered, mode="operator", theme="dark")
    assert "valence" in second.texts()
    assert second.background() == [int(part) for part in rgb(DARK.background)]


@pytest.mark.parametrize("place", [[-30_000, -30_000, 600, 400], [10, 10, 32_000, 32_000]])
def test_a_place_on_no_screen_comes_back_on_one(show: Callable[..., Shown], tmp_path: Path, place: list[int]) -> None:
    from realtime_mer.window.qt import QtWidgets

    remembered = tmp_path / "window.json"
    remembered.write_text(json.dumps({"place": place}), encoding="utf-8")
    shown = show(remembered)
    screen = QtWidgets.QApplication.screens()[0].geometry()
    assert screen.contains(shown.window.geometry().center())
    assert shown.window.width() <= screen.width()
    assert shown.window.height() <= screen.height()


def test_a_missing_screen_is_reported(show: Callable[..., Shown]) -> None:
    shown = show(screen=16)
    shown.live(lambda: any("There is no screen 16" in text for text in shown.texts()))


def test_a_corrupt_file_is_replaced(show: Callable[..., Shown], tmp_path: Path) -> None:
    remembered = tmp_path / "window.json"
    remembered.write_bytes(b'{"mode": ["stage"], "place": "everywhere"}')
    shown = show(remembered)
    assert "valence" in shown.texts()
    shown.window.close()
    assert b'"mode":"operator"' in remembered.read_bytes()
