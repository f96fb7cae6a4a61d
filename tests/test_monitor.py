"""The window, drawn for real: into memory (Qt's "offscreen"), and on a real X server (Xvfb) where there is one."""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer import monitor
from realtime_mer.monitor.captions import duration, headline, level_text, signed, status_fields
from realtime_mer.monitor.history import History
from realtime_mer.monitor.theme import DARK, Tone
from realtime_mer.status import Board, InputLevel, LevelState, SourceState, Status, Update

if TYPE_CHECKING:
    from realtime_mer.monitor.window import MonitorWindow

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 60.0
MUSIC = InputLevel(-3.0, -18.0, LevelState.MUSIC)
RUNNING = Status("a device", SourceState.RUNNING, time_s=40.0, level=MUSIC)


def update(index: int, valence: float, arousal: float, *, held: bool = False, latency_s: float | None = 0.2) -> Update:
    return Update(index, 1.0 + 0.5 * index, valence, arousal, held, latency_s)


# What it says


def test_music_is_followed() -> None:
    assert not headline(RUNNING, update(0, 0.1, 0.2)).ghost
    assert headline(RUNNING, update(0, 0.1, 0.2)).word == ""


@pytest.mark.parametrize("state", [s for s in SourceState if s is not SourceState.RUNNING])
def test_whatever_is_not_running_leaves_a_ghost_with_the_reason(state: SourceState) -> None:
    head = headline(replace(RUNNING, state=state, detail="Because of this."), update(0, 0.1, 0.2))
    assert head.ghost
    assert state.value in head.word
    assert head.sentence == "Because of this."


def test_before_the_first_prediction_and_in_silence_there_is_a_ghost() -> None:
    assert (headline(RUNNING, None).word, headline(RUNNING, None).ghost) == ("listening", True)
    silent = headline(RUNNING, update(3, 0.1, 0.2, held=True))
    assert (silent.word, silent.ghost) == ("silence", True)


@pytest.mark.parametrize(
    ("state", "word"), [(LevelState.QUIET, "too quiet"), (LevelState.CLIPPING, "clipping"), (LevelState.SILENCE, "")]
)
def test_a_bad_level_is_said_while_the_music_is_followed(state: LevelState, word: str) -> None:
    head = headline(replace(RUNNING, level=InputLevel(-1.0, -2.0, state)), update(0, 0.1, 0.2))
    assert (head.word, head.ghost) == (word, False)


def test_what_the_source_has_to_say_is_said_while_it_runs() -> None:
    assert headline(replace(RUNNING, detail="At 8000 Hz …"), update(0, 0.1, 0.2)).sentence == "At 8000 Hz …"


def fields(status: Status, newest: Update | None = None, osc: Sequence[str] = ()) -> dict[str, tuple[str, Tone]]:
    return {field.caption: (field.value, field.tone) for field in status_fields(status, newest, osc)}


def test_the_status_line_of_a_run_in_which_all_is_well() -> None:
    said = fields(
        replace(RUNNING, time_s=3723.9), update(0, 0.0, 0.0, latency_s=0.1874), ["127.0.0.1:9000", "lights:8000"]
    )
    assert said == {
        "state": ("running", Tone.GOOD),
        "source": ("a device", Tone.PLAIN),
        "heard": ("1:02:03", Tone.PLAIN),
        "latency": ("187 ms", Tone.PLAIN),
        "lost sound": ("none", Tone.PLAIN),
        "device lost": ("never", Tone.PLAIN),
        "recording": ("off", Tone.PLAIN),
        "OSC": ("127.0.0.1:9000, lights:8000", Tone.PLAIN),
    }


def test_the_status_line_says_every_loss() -> None:
    said = fields(
        replace(
            RUNNING,
            state=SourceState.LOST,
            dropped_blocks=3,
            dropped_s=0.031,
            overflows=2,
            replaced_samples=5,
            losses=4,
            lost_s=9.96,
            recording="/sets/friday",
            recording_fault="the disk is full",
        ),
        update(0, 0.0, 0.0),
    )
    assert said["state"] == ("lost", Tone.BAD)
    assert said["latency"] == ("–", Tone.PLAIN)
    assert said["lost sound"] == ("3 blocks, 0.03 s, 2 overflows, 5 bad samples", Tone.BAD)
    assert said["device lost"] == ("4 ×, 10.0 s", Tone.WARNING)
    assert said["recording"] == ("incomplete: the disk is full", Tone.BAD)
    assert fields(replace(RUNNING, recording="/sets/friday"))["recording"] == ("friday", Tone.GOOD)


@given(st.floats(-1.0, 1.0))
def test_a_signed_number_has_its_sign_and_reads_back(value: float) -> None:
    text = signed(value)
    assert text[0] in "+−"
    assert text != "−0.00"
    assert abs(float(text.replace("−", "-")) - value) <= 0.005 + 1e-9


@given(st.integers(0, 10**6))
def test_a_duration_reads_back(seconds: int) -> None:
    hours, minutes, rest = map(int, duration(seconds + 0.5).split(":"))
    assert 3600 * hours + 60 * minutes + rest == seconds
    assert max(minutes, rest) < 60


def test_the_level_in_figures() -> None:
    assert level_text(InputLevel(-3.14, -18.26, LevelState.MUSIC), 2.04) == "−18.3 dBFS · peak −3.1 · gain +2.0 dB"
    assert level_text(None, 0.0) == "–"


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.booleans()), max_size=40), st.integers(1, 15))
def test_the_history_is_the_latest_updates_in_their_order(
    points: list[tuple[float, float, bool]], capacity: int
) -> None:
    history = History(capacity)
    updates = [update(i, v, a, held=held) for i, (v, a, held) in enumerate(points)]
    for start in range(0, len(updates), 3):
        history.extend(updates[start : start + 3])
    kept = updates[-capacity:]
    assert history.newest == (kept[-1] if kept else None)
    assert history.time_s.tolist() == [u.time_s for u in kept]
    assert history.valence.tolist() == [u.valence for u in kept]
    assert history.arousal.tolist() == [u.arousal for u in kept]
    assert history.held.tolist() == [u.held for u in kept]


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (Web Content Accessibility Guidelines 2.1)."""
    luminances = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        luminances.append(float(np.dot(linear, (0.2126, 0.7152, 0.0722))))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


@pytest.mark.parametrize("name", ["text", "faint", "ghost", "point", "valence", "arousal", "good", "warning", "bad"])
def test_everything_stands_out_from_the_background(name: str) -> None:
    """4.5 is what the guidelines ask of text."""
    assert contrast(getattr(DARK, name), DARK.background) >= 4.5
    assert contrast(getattr(DARK, name), DARK.panel) >= 4.5


# What it draws, without a screen


@pytest.fixture(scope="module")
def offscreen() -> Iterator[None]:
    """Qt in this process, drawing into memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QT_QPA_PLATFORM", "offscreen")
        fault = monitor.display_fault()
        if fault is not None:
            pytest.skip(f"no window can be drawn here: {fault}")
        from realtime_mer.monitor.window import application

        application()
        yield


class Shown:
    """A window that is shown, its board, and what was asked of it."""

    def __init__(self, *, pausable: bool = True) -> None:
        from realtime_mer.monitor.window import MonitorWindow

        self.board = Board("a device")
        self.stop = threading.Event()
        self.n_pauses = 0
        self.window: MonitorWindow = MonitorWindow(
            self.board, self.stop, DARK, toggle_pause=self._count_pause if pausable else None, osc=lambda: ["lights:1"]
        )
        # Whatever the size of the screen that there is not.
        self.window.setMinimumSize(880, 520)
        self.window.resize(1280, 720)
        self.window.show()

    def _count_pause(self) -> None:
        self.n_pauses += 1

    def give(self, status: Status, updates: Sequence[Update] = ()) -> None:
        """Puts these on the board, and waits until the window is done with them."""
        from realtime_mer.monitor.qt import QtWidgets

        for each in updates:
            self.board.update(each)
        self.board.status(replace(status))
        self.live(lambda: self.window._shown_status is self.board.latest_status and self.window._plane.at_rest)
        # What that has set off: a new layout, and what the layout sets off.
        for _ in range(3):
            QtWidgets.QApplication.processEvents()

    def live(self, until: Callable[[], bool]) -> None:
        """Qt's events, until this is so."""
        from realtime_mer.monitor.qt import QtWidgets

        deadline_s = time.monotonic() + TIMEOUT_S
        while not until():
            assert time.monotonic() < deadline_s, "the window did not get there"
            QtWidgets.QApplication.processEvents()
            time.sleep(0.005)

    def key(self, name: str) -> None:
        from PyQt5 import QtTest

        from realtime_mer.monitor.qt import QtCore

        key: QtCore.Qt.Key = getattr(QtCore.Qt.Key, f"Key_{name}")
        # Its type hints ask for an instance, which it has no use for.
        QtTest.QTest.keyClick(self.window, key)  # type: ignore[call-overload]

    def texts(self) -> list[str]:
        from realtime_mer.monitor.qt import QtWidgets

        return [label.text() for label in self.window.findChildren(QtWidgets.QLabel) if label.isVisible()]

    def picture(self) -> npt.NDArray[np.int16]:
        """Shape (height, width, 3), 0 to 255: red, green, blue."""
        from realtime_mer.monitor.qt import QtGui

        image = self.window.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
        data = image.constBits()
        assert data is not None
        flat = np.array(data.asarray(image.sizeInBytes()), dtype=np.int16)
        rows = flat.reshape(image.height(), image.bytesPerLine())[:, : 3 * image.width()]
        return rows.reshape(image.height(), image.width(), 3)


@pytest.fixture
def shown(offscreen: None) -> Iterator[Shown]:
    window = Shown()
    yield window
    window.window.close()


def rgb(colour: str) -> npt.NDArray[np.int16]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.int16)


def where(picture: npt.NDArray[np.int16], colour: str, tolerance: int = 0) -> npt.NDArray[np.intp]:
    """The pixels of a colour: shape (n, 2), row and column."""
    return np.argwhere((np.abs(picture - rgb(colour)) <= tolerance).all(axis=2))


def circle(n: int, *, held: bool = False) -> list[Update]:
    return [update(i, 0.5 * math.cos(i / 9), 0.5 * math.sin(i / 9), held=held) for i in range(n)]


def test_the_point_is_where_the_prediction_is(shown: Shown) -> None:
    centres = {}
    for index, (valence, arousal) in enumerate([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (0.0, 0.0)]):
        shown.give(RUNNING, [update(index, valence, arousal)])
        centres[valence, arousal] = where(shown.picture(), DARK.point).mean(axis=0)
    low_left, low_right, high_right = centres[-0.8, -0.8], centres[0.8, -0.8], centres[0.8, 0.8]
    assert low_left[0] == pytest.approx(low_right[0], abs=1.0)
    assert low_right[1] == pytest.approx(high_right[1], abs=1.0)
    # Near enough to a square for a circle to look like one.
    assert low_right[1] - low_left[1] == pytest.approx(low_right[0] - high_right[0], rel=0.03)
    assert centres[0.0, 0.0] == pytest.approx((low_left + high_right) / 2, abs=1.0)


def test_the_figures_and_the_status_line_are_written(shown: Shown) -> None:
    shown.give(RUNNING, [update(0, 0.424, -0.318)])
    assert {"+0.42", "−0.32", "music", "running", "200 ms", "lights:1", "Following the music."} <= set(shown.texts())


def test_text_is_really_drawn(shown: Shown) -> None:
    """Where there is no font, Qt draws text as nothing, and says so to nobody."""
    shown.give(RUNNING, [update(0, 0.0, 0.0)])
    picture = shown.picture()
    height, width, _ = picture.shape
    foot = picture[int(0.94 * height) :]
    assert len(where(foot, DARK.good, 30)) > 50, "the state, in the status line"
    corner = picture[: height // 5, : width // 4]
    assert len(where(corner, DARK.faint, 30)) > 50, "the quadrant's words"
    assert len(where(picture[:, width // 2 :], DARK.valence, 30)) > 200, "valence in figures"
    end_of_axis = picture[int(0.4 * height) : int(0.45 * height), int(0.965 * width) :]
    assert len(where(end_of_axis, DARK.faint, 30)) > 10, "now, under the timeline's end"


@pytest.mark.parametrize(
    ("status", "held", "word"),
    [
        (RUNNING, True, "SILENCE"),
        (replace(RUNNING, state=SourceState.LOST, detail="It was unplugged."), False, "DEVICE LOST"),
        (replace(RUNNING, state=SourceState.PAUSED), False, "PAUSED"),
        (replace(RUNNING, state=SourceState.ENDED), False, "ENDED"),
    ],
)
def test_what_does_not_follow_the_music_is_a_ghost(shown: Shown, status: Status, held: bool, word: str) -> None:
    shown.give(RUNNING, circle(30))
    assert len(where(shown.picture(), DARK.point)) > 100
    shown.give(status, [update(30, 0.5, 0.0, held=held)])
    picture = shown.picture()
    # The point and the trail; the word is further down.
    upper_plane = picture[: 3 * picture.shape[0] // 4, : picture.shape[1] // 2]
    assert (upper_plane[..., 0] - upper_plane[..., 2]).max() < 30, "nothing yellow"
    assert len(where(upper_plane, DARK.ghost)) > 30
    assert word in shown.texts()
    assert status.detail in [*shown.texts(), ""]
    shown.give(RUNNING, [update(31, 0.4, 0.1)])
    assert len(where(shown.picture(), DARK.point)) > 100
    assert word not in shown.texts()


def test_the_meter_is_filled_to_the_rms_and_marked_at_the_peak(shown: Shown) -> None:
    filled, marked = {}, {}
    for peak_db, rms_db in ((-12.0, -36.0), (-4.0, -18.0)):
        shown.give(replace(RUNNING, level=InputLevel(peak_db, rms_db, LevelState.MUSIC)))
        picture = shown.picture()
        height, width, _ = picture.shape
        bar = picture[int(0.845 * height) : int(0.85 * height), width // 2 :]
        filled[rms_db] = int(where(bar, DARK.good)[:, 1].max() - where(bar, DARK.good)[:, 1].min())
        marked[peak_db] = int(where(bar, DARK.text)[:, 1].max() - where(bar, DARK.good)[:, 1].min())
    # A scale of 72 dB: half of it, and three quarters.
    assert filled[-18.0] == pytest.approx(1.5 * filled[-36.0], abs=3)
    assert marked[-4.0] - marked[-12.0] == pytest.approx(8 / 36 * filled[-36.0], abs=3)


def test_the_level_of_a_lost_device_is_not_shown(shown: Shown) -> None:
    shown.give(RUNNING)
    assert "music" in shown.texts()
    shown.give(replace(RUNNING, state=SourceState.LOST))
    assert "music" not in shown.texts()


def test_the_trail_fades(shown: Shown) -> None:
    """From left to right in 25 s: its right end is the bright one."""
    shown.give(RUNNING, [update(i, -0.9 + 1.6 * i / 50, 0.5) for i in range(51)])
    picture = shown.picture()
    row = int(where(picture, DARK.point).mean(axis=0)[0])
    trail = picture[row - 3 : row + 4, :, 0].max(axis=0)
    end = int(where(picture, DARK.point)[:, 1].min())
    length = (end - 90) // 3
    thirds = [int(np.median(trail[end - 10 - (k + 1) * length : end - 10 - k * length])) for k in range(3)]
    assert thirds[0] > thirds[1] > thirds[2] > rgb(DARK.panel)[0]


def test_the_trail_forgets(shown: Shown, offscreen: None) -> None:
    """What is older than 30 s leaves nothing behind."""
    newcomer = Shown()
    shown.give(RUNNING, circle(30))
    before = shown.picture()
    shown.give(RUNNING, circle(90)[30:])
    newcomer.give(RUNNING, circle(90)[29:])
    of_plane = np.s_[:, : before.shape[1] // 2]
    assert (shown.picture()[of_plane] != before[of_plane]).any()
    assert (shown.picture()[of_plane] == newcomer.picture()[of_plane]).all()
    newcomer.window.close()


def test_a_trail_that_stands_still_draws_no_dash(shown: Shown) -> None:
    shown.give(RUNNING, [update(i, 0.1, -0.3, held=i > 2) for i in range(40)])
    picture = shown.picture()
    plane = picture[:, : picture.shape[1] // 2]
    assert (plane.min(axis=2) > 100).mean(axis=1).max() < 0.5


def test_timelines_show_the_last_minute_and_what_was_held_in_another_colour(shown: Shown) -> None:
    wave = [update(i, 0.6 * math.sin(i / 3), 0.0, held=False) for i in range(60)]
    held = [update(i, wave[-1].valence, 0.0, held=True) for i in range(60, 120)]
    shown.give(replace(RUNNING, time_s=60.5), [*wave, *held])
    picture = shown.picture()
    height, width, _ = picture.shape
    upper = picture[int(0.14 * height) : int(0.4 * height)]
    orange = (upper[..., 0] > 110) & (upper[..., 2] < 60)
    columns = np.flatnonzero(orange[:, width // 2 :].any(axis=0)) + width // 2
    left, right = columns.min(), columns.max()
    middle = (int(0.58 * width) + int(0.98 * width)) // 2
    assert left == pytest.approx(0.58 * width, abs=0.02 * width)
    assert right == pytest.approx(middle, abs=0.02 * width)
    # Half a minute on, the wave has left.
    shown.give(replace(RUNNING, time_s=91.0))
    later = shown.picture()[int(0.14 * height) : int(0.4 * height), width // 2 :]
    assert not ((later[..., 0] > 110) & (later[..., 2] < 60)).any()


def test_hours_of_updates_make_no_new_items(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtCore, QtWidgets

    def n_things() -> int:
        scenes = [view.scene() for view in shown.window.findChildren(QtWidgets.QGraphicsView)]
        items = [item for scene in scenes if scene is not None for item in scene.items()]
        assert items
        return len(items) + len(shown.window.findChildren(QtCore.QObject))

    shown.give(RUNNING, circle(30))
    before = n_things()
    for part in range(1, 40):
        for i in range(200):
            shown.board.update(update(200 * part + i, math.sin(i), math.cos(i), held=i % 7 == 0))
        state = SourceState.LOST if part % 3 == 0 else SourceState.RUNNING
        shown.board.status(replace(RUNNING, state=state, time_s=100.0 * (part + 1), losses=part))
        shown.live(lambda: shown.window._shown_status is shown.board.latest_status)
    assert n_things() == before
    assert len(shown.window._history.time_s) <= 240


def test_names_are_not_read_as_markup(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtCore, QtWidgets

    shown.give(replace(RUNNING, source="<b>USB</b> & more"))
    labels = shown.window.findChildren(QtWidgets.QLabel)
    assert [label.textFormat() for label in labels if "USB" in label.text()] == [QtCore.Qt.TextFormat.PlainText]


def test_what_does_not_fit_is_cut_and_stands_in_the_tool_tip(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtWidgets

    name = "Built-in Audio " * 30
    shown.give(replace(RUNNING, source=name))
    cut = [label for label in shown.window.findChildren(QtWidgets.QLabel) if label.toolTip() == name]
    assert len(cut) == 1
    assert cut[0].text().endswith("…")
    assert shown.window.width() == 1280


def test_a_text_that_can_be_cut_asks_for_no_room(offscreen: None) -> None:
    from realtime_mer.monitor.labels import CutLabel
    from realtime_mer.monitor.qt import QtWidgets

    widget = QtWidgets.QWidget()
    layout = QtWidgets.QHBoxLayout(widget)
    label = CutLabel(12, "#ffffff")
    layout.addWidget(label)
    widget.resize(2000, 50)
    widget.show()
    label.show_text("never ending " * 10)
    assert layout.minimumSize().width() < 100 < label.fontMetrics().horizontalAdvance(label.text())


def test_texts_that_change_push_nothing_about(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtWidgets

    def places() -> list[tuple[int, int]]:
        foot = [label for label in shown.window.findChildren(QtWidgets.QLabel) if label.parent() is line]
        return [(label.x(), label.y()) for label in foot]

    line = shown.window._status_line
    shown.give(RUNNING)
    before = places()
    assert len(before) == 16
    shown.give(replace(RUNNING, source="never ending " * 30, overflows=10**9, losses=100))
    assert places() == before


def test_the_longest_texts_fit_the_smallest_window(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtWidgets

    long = "never ending " * 30
    trouble = replace(
        RUNNING, source=long, detail=long, recording="/sets/friday", recording_fault=long, overflows=10**9
    )
    shown.give(trouble, circle(60))
    shown.window.resize(400, 300)
    shown.give(replace(trouble, state=SourceState.LOST))
    layout = shown.window.layout()
    assert layout is not None
    for label in shown.window.findChildren(QtWidgets.QLabel):
        if not label.wordWrap():
            assert label.fontMetrics().horizontalAdvance(label.text()) <= label.width(), label.text()
    assert layout.minimumSize().width() <= shown.window.width() <= 1024
    assert layout.minimumSize().height() <= shown.window.height() <= 600


# What it does


def test_stop_closes_it(shown: Shown) -> None:
    closed: list[None] = []
    shown.window.closed.connect(lambda: closed.append(None))
    shown.stop.set()
    shown.live(lambda: not shown.window.isVisible())
    assert len(closed) == 1


@pytest.mark.parametrize("key", ["Q", "Escape"])
def test_keys_that_quit(shown: Shown, key: str) -> None:
    assert not shown.stop.is_set()
    shown.key(key)
    assert shown.stop.is_set()
    assert not shown.window.isVisible()


def test_closing_sets_stop(shown: Shown) -> None:
    shown.window.close()
    assert shown.stop.is_set()


def test_space_pauses_and_an_unknown_key_does_nothing(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets

    shown.key("X")
    assert shown.n_pauses == 0
    shown.key("Space")
    assert shown.n_pauses == 1
    # Held down.
    again = QtGui.QKeyEvent(
        QtCore.QEvent.Type.KeyPress, QtCore.Qt.Key.Key_Space, QtCore.Qt.KeyboardModifier.NoModifier, " ", True
    )
    QtWidgets.QApplication.sendEvent(shown.window, again)
    assert shown.n_pauses == 1
    assert any("Space" in text for text in shown.texts())
    assert not shown.stop.is_set()


def test_space_does_nothing_where_nothing_can_be_paused(offscreen: None) -> None:
    shown = Shown(pausable=False)
    shown.key("Space")
    assert not any("Space" in text for text in shown.texts())
    shown.window.close()


def test_the_mouse_changes_nothing(shown: Shown) -> None:
    from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets

    shown.give(RUNNING, circle(20))
    before = shown.picture()
    for place in (QtCore.QPoint(300, 250), QtCore.QPoint(900, 250)):
        under = shown.window.childAt(place) or shown.window
        at = QtCore.QPointF(under.mapFrom(shown.window, place))
        turn = QtGui.QWheelEvent(
            at,
            at,
            QtCore.QPoint(0, 0),
            QtCore.QPoint(0, 480),
            QtCore.Qt.MouseButton.NoButton,
            QtCore.Qt.KeyboardModifier.NoModifier,
            QtCore.Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QtWidgets.QApplication.sendEvent(under, turn)
    shown.give(RUNNING)
    assert (shown.picture() == before).all()


def test_f_is_full_screen_and_back(shown: Shown) -> None:
    shown.key("F")
    assert shown.window.isFullScreen()
    shown.give(RUNNING, circle(5))
    shown.key("F")
    assert not shown.window.isFullScreen()
    assert shown.window.isVisible()


# The whole of it, in a process of its own

PRELUDE = """
import locale, math, os, sys, threading, time
from realtime_mer.status import Board, InputLevel, LevelState, SourceState, Status, Update
board, stop = Board("a device"), threading.Event()
def feed(n, then):
    for i in range(n):
        board.update(Update(i, 1.0 + 0.5 * i, 0.5 * math.sin(i), 0.5 * math.cos(i), False, 0.2))
        board.status(Status("a device", SourceState.RUNNING, time_s=1.0 + 0.5 * i))
        time.sleep(0.05)
    while board._updates:
        time.sleep(0.01)
    then()
def feeding(n, then):
    threading.Thread(target=feed, args=(n, then), daemon=True).start()
"""


def run(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def bare_environment(**more: str) -> dict[str, str]:
    """This process's environment, without what chooses a display, and with this."""
    chosen = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "XDG_SESSION_TYPE", "XAUTHORITY")
    return {name: value for name, value in os.environ.items() if name not in chosen} | more


@pytest.fixture(scope="module")
def x_server() -> Iterator[str]:
    """The DISPLAY of an X server without a screen."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb (Debian: apt-get install xvfb): this test needs an X server")
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x720x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        number = server.stdout.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(TIMEOUT_S)


@pytest.fixture(params=["offscreen", "xcb"])
def drawable(request: pytest.FixtureRequest) -> dict[str, str]:
    """An environment in which a window can be shown."""
    if request.param == "offscreen":
        environment = bare_environment(QT_QPA_PLATFORM="offscreen")
    else:
        environment = bare_environment(DISPLAY=request.getfixturevalue("x_server"))
    fault = told_fault(environment)
    if fault is not None:
        pytest.skip(f"no window can be shown here: {fault}")
    return environment


def told_fault(environment: dict[str, str], preparation: str = "") -> str | None:
    """What display_fault says in this environment."""
    told = run(
        f"{preparation}\nfrom realtime_mer.monitor import display_fault\nprint(repr(display_fault()))", environment
    )
    assert told.returncode == 0, told.stderr
    fault = ast.literal_eval(told.stdout)
    assert fault is None or isinstance(fault, str)
    return fault


def test_it_runs_until_stop(drawable: dict[str, str]) -> None:
    told = run(
        "from realtime_mer.monitor.window import run_window\n"
        "feeding(20, stop.set)\n"
        "run_window(board, stop, toggle_pause=None)\n"
        "print(stop.is_set(), len(board.take_updates()))",
        drawable,
    )
    assert (told.returncode, told.stdout) == (0, "True 0\n"), told.stderr


def test_it_runs_until_it_is_closed(drawable: dict[str, str]) -> None:
    told = run(
        "from realtime_mer.monitor.window import run_window, application\n"
        "from PyQt5 import QtCore, QtTest\n"
        "application()\n"
        "def press():\n"
        "    shown, = [widget for widget in application().topLevelWidgets() if widget.isVisible()]\n"
        "    for key in (QtCore.Qt.Key_Tab, QtCore.Qt.Key_Tab, QtCore.Qt.Key_Q):\n"
        "        QtTest.QTest.keyClick(shown.windowHandle(), key)\n"
        "feeding(200, lambda: None)\n"
        "QtCore.QTimer.singleShot(800, press)\n"
        "run_window(board, stop)\n"
        "print(stop.is_set())",
        drawable,
    )
    assert (told.returncode, told.stdout) == (0, "True\n"), told.stderr


def test_it_is_really_on_the_screen(x_server: str) -> None:
    told = run(
        "from realtime_mer.monitor.window import run_window, application\n"
        "from realtime_mer.monitor.qt import QtCore, QtGui\n"
        "application()\n"
        "def look():\n"
        "    screen = application().primaryScreen()\n"
        "    shown, = [widget for widget in application().topLevelWidgets() if widget.isVisible()]\n"
        "    image = screen.grabWindow(0).toImage()\n"
        "    colour = QtGui.QColor('#f0e442').rgb()\n"
        "    found = sum(image.pixel(x, y) == colour for x in range(image.width()) for y in range(image.height()))\n"
        "    print(found, screen.geometry().contains(shown.geometry()))\n"
        "    stop.set() if found > 100 else QtCore.QTimer.singleShot(200, look)\n"
        "feeding(10, lambda: None)\n"
        "QtCore.QTimer.singleShot(200, look)\n"
        "run_window(board, stop)",
        bare_environment(DISPLAY=x_server),
    )
    assert told.returncode == 0, told.stderr
    found, fits = told.stdout.split()[-2:]
    assert int(found) > 100
    assert fits == "True"


@pytest.mark.parametrize("handled", [True, False])
def test_ctrl_c_ends_it(drawable: dict[str, str], handled: bool) -> None:
    """By a handler that sets `stop`, and by Python's own, which raises KeyboardInterrupt wherever Qt happens to be."""
    script = (
        "import signal\n"
        + ("signal.signal(signal.SIGINT, lambda *_: stop.set())\n" if handled else "")
        + "from realtime_mer.monitor.window import run_window\n"
        "feeding(4000, lambda: None)\n"
        "threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "run_window(board, stop)\n"
        "print(stop.is_set())"
    )
    told = run(script, drawable)
    assert (told.returncode, told.stdout) == (0, "True\n"), told.stderr


@pytest.mark.parametrize("method", ["paint", "set_path"])
def test_a_fault_in_drawing_is_told_once_and_ends_nothing(drawable: dict[str, str], method: str) -> None:
    told = run(
        "from realtime_mer.monitor import plane, window\n"
        f"def broken(*_): {method}_is_broken\n"
        f"plane.TrailItem.{method} = broken\n"
        "feeding(20, stop.set)\n"
        "hook = sys.excepthook\n"
        "window.run_window(board, stop)\n"
        "print(stop.is_set(), len(board.take_updates()), sys.excepthook is hook)",
        drawable,
    )
    assert (told.returncode, told.stdout) == (0, "True 0 True\n"), told.stderr
    assert told.stderr.count(f"NameError: name '{method}_is_broken'") == 1
    assert told.stderr.count("realtime-mer: ") == 1


def test_where_the_window_cannot_be_made_the_run_goes_on(drawable: dict[str, str]) -> None:
    told = run(
        "from realtime_mer.monitor import window\n"
        "def broken(*_): raise OSError('no paint')\n"
        "window.PlaneView = broken\n"
        "window.run_window(board, stop)\n"
        "print(stop.is_set())",
        drawable,
    )
    assert (told.returncode, told.stdout) == (0, "False\n"), told.stderr
    assert told.stderr.count("OSError: no paint") == 1


def test_a_user_s_decimal_comma_stays_out_of_the_c_library(drawable: dict[str, str], tmp_path: Path) -> None:
    """openSMILE, in this process, reads its configuration with the C library, and needs the point."""
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("no localedef or no source of de_DE (Debian: apt-get install locales)")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"], check=True)
    german = drawable | {"LOCPATH": str(tmp_path), "LC_ALL": "de_DE.UTF-8", "LANG": "C.UTF-8"}
    assert (
        run("locale.setlocale(locale.LC_ALL, ''); print(locale.localeconv()['decimal_point'])", german).stdout == ",\n"
    )
    told = run(
        "from realtime_mer.monitor.window import run_window\n"
        "feeding(5, stop.set)\n"
        "run_window(board, stop)\n"
        "environment = [os.environ.get(name) for name in ('LC_ALL', 'LANG', 'LC_NUMERIC')]\n"
        "print(locale.localeconv()['decimal_point'], *environment)",
        german,
    )
    assert (told.returncode, told.stdout) == (0, ". de_DE.UTF-8 C.UTF-8 None\n"), told.stderr


# Whether there can be one


def test_the_package_itself_is_cheap() -> None:
    told = run(
        "import realtime_mer.monitor; print(sorted({'PyQt5', 'pyqtgraph', 'numpy'} & set(sys.modules)))",
        bare_environment(),
    )
    assert (told.returncode, told.stdout) == (0, "[]\n"), told.stderr


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there, a display is not named by the environment")
def test_no_display() -> None:
    fault = told_fault(bare_environment())
    assert fault is not None
    assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in fault


def test_a_display_that_answers(x_server: str) -> None:
    fault = told_fault(bare_environment(DISPLAY=x_server))
    if fault is not None and "apt-get install" in fault:
        pytest.skip(fault)
    assert fault is None


needs_xcb = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 is Linux's")


@needs_xcb
def test_a_display_that_nobody_answers_on(x_server: str) -> None:
    fault = told_fault(bare_environment(DISPLAY=":4999"))
    assert fault is not None
    if "apt-get install" in fault:
        pytest.skip(fault)
    assert "could not connect to display :4999" in fault
    assert "Is DISPLAY=:4999 right" in fault


@needs_xcb
def test_a_display_that_says_nothing() -> None:
    """Something listens where an X server would, and never answers."""
    with socket.socket() as silent:
        for number in range(60, 100):
            try:
                silent.bind(("127.0.0.1", 6000 + number))
                break
            except OSError:
                continue
        silent.listen()
        fault = told_fault(
            bare_environment(DISPLAY=f"127.0.0.1:{number}"),
            "from realtime_mer import monitor; monitor._PROBE_TIMEOUT_S = 1.5",
        )
    assert fault is not None
    if "apt-get install" in fault:
        pytest.skip(fault)
    assert fault == f"The display has not answered for 1.5 s. Is DISPLAY=127.0.0.1:{number} right?"


@needs_xcb
def test_the_probe_does_not_crash() -> None:
    """A core file or a crash report would be left behind."""
    told = subprocess.run(
        [sys.executable, monitor._PROBE], env=bare_environment(DISPLAY=":4999"), capture_output=True, check=False
    )
    assert told.returncode == 1, told.stderr


def test_a_platform_that_does_not_exist() -> None:
    fault = told_fault(bare_environment(QT_QPA_PLATFORM="nonsense"))
    assert fault is not None
    assert 'Could not find the Qt platform plugin "nonsense"' in fault
    assert "Is QT_QPA_PLATFORM=nonsense right" in fault


@needs_xcb
def test_wayland_alone_needs_to_be_asked_for() -> None:
    fault = told_fault(bare_environment(WAYLAND_DISPLAY="wayland-77"))
    assert fault is not None
    if "apt-get install" in fault:
        pytest.skip(fault)
    assert fault.endswith("For Wayland, set QT_QPA_PLATFORM=wayland.")


def test_a_package_that_does_not_work() -> None:
    fault = told_fault(
        bare_environment(QT_QPA_PLATFORM="offscreen"),
        "import importlib\ndef broken(name): raise AttributeError('numpy has no float.')\n"
        "importlib.import_module = broken",
    )
    assert fault == "What draws the window cannot be loaded: numpy has no float."


@pytest.mark.parametrize("missing", ["PyQt5", "pyqtgraph"])
def test_a_package_that_is_not_installed(missing: str) -> None:
    fault = told_fault(
        bare_environment(QT_QPA_PLATFORM="offscreen"),
        "import importlib.util\nfind = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {missing!r} else find(name)",
    )
    assert fault == f"{missing}, which draws the window, is not installed: pip install PyQt5 pyqtgraph."


@pytest.fixture
def broken_libraries(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Makes an environment in which these libraries of the system cannot be loaded, and ldd says so."""

    def make(*names: str) -> dict[str, str]:
        if importlib.util.find_spec("PyQt5") is None:
            pytest.skip("no PyQt5")
        libraries, programs = tmp_path / "lib", tmp_path / "bin"
        libraries.mkdir()
        programs.mkdir()
        for name in names:
            (libraries / name).write_bytes(b"no library")
        lines = "\n".join(f"\t{name} => not found" for name in names)
        (programs / "ldd").write_text(f"#!/bin/sh\ncat <<'END'\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n{lines}\nEND\n")
        (programs / "ldd").chmod(0o755)
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        return bare_environment(DISPLAY=":4999", LD_LIBRARY_PATH=str(libraries), PATH=path)

    return make


@needs_xcb
@pytest.mark.parametrize(
    ("names", "packages"),
    [
        # The first is what importing Qt needs; the others are what its way to X11 needs, and looked at only then.
        (["libGL.so.1"], "libgl1"),
        (["libxcb-icccm.so.4", "libxcb-xinerama.so.0"], "libxcb-icccm4 libxcb-xinerama0"),
    ],
)
def test_libraries_that_the_system_lacks(
    broken_libraries: Callable[..., dict[str, str]], names: list[str], packages: str
) -> None:
    fault = told_fault(broken_libraries(*names))
    assert fault == (
        f"Qt lacks libraries of the system: {', '.join(names)}. On Debian and Ubuntu: sudo apt-get install {packages}"
    )


@needs_xcb
def test_every_library_that_the_wheel_leaves_to_the_system_has_a_package() -> None:
    spec = importlib.util.find_spec("PyQt5")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
    plugin = None if folder is None else folder / "Qt5" / "plugins" / "platforms" / "libqxcb.so"
    if plugin is None or not plugin.exists() or shutil.which("readelf") is None:
        pytest.skip("no wheel of PyQt5, or no readelf (Debian: apt-get install binutils)")
    assert folder is not None
    bundled = folder / "Qt5" / "lib"
    needed = set()
    for binary in (plugin, *folder.glob("QtGui*.so"), *bundled.glob("libQt5Xcb*"), *bundled.glob("libQt5Core.*")):
        told = subprocess.run(["readelf", "-d", binary], capture_output=True, text=True, check=True).stdout
        needed |= {line.split("[")[1].rstrip("]") for line in told.splitlines() if "(NEEDED)" in line}
    inside = {path.name for path in bundled.iterdir()}
    of_any_system = ("libc.", "libdl.", "libgcc_s.", "libm.", "libpthread.", "libstdc++.", "libz.", "ld-linux")
    left = {name for name in needed - inside if not name.startswith(of_any_system)}
    assert "libGL.so.1" in left
    assert left <= set(monitor._PACKAGE_OF)
