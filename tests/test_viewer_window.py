"""The viewer in use: its keys, its bar, and its window. Drawn into memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawing import picture, require_qt, rgb, settle
from fake_output import FakeOutput
from pytestqt.qtbot import QtBot
from recordings import RATE_HZ, capture, noise, record, update
from windows import TIMEOUT_S

from realtime_mer.cli import main
from realtime_mer.updates import Marked
from realtime_mer.viewer.loading import take_of_recording
from realtime_mer.viewer.moments import Take
from realtime_mer.window.theme import DARK, LIGHT

if TYPE_CHECKING:
    from PyQt5 import QtWidgets

    from realtime_mer.viewer.window import ViewerWindow

TIMEOUT_MS = round(1000 * TIMEOUT_S)
END_S = 18.0


@pytest.fixture(scope="session")
def qapp() -> QtWidgets.QApplication:
    """For pytest-qt."""
    return require_qt()


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sound output, as on most machines that run tests."""
    FakeOutput(refuses="query").install(monkeypatch)


def a_take(folder: Path) -> Take:
    """Eighteen seconds in two segments; the happy half, a silence, the sad half, and two marks."""
    updates = [update(i, 0.5, 0.5) for i in range(12)]
    updates += [update(i, 0.5, 0.5, held=True) for i in range(12, 18)]
    updates += [update(i, -0.5, -0.5) for i in range(18, 34)]
    captures = [capture(noise(9 * RATE_HZ)), capture(noise(9 * RATE_HZ, seed=1), 1)]
    take = take_of_recording(record(folder / "r", captures, updates))
    return Take(
        *(take.name, take.start_s, take.end_s, take.updates, take.pieces, take.meter, take.trail_s),
        marks=(Marked(5.0, 1, "chorus"), Marked(14.0, 2, "")),
        breaks=take.breaks,
    )


class Shown:
    """A viewer that is shown."""

    def __init__(self, qtbot: QtBot, folder: Path) -> None:
        from realtime_mer.viewer.window import ViewerWindow

        self._qtbot = qtbot
        self.stop = threading.Event()
        self.take = a_take(folder)
        self.window: ViewerWindow = ViewerWindow(self.take, self.stop, remembered=folder / "viewer.json")
        qtbot.addWidget(self.window)
        self.window.open((1280, 720))
        settle()

    def press(self, key: str, *, shift: bool = False) -> None:
        from realtime_mer.window.qt import QtCore

        modifier = QtCore.Qt.KeyboardModifier.ShiftModifier if shift else QtCore.Qt.KeyboardModifier.NoModifier
        self._qtbot.keyClick(  # type: ignore[no-untyped-call]
            self.window, getattr(QtCore.Qt.Key, f"Key_{key}"), modifier
        )
        settle()

    def wait(self, condition: Callable[[], bool]) -> None:
        self._qtbot.waitUntil(condition, timeout=TIMEOUT_MS)

    def texts(self) -> list[str]:
        return texts_in(self.window)


def texts_in(window: QtWidgets.QWidget) -> list[str]:
    from realtime_mer.window.qt import QtWidgets

    return [label.text() for label in window.findChildren(QtWidgets.QLabel) if label.isVisible()]


@pytest.fixture
def shown(qtbot: QtBot, tmp_path: Path) -> Shown:
    return Shown(qtbot, tmp_path)


def test_keys_move_about(shown: Shown) -> None:
    window = shown.window
    positions_s = [window.position_s]
    for key in ("Right", "Right", "Right", "Left", "Shift Right", "End", "Shift Right", "Shift Left", "Home", "Left"):
        shown.press(key.split()[-1], shift=key.startswith("Shift"))
        positions_s.append(window.position_s)
    assert positions_s == [0.0, 1.0, 1.5, 2.0, 1.5, 11.5, END_S, END_S, END_S - 10.0, 0.0, 0.0]


def test_view_opens_on_the_first_prediction_and_does_not_claim_to_record(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from realtime_mer.viewer import window as viewer

    record(tmp_path / "r", [capture(noise(9 * RATE_HZ))], [update(i, 0.5, 0.5) for i in range(12)])
    seen: list[tuple[float, list[str]]] = []

    def look(window: ViewerWindow) -> None:
        qtbot.waitUntil(lambda: "❚❚ 0:00:01.0" in texts_in(window), timeout=TIMEOUT_MS)
        seen.append((window.position_s, texts_in(window)))
        window.close()

    monkeypatch.setattr(viewer.ViewerWindow, "run_until_closed", look)
    monkeypatch.setattr(viewer, "remembered_in", lambda name: tmp_path / name)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert main(["view", str(tmp_path / "r"), "--mode", "operator"]) == 0
    ((position_s, texts),) = seen
    assert position_s == 1.0
    assert "+0.50" in texts
    assert "LISTENING" not in texts
    assert texts[texts.index("recording") + 1] == "off"


def test_the_view_shows_the_present_moment(shown: Shown) -> None:
    for time_s, expected in (
        (6.0, {"+0.50", "❚❚ 0:00:06.0"}),
        (8.0, {"SILENCE"}),
        (12.0, {"−0.50"}),
        (0.5, {"LISTENING"}),
    ):
        shown.window.seek(time_s)
        shown.wait(lambda expected=expected: expected <= set(shown.texts()))  # type: ignore[misc]
        assert time_s == 8.0 or "SILENCE" not in shown.texts()


def test_the_space_bar_plays_in_real_time_and_pauses(shown: Shown) -> None:
    """Also without a sound output: a message says so."""
    window = shown.window
    shown.press("Space")
    assert window.playing
    shown.wait(lambda: window.position_s > 0.5)
    assert "There is no sound output. Playing without sound." in shown.texts()
    shown.press("Space")
    assert not window.playing
    paused_s = window.position_s
    time.sleep(0.2)
    settle()
    assert window.position_s == paused_s
    window.seek(END_S - 0.2)
    shown.press("Space")
    shown.wait(lambda: not window.playing)
    assert window.position_s == END_S
    shown.press("Space")
    assert window.position_s < 1.0


def head_of(bar: QtWidgets.QWidget) -> float:
    """The place of the line as high as the bar, in Qt's pixels; marks and their names are lower."""
    pixels = picture(bar)
    columns = np.flatnonzero((np.abs(pixels - rgb(DARK.text)) <= 2).all(axis=2).mean(axis=0) > 0.95)
    return float(columns.mean() * bar.width() / pixels.shape[1])


def is_near(bar: QtWidgets.QWidget, x: int) -> bool:
    return abs(head_of(bar) - x) < 3


def test_a_click_on_the_bar_goes_to_that_moment(shown: Shown, qtbot: QtBot) -> None:
    from realtime_mer.window.qt import QtCore

    window = shown.window
    bar = window.bar
    button = QtCore.Qt.MouseButton.LeftButton
    for time_s in (3.0, 16.5, 9.0):
        child = bar.childAt(bar.x_of(time_s), 10)
        assert child is not None
        qtbot.mouseClick(  # type: ignore[no-untyped-call]
            child, button, pos=QtCore.QPoint(bar.x_of(time_s) - child.x(), 10)
        )
        assert window.position_s == pytest.approx(time_s, abs=END_S / child.width())
        expected = bar.x_of(time_s) - child.x()
        shown.wait(partial(is_near, child, expected))


def test_the_bar_shows_quadrants_silences_breaks_and_marks(shown: Shown) -> None:
    bar = shown.window.bar
    child = bar.childAt(bar.x_of(1.0), 10)
    assert child is not None
    pixels = picture(child)
    ratio = pixels.shape[1] / child.width()
    near_the_foot = pixels.shape[0] - 3

    def colour_at(time_s: float) -> tuple[int, ...]:
        return tuple(pixels[near_the_foot, round(ratio * (bar.x_of(time_s) - child.x()))].tolist())

    happy, silent, sad, early = colour_at(4.0), colour_at(8.0), colour_at(16.0), colour_at(0.6)
    assert len({happy, silent, sad}) == 3
    assert silent == early == tuple(rgb(DARK.panel).tolist())
    # Silence is a thin band in the middle.
    middle = pixels[pixels.shape[0] - round(13 * ratio), round(ratio * (bar.x_of(8.0) - child.x()))]
    assert tuple(middle.tolist()) not in (silent, happy, sad)
    assert colour_at(9.0) == tuple(rgb(DARK.bad).tolist())
    for mark in shown.take.marks:
        column = round(ratio * (bar.x_of(mark.time_s) - child.x()))
        assert (np.abs(pixels[:, column - 2 : column + 3] - rgb(DARK.text)) <= 2).all(axis=2).any()


def test_the_stage_hides_the_bar_and_a_new_theme_keeps_the_moment(shown: Shown) -> None:
    window = shown.window
    window.seek(6.0)
    shown.press("T")
    assert (picture(window)[2, 2] == rgb(LIGHT.background)).all()
    shown.wait(lambda: "+0.50" in shown.texts())
    for is_stage in (True, False):
        shown.press("M")
        state = (is_stage, not is_stage)
        shown.wait(lambda state=state: (window.isFullScreen(), window.bar.isVisible()) == state)  # type: ignore[misc]
    window.view.zoomed.emit(-1)
    assert window.look.span_s == 120.0
    shown.press("H")
    assert any("one prediction back" in text for text in shown.texts())
    assert window.position_s == 6.0


@pytest.mark.parametrize(
    "end",
    [
        lambda shown: shown.press("Q"),
        lambda shown: shown.press("Escape"),
        lambda shown: (shown.press("Space"), shown.stop.set()),
    ],
    ids=["Q", "Escape", "stop while playing"],
)
def test_its_end_leaves_no_thread_behind(shown: Shown, qtbot: QtBot, end: Callable[[Shown], object]) -> None:
    with qtbot.waitSignal(shown.window.closed, timeout=TIMEOUT_MS):
        end(shown)
    shown.wait(lambda: all(thread.name != "sound output" for thread in threading.enumerate()))


def test_it_comes_back_as_it_was_left_unless_the_command_says_otherwise(
    shown: Shown, qtbot: QtBot, tmp_path: Path
) -> None:
    from realtime_mer.viewer.window import ViewerWindow

    shown.press("T")
    shown.press("Z")
    shown.press("Q")
    for wishes, theme in (({}, "light"), ({"theme": "dark"}, "dark")):
        window = ViewerWindow(shown.take, threading.Event(), remembered=tmp_path / "viewer.json", **wishes)
        qtbot.addWidget(window)
        window.open((1000, 600))
        settle()
        assert (window.look.theme, window.look.span_s) == (theme, 600.0)
        assert (window.width(), window.height()) == (1000, 600)


def test_marks_are_on_the_timelines_once_they_have_been(shown: Shown) -> None:
    marks = [mark for mark in shown.take.marks if mark.time_s <= 6.0]
    shown.window.seek(6.0)
    shown.wait(lambda: "❚❚ 0:00:06.0" in shown.texts())
    before = n_upright(shown.window.view)
    shown.window.seek(4.9)
    shown.wait(lambda: "❚❚ 0:00:04.9" in shown.texts())
    assert before - n_upright(shown.window.view) >= len(marks) == 1


def n_upright(view: QtWidgets.QWidget) -> int:
    """Upright lines in the text's colour across the upper timeline; marks are the only ones."""
    pixels = picture(view)
    height, width, _ = pixels.shape
    part = pixels[round(0.15 * height) : round(0.22 * height), round(0.58 * width) :]
    return int(((np.abs(part - rgb(DARK.text)) <= 2).all(axis=2).mean(axis=0) > 0.7).sum())


@pytest.mark.parametrize("size", [(1280, 720), (800, 480)])
def test_it_fits_into_small_windows(shown: Shown, size: tuple[int, int]) -> None:
    shown.window.resize(*size)
    settle()
    assert (shown.window.width(), shown.window.height()) == size
