"""Hours in the window leave nothing behind, and the window's benchmark counts what was painted."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from drawing import require_qt
from windows import TIMEOUT_S, bare_environment

from benchmarks.common import BenchmarkError, OscReceiver, running
from benchmarks.display import count_of, show_hours
from benchmarks.offscreen import PIXEL_FOR_PIXEL, Recognised, open_window
from realtime_mer.config import DisplaySettings
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

if TYPE_CHECKING:
    from realtime_mer.window.run import LiveWindow

LENGTH_S, STATUS_S = 300.0, 30.0


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recognised() -> Recognised:
    """Five minutes in all quadrants, with a silence in the middle, and a status every half minute."""
    updates = []
    for index in range(int(2 * LENGTH_S)):
        held = 280 <= index < 300
        place = 0.8 * math.sin(0.17 * index), 0.8 * math.cos(0.11 * index)
        prediction = Prediction(0.5 * index + 0.3, *place, 0.18, 0.17, 0.56, None if held else (0.125,) * 8)
        updates.append(Update(index, prediction, held, 0.1, 1 + index % 4))
    statuses = []
    for number in range(1, int(LENGTH_S / STATUS_S) + 1):
        level = InputLevel(-3.0 - number % 5, -18.0, LevelState.MUSIC)
        statuses.append(Status("a", SourceState.RUNNING, time_s=STATUS_S * number, level=level, gain_db=number / 10))
    return Recognised(tuple(updates), tuple(statuses))


def kept(window: LiveWindow) -> tuple[int, int, int]:
    """The number of memory blocks of Python's objects, of items in Qt's scenes, and of Qt's other objects."""
    from realtime_mer.window.qt import QtCore, QtWidgets

    gc.collect()
    views = window.findChildren(QtWidgets.QGraphicsView)
    scenes = [scene for scene in (view.scene() for view in views) if scene is not None]
    n_items = sum(len(scene.items()) for scene in scenes)
    n_others = len(window.findChildren(QtCore.QObject)) + len(QtWidgets.QApplication.topLevelWidgets())
    return sys.getallocatedblocks(), n_items, n_others


def test_hours_in_the_window_leave_nothing_behind(recognised: Recognised) -> None:
    """Its memory stops growing after 35 minutes, when all of its lists have their full length."""
    require_qt()
    found = []
    with open_window(DisplaySettings(mode="operator", theme="dark", trail_s=120), (1280, 720)) as (window, board):
        for sample in show_hours(window, board, recognised, 1.5):
            found.append((sample, kept(window)))
    last = found[-1][0]
    assert (len(found), last.time_s) == (6, 1.5 * 3600.0)
    assert last.pictures > 200
    # Both after a multiple of three presses of the key for the span of the timelines, which has three values.
    (early_blocks, *early_qt), (late_blocks, *late_qt) = found[2][1], found[5][1]
    # 5,400 updates are in between, so anything kept per update would show; the curves' points vary by some hundreds.
    assert late_qt == early_qt
    assert late_blocks - early_blocks < 1_500


def test_a_window_reports_what_it_has_painted(tmp_path: Path) -> None:
    require_qt()
    # Only here: with Qt.
    from benchmarks.painted import reported_counts

    tape = tmp_path / "noise.wav"
    soundfile.write(tape, np.random.default_rng(1).normal(0.0, 0.1, 30 * 22_050), 22_050)
    environment = bare_environment(QT_QPA_PLATFORM="offscreen", **PIXEL_FOR_PIXEL)
    with contextlib.closing(OscReceiver()) as receiver:
        arguments = ["--input", str(tape), "--loop", "--osc", receiver.target, "--mode", "stage"]
        with running(["-m", "benchmarks.painted", "900x600", *arguments], environment) as process:
            deadline_s = time.monotonic() + TIMEOUT_S
            while not (counts := reported_counts(process.errors())):
                assert process.popen.poll() is None, process.errors()
                assert time.monotonic() < deadline_s, "no counts from the window"
                time.sleep(0.05)
            receiver.wait_for(1, TIMEOUT_S)
            first = count_of(process, (900, 600))
            receiver.wait_for(len(receiver.arrivals) + 2, TIMEOUT_S)
            second = count_of(process, (900, 600))
            with pytest.raises(BenchmarkError, match="Expected a window of 1280 x 720"):
                count_of(process, (1280, 720))
    assert 0 == counts[0].pictures <= first.pictures < second.pictures
    assert counts[0].now_s < first.now_s < second.now_s
    assert 0.0 < second.longest_s < second.now_s - counts[0].now_s
    assert 0.0 < second.thread_s - first.thread_s <= second.now_s - first.now_s
