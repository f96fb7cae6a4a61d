"""The window of a live run: reads a board as often as the screen is drawn, and shows what is on it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from realtime_mer.config import DisplaySettings
from realtime_mer.log import notify
from realtime_mer.osc.status import NetworkStatus
from realtime_mer.updates import Board, Status
from realtime_mer.window.application import application, display_watched, faults_reported
from realtime_mer.window.base import Actions, ViewWindow, remembered_in
from realtime_mer.window.history import History
from realtime_mer.window.notices import Notices
from realtime_mer.window.qt import QtCore
from realtime_mer.window.shortcuts import KEYS, Action
from realtime_mer.window.theme import Theme
from realtime_mer.window.view import VIEWS, View


def run_window(
    board: Board,
    stop: threading.Event,
    *,
    settings: DisplaySettings,
    actions: Actions | None = None,
    notices: Notices | None = None,
    osc: Callable[[], Sequence[NetworkStatus]] = tuple,
    lost: Callable[[], NoReturn] | None = None,
) -> None:
    """Shows the window until it is closed or `stop` is set. For the main thread.

    Closing it sets `stop`, unless settings.keep_running: then a note on standard error says that the run goes on.
    Python's signal handlers run within a few hundredths of a second. A fault in the window is printed once on standard
    error and ends nothing else. If the window cannot be created, this returns with `stop` not set.

    board: nothing else may read it. lost: called when the display is gone for good; if it returns, or is None, Qt ends
    the process. The others: see LiveWindow.
    """
    with faults_reported(stop), display_watched(lost):
        try:
            application()
            remembered = remembered_in("window.json")
            window = LiveWindow(board, stop, settings, remembered=remembered, actions=actions, notices=notices, osc=osc)
            window.open(screen=settings.screen)
        except Exception:  # noqa: BLE001 - in any case sound and OSC go on
            sys.excepthook(*sys.exc_info())
            return
        window.run_until_closed()
        if not settings.keep_running:
            # The loop also ends with the desktop's session.
            stop.set()
        elif not stop.is_set():
            notify("The window is closed, and the run goes on; Ctrl-C ends it.")


class LiveWindow(ViewWindow):
    """The window of a live run; `open` shows it.

    settings: of [display]. remembered: the file that keeps how the window was left; None: none. actions: for PAUSE,
    RECORD and MARK. notices: messages to show. osc: the state of OSC targets and servers.
    frames_painted: how many pictures have been drawn so far, at most one for each look at the board.
    """

    def __init__(
        self,
        board: Board,
        stop: threading.Event,
        settings: DisplaySettings,
        *,
        remembered: Path | None = None,
        actions: Actions | None = None,
        notices: Notices | None = None,
        osc: Callable[[], Sequence[NetworkStatus]] = tuple,
    ) -> None:
        super().__init__(
            stop,
            mode=settings.mode,
            theme=settings.theme,
            remembered=remembered,
            notices=notices or Notices(),
            keys=KEYS,
            actions={**(actions or {}), Action.CLEAR: self._clear},
            title="realtime-mer",
        )
        self._board, self._settings, self._osc = board, settings, osc
        self._history = History()
        self._shown_status: Status | None = None
        self.frames_painted, self._has_painted = 0, False
        self.installEventFilter(self)
        self._begin()

    def eventFilter(self, _watched: QtCore.QObject | None, event: QtCore.QEvent | None) -> bool:  # noqa: N802
        # Not in `event`: then Qt would draw while holding Python's lock, and an X server that hangs would block all
        # other threads.
        if event is not None and event.type() == QtCore.QEvent.Type.UpdateRequest:
            self._has_painted = True
        return False

    def _new_view(self, theme: Theme) -> View:
        view = VIEWS[self.look.mode](theme, self._keys, self._settings.trail_s)
        view.show_span(self.look.span_s)
        view.show_history(self._history)
        if self._shown_status is not None:
            view.show_status(self._shown_status, self._history, self._osc())
        return view

    def _advance(self, elapsed_s: float) -> None:
        # Qt may draw the parts of one picture separately.
        self.frames_painted += self._has_painted
        self._has_painted = False
        updates, marks, status = self._board.take_updates(), self._board.take_marks(), self._board.latest_status
        if updates or marks:
            self._history.extend(updates)
            self._history.marks.extend(marks)
            self.view.show_history(self._history)
        if updates or status is not self._shown_status:
            self._shown_status = status
            self.view.show_status(status, self._history, self._osc())
        self.view.advance(elapsed_s)

    def _at_close(self) -> None:
        if not self._settings.keep_running:
            self._stop.set()

    def _clear(self) -> None:
        newest = self._history.newest
        self._history.clear()
        if newest is not None:
            self._history.extend([newest])
        self._rebuild()
