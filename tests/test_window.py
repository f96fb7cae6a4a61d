"""The live window in use: its keys, its modes, its size and place. Drawn into memory (Qt's "offscreen").

test_window_process.py runs all of this again on an X server.
"""

from __future__ import annotations

import gc
import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from drawing import RUNNING, picture, require_qt, rgb, settle, update, where
from predictions import with_prediction
from windows import TIMEOUT_S

from realtime_mer.config import DisplaySettings
from realtime_mer.osc.status import TargetState, TargetStatus
from realtime_mer.updates import Board, InputLevel, LevelState, SourceState, Status, Update
from realtime_mer.window.notices import Notices
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
    """A window that is shown, its board, and what was asked of it."""

    def __init__(self, qtbot: QtBot, settings: DisplaySettings, remembered: Path | None, *, bound: bool) -> None:
        from realtime_mer.window.run import LiveWindow

        self._qtbot = qtbot
        self.board, self.stop, self.notices = Board("a device"), threading.Event(), Notices()
        self.asked: list[str] = []
        self.window: LiveWindow = LiveWindow(
            self.board,
            self.stop,
            settings,
            remembered=remembered,
            actions={
                Action.PAUSE: (lambda: self.asked.append("pause")) if bound else None,
                Action.RECORD: (lambda: self.asked.append("record")) if bound else None,
                Action.MARK: (lambda: self.asked.append("mark")) if bound else None,
            },
            notices=self.notices,
            osc=lambda: [TargetStatus("lights:1", TargetState.UP)],
        )
        qtbot.addWidget(self.window)
        # Whatever the size of the screen that there is not.
        self.window.setMinimumSize(200, 200)
        self.window.open()
        qtbot.waitExposed(self.window)

    def size(self, width: int, height: int) -> None:
        """Waits until the window has this size and its contents go with it."""
        self.window.resize(width, height)
        self.live(lambda: (self.window.width(), self.window.height()) == (width, height))
        self.live(lambda: not self.window._settled.isActive())
        settle()

    def give(self, status: Status, updates: Sequence[Update] = ()) -> None:
        """Puts these on the board, and waits until the window has taken them; then so much time passes that everything
        is where it goes."""
        for each in updates:
            self.board.update(each)
        self.board.status(replace(status))
        self.live(lambda: self.window._shown_status is self.board.latest_status)
        self.window.view.advance(60.0)
        assert self.window.view.plane.at_rest
        settle()

    def live(self, until: Callable[[], bool]) -> None:
        """Qt's events, until this is so."""
        self._qtbot.waitUntil(until, timeout=TIMEOUT_MS)

    def wait(self, time_ms: int) -> None:
        self._qtbot.wait(time_ms)

    def key(self, name: str, modifier: str = "NoModifier") -> None:
        from PyQt5 import QtTest

        from realtime_mer.window.qt import QtCore

        # By way of the window's handle, as real ones come: to whichever part has the focus.
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
    assert {"+0.42", "−0.32", "music", "running", "200 ms", "lights:1", "Following the music."} <= set(shown.texts())
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


def test_long_texts_move_nothing(shown: Shown) -> None:
    from realtime_mer.window.qt import QtCore, QtWidgets

    def places() -> list[QtCore.QPoint]:
        labels = shown.window.findChildren(QtWidgets.QLabel)
        return [label.mapTo(shown.window, QtCore.QPoint()) for label in labels if label.isVisible()]

    trouble = replace(RUNNING, detail="It is.", source="a", level=InputLevel(-1.0, -2.0, LevelState.CLIPPING))
    shown.give(trouble)
    before = places()
    assert len(before) > 20
    long = "never ending " * 30
    shown.give(replace(trouble, detail=long, source=long, overflows=10**9, losses=100, gain_db=-123.4))
    assert places() == before


def test_the_stage_shows_a_lost_device(show: Callable[..., Shown]) -> None:
    shown = show(mode="stage")
    shown.give(RUNNING, wave(20))
    before = len(where(picture(shown.window), DARK.bad, 30))
    shown.give(replace(RUNNING, state=SourceState.LOST, detail="It was unplugged."))
    assert len(where(picture(shown.window), DARK.bad, 30)) > before + 200


@pytest.mark.parametrize("size", [(880, 520), (3840, 2160)])
def test_the_longest_texts_fit_at_any_size(shown: Shown, size: tuple[int, int]) -> None:
    from realtime_mer.window.qt import QtWidgets

    long = "never ending " * 30
    shown.size(*size)
    trouble = replace(
        RUNNING, source=long, detail=long, recording="/sets/friday", recording_fault=long, overflows=10**9
    )
    shown.give(replace(trouble, state=SourceState.LOST), wave(60))
    shown.notices.post(long * 9, fault=True)
    shown.key("H")
    shown.live(lambda: any("…" in text for text in shown.texts()))
    assert (shown.window.width(), shown.window.height()) == size
    layout = shown.window.layout()
    assert layout is not None
    assert layout.minimumSize().width() <= size[0]
    assert layout.minimumSize().height() <= size[1]
    for label in shown.window.findChildren(QtWidgets.QLabel):
        if label.isVisible() and not label.wordWrap():
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width(), label.text()
            inside = label.mapTo(shown.window, label.rect().bottomRight())
            assert shown.window.rect().contains(inside), label.text()


def test_everything_grows_with_the_window(shown: Shown) -> None:
    points = []
    for size in ((1280, 720), (2560, 1440)):
        shown.size(*size)
        shown.give(RUNNING, wave(3))
        points.append(len(where(picture(shown.window), DARK.point)))
    assert points[1] == pytest.approx(4 * points[0], rel=0.15)


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
        shown.wait(100)
        before, moving = moving, shown.window.frames_painted
        if moving == before:
            break
    assert moving == before
    shown.board.update(update(3, -0.5, -0.5))
    shown.live(lambda: not shown.window.view.plane.at_rest)
    shown.live(lambda: shown.window.view.plane.at_rest)
    assert shown.window.frames_painted > before + 10, "on its way"


# Keys


@pytest.mark.parametrize("key", ["H", "Question", "F1"])
def test_the_list_of_keys_has_them_all(shown: Shown, key: str) -> None:
    before = shown.texts()
    shown.key(key)
    for each in KEYS:
        assert "  ".join(each.labels) in shown.texts()
        assert each.does in shown.texts()
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
    assert shown.asked == ["pause", "record", "pause", "mark"]
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


def test_f_is_full_screen_and_back(shown: Shown) -> None:
    shown.key("F")
    shown.live(shown.window.isFullScreen)
    shown.give(RUNNING, wave(5))
    shown.key("F")
    shown.live(lambda: not shown.window.isFullScreen())
    assert shown.window.isVisible()


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


def test_full_screen_survives_the_stage(shown: Shown) -> None:
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
    assert [each.index for each in shown.window._history._updates] == [79]
    shown.give(replace(RUNNING, time_s=41.5), [update(80, -0.5, 0.5)])
    assert "−0.50" in shown.texts()


def test_z_shows_more_of_the_past(shown: Shown) -> None:
    """The sooner in the window, the wider a minute is."""
    shown.give(replace(RUNNING, time_s=1201.0), wave(2400))
    pictures = [picture(shown.window)]
    for _ in range(3):
        shown.key("Z")
        shown.give(replace(RUNNING, time_s=1201.0))
        pictures.append(picture(shown.window))
    right = pictures[0].shape[1] // 2
    minute, ten_minutes, everything, again = (drawn[:, right:] for drawn in pictures)
    assert (minute != ten_minutes).any()
    assert (ten_minutes != everything).any()
    assert (minute == again).all()


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
    for count in (1, 2, 3):
        shown.key("S")
        shown.live(lambda count=count: len(list(tmp_path.glob("realtime-mer *.png"))) == count)  # type: ignore[misc]
        shown.window._pictures.finish(TIMEOUT_S)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    shown.live(lambda: any(str(files[0]) in text or "…" in text for text in shown.texts()))
    # The message about the last picture is not in the next one.
    for file in files:
        image = QtGui.QImage(str(file))
        ratio = shown.window.devicePixelRatioF()
        assert (image.width(), image.height()) == pytest.approx((1280 * ratio, 720 * ratio), abs=1)
        point = sum(image.pixelColor(x, y).name() == DARK.point for x in range(0, 700, 3) for y in range(0, 700, 3))
        assert point > 10


@pytest.mark.parametrize("key", ["Q", "Escape"])
def test_keys_that_quit(shown: Shown, key: str) -> None:
    assert not shown.stop.is_set()
    shown.key(key)
    assert shown.stop.is_set()
    assert not shown.window.isVisible()


def test_escape_leaves_one_thing_after_the_other(shown: Shown) -> None:
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
    """Over this place of the window, away from the hand where steps is positive."""
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


@pytest.mark.parametrize("y", [200, 400])
def test_the_wheel_zooms_the_timelines(shown: Shown, y: int) -> None:
    shown.give(replace(RUNNING, time_s=1201.0), wave(2400))
    turn_wheel(shown, 300, y, 4)
    assert shown.window.look.span_s == 60.0, "over the plane it has no effect"
    minute = picture(shown.window)
    spans = []
    for steps in (1, -1, -0.5, -0.5, -20, 1, 20):
        turn_wheel(shown, 950, y, steps)
        spans.append(shown.window.look.span_s)
    assert spans == [60.0, 120.0, 120.0, 300.0, None, 7200.0, 60.0]
    turn_wheel(shown, 950, y, -2)
    assert (picture(shown.window) != minute).any()
    shown.key("Z")
    assert (picture(shown.window) == minute).all(), "from in between, back to the first"


def test_marks_are_on_both_timelines(shown: Shown) -> None:
    def n_lines() -> int:
        """The number of timelines with an upright line in the text's colour."""
        drawn = picture(shown.window)
        height, width, _ = drawn.shape
        bright = (np.abs(drawn[:, round(0.58 * width) :] - rgb(DARK.text)) <= 2).all(axis=2)
        parts = [bright[round(top * height) : round((top + 0.08) * height)] for top in (0.16, 0.48)]
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


def test_messages_of_any_thread_are_shown_and_go_again(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shown.texts()
    thread = threading.Thread(target=lambda: shown.notices.post("The recording has begun."))
    thread.start()
    thread.join()
    shown.live(lambda: "The recording has begun." in shown.texts())
    monkeypatch.setattr(shown.notices, "_now_s", lambda: 1e9)
    shown.live(lambda: shown.texts() == before)


def test_too_many_messages_leave_the_last_ones_and_how_many_there_were(shown: Shown) -> None:
    for number in range(7):
        shown.notices.post(f"message {number}")
    shown.live(lambda: "message 6" in shown.texts())
    said = [text for text in shown.texts() if "message" in text]
    assert said == ["4 earlier messages", "message 4", "message 5", "message 6"]


# Its end


def test_stop_closes_it(shown: Shown, qtbot: QtBot) -> None:
    with qtbot.waitSignal(shown.window.closed, timeout=TIMEOUT_MS):
        shown.stop.set()
    assert not shown.window.isVisible()


def test_closing_sets_stop_unless_the_run_is_to_keep_running(show: Callable[..., Shown]) -> None:
    shown = show(keep_running=True)
    shown.window.close()
    assert not shown.stop.is_set()
    assert not shown.window.isVisible()
    other = show()
    other.window.close()
    assert other.stop.is_set()


# Between runs


def left(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


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
    # Of a full screen, "offscreen" gives back a size that is not scaled.
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
    assert (left(remembered)["mode"], left(remembered)["theme"]) == ("stage", "light")
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
    assert left(remembered)["mode"] == "operator"
