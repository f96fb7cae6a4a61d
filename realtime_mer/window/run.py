"""The window of a live run: it looks at a board as often as the screen is drawn, and draws what is there."""

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
from realtime_mer.window.application import application, display_watched, faults_told
from realtime_mer.window.base import ViewWindow, remembered_in
from realtime_mer.window.history import History
from realtime_mer.window.notices import Notices
from realtime_mer.window.qt import QtCore
from realtime_mer.window.shortcuts import KEYS, Action
from realtime_mer.window.theme import Theme
from realtime_mer.window.view import VIEWS, View

__all__ = ["LiveWindow", "application", "run_window"]


def run_window(
    board: Board,
    stop: threading.Event,
    *,
    settings: DisplaySettings | None = None,
    toggle_pause: Callable[[], None] | None = None,
    toggle_recording: Callable[[], None] | None = None,
    mark: Callable[[], None] | None = None,
    notices: Notices | None = None,
    osc: Callable[[], Sequence[NetworkStatus]] = tuple,
    title: str = "realtime-mer",
    lost: Callable[[], NoReturn] | None = None,
) -> None:
    """Shows the window until it is closed, or until `stop` is set. For the main thread.

    Closing it sets `stop`, unless the settings say keep_running: then it is said on standard error that the run goes
    on. Python's signal handlers run meanwhile, within a few hundredths of a second.
    board: one that nothing else reads meanwhile. lost: called where the display is gone, for good; where it returns, or
    there is none, Qt ends the process. For the others, see LiveWindow.
    A fault in the window is told once on standard error and ends nothing else. Where the window cannot even be made
    this returns, with `stop` not set.
    """
    settings = DisplaySettings() if settings is None else settings
    with faults_told(stop), display_watched(lost):
        try:
            qt = application()
            window = LiveWindow(
                board,
                stop,
                settings,
                remembered=remembered_in("window.json"),
                toggle_pause=toggle_pause,
                toggle_recording=toggle_recording,
                mark=mark,
                notices=notices,
                osc=osc,
                title=title,
            )
            window.open()
        except Exception:  # noqa: BLE001 - whatever it is, sound and OSC go on
            sys.excepthook(*sys.exc_info())
            return
        loop = QtCore.QEventLoop()
        window.closed.connect(loop.quit)
        loop.exec_()
        if not settings.keep_running:
            # The loop also ends where the desktop's session does.
            stop.set()
        elif not stop.is_set():
            notify("The window is closed, and the run goes on; Ctrl-C ends it.")
        window.deleteLater()
        qt.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


class LiveWindow(ViewWindow):
    """The window of a live run; `open` shows it.

    settings: of [display]. remembered: the file that says how the window was left; None: none does.
    toggle_pause, toggle_recording, mark: what the space bar, R and K do; None: nothing. notices: what to show for some
    seconds. osc: what goes over the network.
    frames_painted: how many pictures have been drawn so far: one at most at each look at the board.
    """

    def __init__(
        self,
        board: Board,
        stop: threading.Event,
        settings: DisplaySettings,
        *,
        remembered: Path | None = None,
        toggle_pause: Callable[[], None] | None = None,
        toggle_recording: Callable[[], None] | None = None,
        mark: Callable[[], None] | None = None,
        notices: Notices | None = None,
        osc: Callable[[], Sequence[NetworkStatus]] = tuple,
        title: str = "realtime-mer",
    ) -> None:
        super().__init__(
            stop,
            mode=settings.mode,
            theme=settings.theme,
            remembered=remembered,
            notices=Notices() if notices is None else notices,
            keys=KEYS,
            actions={
                Action.PAUSE: toggle_pause,
                Action.RECORD: toggle_recording,
                Action.MARK: mark,
                Action.CLEAR: self._clear,
            },
            title=title,
        )
        self._board, self._settings, self._osc = board, settings, osc
        self._history = History()
        self._shown_status: Status | None = None
        self.frames_painted, self._has_painted = 0, False
        self.installEventFilter(self)
        self._begin()

    def open(self, size_px: tuple[int, int] | None = None, screen: int | None = None) -> None:
        """As in ViewWindow; where no screen is said, on the settings'."""
        super().open(size_px, self._settings.screen if screen is None else screen)

    def eventFilter(self, _watched: QtCore.QObject | None, event: QtCore.QEvent | None) -> bool:  # noqa: N802
        # Not in `event`: what that calls would draw under Python's lock, and no other thread would run while this one
        # waits for an X server that hangs.
        if event is not None and event.type() == QtCore.QEvent.Type.UpdateRequest:
            self._has_painted = True
        return False

    def _new_view(self, theme: Theme) -> View:
        view = VIEWS[self._look.mode](theme, self._keys, self._settings.trail_s)
        view.show_span(self._look.span_s)
        view.show_history(self._history)
        if self._shown_status is not None:
            view.show_status(self._shown_status, self._history, self._osc())
        return view

    def _advance(self, elapsed_s: float) -> None:
        # Qt may draw the parts of a picture one after the other.
        self.frames_painted += self._has_painted
        self._has_painted = False
        updates, marks, status = self._board.take_updates(), self._board.take_marks(), self._board.latest_status
        if updates or marks:
            self._history.extend(updates)
            self._history.mark(marks)
            self._view.show_history(self._history)
        if updates or status is not self._shown_status:
            self._shown_status = status
            self._view.show_status(status, self._history, self._osc())
        self._view.advance(elapsed_s)

    def _at_close(self) -> None:
        if not self._settings.keep_running:
            self._stop.set()

    def _clear(self) -> None:
        newest = self._history.newest
        self._history.clear()
        if newest is not None:
            self._history.extend([newest])
        self._rebuild()
