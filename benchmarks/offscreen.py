"""The live window drawn into memory, and what a live run puts on its board."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import BenchmarkError
from realtime_mer.config import DisplaySettings, LevelMeterSettings
from realtime_mer.demo.instruments import RATE_HZ
from realtime_mer.demo.piece import render
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.osc.status import TargetState, TargetStatus
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.reading import read_blocks
from realtime_mer.types import AudioBlock
from realtime_mer.updates import Board, SourceState, Status, Update
from realtime_mer.window import display_fault

if TYPE_CHECKING:
    from realtime_mer.window.run import LiveWindow

DEMO = "the built-in piece"
# With these environment variables Qt ignores the screen's reported resolution and does not scale.
PIXEL_FOR_PIXEL = {"QT_FONT_DPI": "96"}
# The interval of a live run's statuses.
_STATUS_S = 0.1


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a live run puts on its board: updates and statuses, each rising in time."""

    updates: tuple[Update, ...]
    statuses: tuple[Status, ...]

    @property
    def length_s(self) -> float:
        """Stream time processed."""
        return self.statuses[-1].time_s


def recognise(songs: Sequence[Path], silence_s: float, longest_s: float = math.inf) -> Recognised:
    """Recognises these files one after the other, as fast as possible, then silence of this length.

    songs: empty for the built-in piece.
    longest_s: how much of each file. Each file is a segment of its own, as when another input is chosen.
    Raises AudioFileError, and what Session raises.
    """
    updates: list[Update] = []
    statuses: list[Status] = []
    rate_hz, n_channels = RATE_HZ, 2
    with contextlib.closing(Session(load_checkpoint(default_checkpoint_path()), LevelMeterSettings())) as session:

        def take(capture: Capture, name: str) -> None:
            updates.extend(session.process(capture))
            statuses.append(
                Status(
                    name,
                    SourceState.RUNNING,
                    time_s=session.time_s,
                    level=session.level,
                    gain_db=session.gain_db,
                )
            )

        names = [song.name for song in songs] or [DEMO]
        for segment, blocks in enumerate(map(read_blocks, songs) if songs else [_demo_blocks()]):
            for block in itertools.takewhile(lambda block: block.start_s < longest_s, blocks):
                rate_hz, n_channels = block.rate_hz, block.samples.shape[1]
                for capture in _captures(block, segment):
                    take(capture, names[segment])
        n_samples = round(silence_s * rate_hz)
        silence = AudioBlock(np.zeros((n_samples, n_channels), dtype=np.float32), 0.0, rate_hz)
        for capture in _captures(silence, len(names) - 1):
            take(capture, names[-1])
        updates += session.end_segment()
    return Recognised(tuple(updates), tuple(statuses))


def again(recognised: Recognised, number: int) -> Recognised:
    """The same music for the `number`-th time after the first: later, and with other indices."""
    later_s, more = number * recognised.length_s, number * len(recognised.updates)
    return Recognised(
        tuple(
            replace(
                update,
                index=update.index + more,
                prediction=replace(update.prediction, time_s=update.time_s + later_s),
            )
            for update in recognised.updates
        ),
        tuple(replace(status, time_s=status.time_s + later_s) for status in recognised.statuses),
    )


def draw_into_memory() -> None:
    """From now on, this process's windows are drawn into memory. Raises BenchmarkError if Qt cannot do that."""
    os.environ.update(QT_QPA_PLATFORM="offscreen", **PIXEL_FOR_PIXEL)
    fault = display_fault()
    if fault is not None:
        raise BenchmarkError(fault)
    # Imported late, since it imports Qt.
    from realtime_mer.window.application import application

    application()


@contextlib.contextmanager
def open_window(settings: DisplaySettings, size_px: tuple[int, int]) -> Iterator[tuple[LiveWindow, Board]]:
    """The live window in this size, whatever its mode, and its board; after `draw_into_memory`."""
    from realtime_mer.window.qt import QtCore
    from realtime_mer.window.run import LiveWindow
    from realtime_mer.window.shortcuts import Action

    board, stop = Board(DEMO), threading.Event()
    actions = {Action.PAUSE: stop.clear, Action.RECORD: stop.clear}
    target = TargetStatus("127.0.0.1:9000", TargetState.UP)
    window = LiveWindow(board, stop, settings, actions=actions, osc=lambda: [target])
    try:
        window.open()
        window.setWindowState(QtCore.Qt.WindowState.WindowNoState)
        window.setGeometry(0, 0, *size_px)
        yield window, board
    finally:
        window.close()
        window.deleteLater()
        _handle_events()


def look(window: LiveWindow) -> None:
    """Has the window look at its board now, and draws what has changed: what its timer does sixty times a second."""
    from realtime_mer.window.qt import QtCore

    # The other timers are single-shot.
    (timer,) = (timer for timer in window.findChildren(QtCore.QTimer) if not timer.isSingleShot())
    QtCore.QCoreApplication.sendEvent(timer, QtCore.QTimerEvent(timer.timerId()))
    _handle_events()


def press(window: LiveWindow, key: str) -> None:
    """Presses a key of keys.KEYS, such as "Z"."""
    from realtime_mer.window.qt import QtCore, QtGui

    code, modifiers = getattr(QtCore.Qt.Key, f"Key_{key}"), QtCore.Qt.KeyboardModifiers()
    QtCore.QCoreApplication.sendEvent(window, QtGui.QKeyEvent(QtCore.QEvent.Type.KeyPress, code, modifiers))
    _handle_events()


def _handle_events() -> None:
    from realtime_mer.window.qt import QtCore, QtWidgets

    QtWidgets.QApplication.processEvents()
    # Done by an event loop otherwise.
    QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


def _demo_blocks() -> Iterator[AudioBlock]:
    start_samples = 0
    for movement in render():
        for piece in np.array_split(movement, max(len(movement) * 2 // RATE_HZ, 1)):
            yield AudioBlock(piece, start_samples / RATE_HZ, RATE_HZ)
            start_samples += len(piece)


def _captures(block: AudioBlock, segment: int) -> Iterator[Capture]:
    samples, _ = on_grid(block.samples)
    n_samples = max(round(_STATUS_S * block.rate_hz), 1)
    for first in range(0, len(samples), n_samples):
        yield Capture(samples[first : first + n_samples], block.rate_hz, segment, 0, None)
