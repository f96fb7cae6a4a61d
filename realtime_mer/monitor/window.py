"""The window of a live run: it looks at a board as often as the screen is drawn, and draws what is there."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from realtime_mer.config import MODES, THEMES, DisplaySettings
from realtime_mer.monitor.application import application, faults_told
from realtime_mer.monitor.history import History
from realtime_mer.monitor.keys import KEYS, Action
from realtime_mer.monitor.notices import Notices
from realtime_mer.monitor.pace import Pace
from realtime_mer.monitor.pictures import PictureSaver
from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets
from realtime_mer.monitor.remembered import SPANS_S, Remembered, keep, recall
from realtime_mer.monitor.screens import fitted, room_on
from realtime_mer.monitor.theme import Theme
from realtime_mer.monitor.view import SIZE_PX, VIEWS, View, theme_for
from realtime_mer.status import Board, Status

__all__ = ["MonitorWindow", "application", "run_window"]

_T = TypeVar("_T")

_LEAST_SIZE_PX = (880, 520)
# Everything is made anew in another size once the window's has been the same for so long.
_SETTLED_MS = 100
# How long closing waits for a picture that is being saved.
_PICTURE_TIMEOUT_S = 0.5
# So long after a screen has gone, or a window has left a whole screen, everybody else has done what they do then.
_WHEREABOUTS_MS = 500

_NORMAL, _MAXIMIZED, _FULL_SCREEN = (
    QtCore.Qt.WindowState.WindowNoState,
    QtCore.Qt.WindowState.WindowMaximized,
    QtCore.Qt.WindowState.WindowFullScreen,
)
_CONFIGURATION = QtCore.QStandardPaths.StandardLocation.GenericConfigLocation
_PICTURES = QtCore.QStandardPaths.StandardLocation.PicturesLocation
_KEYS = {getattr(QtCore.Qt.Key, f"Key_{name}"): key.action for key in KEYS for name in key.names}
_HARMLESS_MODIFIERS = QtCore.Qt.KeyboardModifier.ShiftModifier | QtCore.Qt.KeyboardModifier.KeypadModifier


def run_window(
    board: Board,
    stop: threading.Event,
    *,
    settings: DisplaySettings | None = None,
    toggle_pause: Callable[[], None] | None = None,
    toggle_recording: Callable[[], None] | None = None,
    notices: Notices | None = None,
    osc: Callable[[], Sequence[str]] = tuple,
    title: str = "realtime-mer",
) -> None:
    """Shows the window until it is closed, or until `stop` is set. For the main thread.

    Closing it sets `stop`, unless the settings say keep_running: then it is said on standard error that the run goes
    on. Python's signal handlers run meanwhile, within a few hundredths of a second.
    board: one that nothing else reads meanwhile. For the others, see MonitorWindow.
    A fault in the window is told once on standard error and ends nothing else. Where the window cannot even be made
    this returns, with `stop` not set.
    """
    settings = DisplaySettings() if settings is None else settings
    with faults_told(stop):
        try:
            qt = application()
            window = MonitorWindow(
                board,
                stop,
                settings,
                remembered=_folder(_CONFIGURATION) / "realtime-mer" / "window.json",
                toggle_pause=toggle_pause,
                toggle_recording=toggle_recording,
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
            print("realtime-mer: The window is closed, and the run goes on; Ctrl-C ends it.", file=sys.stderr)
        window.deleteLater()
        qt.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


class MonitorWindow(QtWidgets.QWidget):
    """The window of a live run; `open` shows it.

    settings: of [display]. remembered: the file that says how the window was left; None: none does.
    toggle_pause, toggle_recording: what the space bar and R do; None: nothing. notices: what to show for some seconds.
    osc: the OSC targets, for people.
    frames_painted: how many pictures have been drawn so far: one at most at each look at the board.
    """

    closed = QtCore.pyqtSignal()

    def __init__(
        self,
        board: Board,
        stop: threading.Event,
        settings: DisplaySettings,
        *,
        remembered: Path | None = None,
        toggle_pause: Callable[[], None] | None = None,
        toggle_recording: Callable[[], None] | None = None,
        notices: Notices | None = None,
        osc: Callable[[], Sequence[str]] = tuple,
        title: str = "realtime-mer",
    ) -> None:
        super().__init__()
        self._board, self._stop, self._settings, self._osc = board, stop, settings, osc
        self._remembered = remembered
        left = Remembered() if remembered is None else recall(remembered)
        self._mode, self._theme_name = settings.mode or left.mode, settings.theme or left.theme
        self._span_s, self._place = left.span_s, left.place
        # The window's, in operator mode.
        self._state = _FULL_SCREEN if left.full_screen else _MAXIMIZED if left.maximized else _NORMAL
        self._notices = Notices() if notices is None else notices
        self._pictures = PictureSaver(self._notices, [Path(), _folder(_PICTURES)])
        self._actions = self._what_keys_do(toggle_pause, toggle_recording)
        self._keys = [key for key in KEYS if key.action in self._actions]
        self._history = History()
        self._shown_status: Status | None = None
        self.frames_painted, self._has_painted = 0, False
        self.installEventFilter(self)
        self.setWindowTitle(title)
        # In Qt's pixels, of which a screen with a scale has fewer than it says.
        screen = self.screen()
        room = QtCore.QSize(*SIZE_PX) if screen is None else room_on(screen).size()
        self.setMinimumSize(QtCore.QSize(*_LEAST_SIZE_PX).boundedTo(room))
        self.resize(QtCore.QSize(*SIZE_PX).boundedTo(room))
        self._layout = QtWidgets.QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._view = self._new_view()
        self._layout.addWidget(self._view)
        self._colour()
        self._settled = self._single_shot(_SETTLED_MS, self._refit)
        self._whereabouts = self._single_shot(_WHEREABOUTS_MS, self._come_back)
        application().screenRemoved.connect(self._on_screen_removed)
        self._looked_s = time.monotonic()
        self._pace = Pace(0.0 if screen is None else screen.refreshRate())
        self._timer = QtCore.QTimer(self)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._look)
        self._timer.start(self._pace.interval_ms)

    def open(self) -> None:
        """Shows it as it was left, where the settings say nothing else."""
        screens = QtWidgets.QApplication.screens()
        if self._place is not None and screens:
            self.setGeometry(fitted(QtCore.QRect(*self._place), [room_on(screen) for screen in screens]))
        if self._settings.screen is not None:
            if self._settings.screen <= len(screens):
                self._put_on(screens[self._settings.screen - 1])
            else:
                there_are = "is only one screen" if len(screens) == 1 else f"are only {len(screens)} screens"
                self._notices.post(f"There is no screen {self._settings.screen}: there {there_are}.", fault=True)
        self.setWindowState(_FULL_SCREEN if self._is_stage else self._state)
        self.show()

    def eventFilter(self, _watched: QtCore.QObject | None, event: QtCore.QEvent | None) -> bool:  # noqa: N802
        # Not in `event`: what that calls would draw under Python's lock, and no other thread would run while this one
        # waits for an X server that hangs.
        if event is not None and event.type() == QtCore.QEvent.Type.UpdateRequest:
            self._has_painted = True
        return False

    def keyPressEvent(self, event: QtGui.QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is None:
            return
        action = None if event.modifiers() & ~_HARMLESS_MODIFIERS else _KEYS.get(event.key())
        if action not in self._actions:
            super().keyPressEvent(event)
        elif not event.isAutoRepeat():
            self._actions[action]()

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        if self.isVisible():
            self._settled.start()
        else:
            self._refit()

    def changeEvent(self, event: QtCore.QEvent | None) -> None:  # noqa: N802 - Qt's name
        super().changeEvent(event)
        if event is not None and event.type() == QtCore.QEvent.Type.WindowStateChange:
            self._show_cursor()
            # Where it was before may be on a screen that is gone.
            self._whereabouts.start()

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
        self._timer.stop()
        if not self._settings.keep_running:
            self._stop.set()
        if self._remembered is not None:
            keep(self._remembered, self._as_left())
        self._pictures.finish(_PICTURE_TIMEOUT_S)
        super().closeEvent(event)
        self.closed.emit()

    @property
    def _is_stage(self) -> bool:
        return self._mode == "stage"

    def _look(self) -> None:
        if self._stop.is_set():
            self.close()
            return
        # Qt may draw the parts of a picture one after the other.
        self.frames_painted += self._has_painted
        self._has_painted = False
        now_s = time.monotonic()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        self._pace.note(now_s, time.thread_time())
        if self._timer.interval() != self._pace.interval_ms:
            self._timer.setInterval(self._pace.interval_ms)
        self._view.show_notices(self._notices.current())
        updates = self._board.take_updates()
        status = self._board.latest_status
        if updates:
            self._history.extend(updates)
            self._view.show_history(self._history)
        if updates or status is not self._shown_status:
            self._shown_status = status
            self._view.show_status(status, self._history, self._osc())
        self._view.advance(elapsed_s)

    # What keys do

    def _what_keys_do(
        self, toggle_pause: Callable[[], None] | None, toggle_recording: Callable[[], None] | None
    ) -> dict[Action | None, Callable[[], object]]:
        always: dict[Action | None, Callable[[], object]] = {
            Action.SCREENSHOT: self._save_picture,
            Action.CLEAR: self._clear,
            Action.SPAN: self._next_span,
            Action.MODE: self._next_mode,
            Action.FULL_SCREEN: self._toggle_full_screen,
            Action.SCREEN: self._next_screen,
            Action.THEME: self._next_theme,
            Action.HELP: self._toggle_key_list,
            Action.LEAVE: self._leave,
            Action.QUIT: self.close,
        }
        perhaps = {Action.PAUSE: toggle_pause, Action.RECORD: toggle_recording}
        return always | {action: toggle for action, toggle in perhaps.items() if toggle is not None}

    def _save_picture(self) -> None:
        # Without the message about the last one.
        self._view.show_notices(())
        self._pictures.save(self.grab().toImage())

    def _clear(self) -> None:
        newest = self._history.newest
        self._history.clear()
        if newest is not None:
            self._history.extend([newest])
        self._rebuild()

    def _next_span(self) -> None:
        if not self._is_stage:
            self._span_s = _after(self._span_s, SPANS_S)
            self._view.show_span(self._span_s)

    def _next_mode(self) -> None:
        if not self._is_stage:
            self._state = self._state_now()
        self._mode = _after(self._mode, MODES)
        self._rebuild()
        self.setWindowState(_FULL_SCREEN if self._is_stage else self._state)

    def _toggle_full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ _FULL_SCREEN)

    def _next_screen(self) -> None:
        screens = QtWidgets.QApplication.screens()
        if len(screens) == 1:
            self._notices.post("There is only one screen.")
            return
        names = [screen.name() for screen in screens]
        here = self.screen()
        self._put_on(screens[names.index(_after(here.name() if here else "", names))])

    def _next_theme(self) -> None:
        self._theme_name = _after(self._theme_name, THEMES)
        self._rebuild()

    def _toggle_key_list(self) -> None:
        self._view.toggle_key_list()

    def _leave(self) -> None:
        if self._view.has_key_list:
            self._view.toggle_key_list()
        elif self.windowState() & _FULL_SCREEN:
            self._toggle_full_screen()
        else:
            self.close()

    # How it looks, and where it is

    def _refit(self) -> None:
        if self._fitting_theme() != self._view.theme:
            self._rebuild()

    def _rebuild(self) -> None:
        """Everything that is seen, anew."""
        old, new = self._view, self._new_view()
        if old.has_key_list:
            new.toggle_key_list()
        self._layout.replaceWidget(old, new)
        old.hide()
        old.deleteLater()
        self._view = new
        new.show_notices(self._notices.current())
        self._colour()
        self._show_cursor()

    def _new_view(self) -> View:
        view = VIEWS[self._mode](self._fitting_theme(), self._keys, self._settings.trail_s)
        view.show_span(self._span_s)
        view.show_history(self._history)
        if self._shown_status is not None:
            view.show_status(self._shown_status, self._history, self._osc())
        return view

    def _colour(self) -> None:
        # Seen for a moment where the window becomes larger.
        palette = self.palette()
        palette.setColor(QtGui.QPalette.ColorRole.Window, QtGui.QColor(self._view.theme.background))
        self.setPalette(palette)

    def _fitting_theme(self) -> Theme:
        return theme_for(self._theme_name, self._mode, self.size())

    def _show_cursor(self) -> None:
        hidden = self._is_stage and bool(self.windowState() & _FULL_SCREEN)
        self.setCursor(QtCore.Qt.CursorShape.BlankCursor if hidden else QtCore.Qt.CursorShape.ArrowCursor)

    def _put_on(self, screen: QtGui.QScreen) -> None:
        """Into the middle of this screen, no larger than that; whatever it fills there as it does here."""
        state, place = self.windowState(), self.normalGeometry()
        # Most desktops keep a window that fills a screen where it is.
        self.setWindowState(_NORMAL)
        room = room_on(screen)
        place.moveCenter(room.center())
        self.setGeometry(fitted(place, [room]))
        # Wayland lets nobody choose a place, but a screen to fill.
        self.winId()
        handle = self.windowHandle()
        if handle is not None:
            handle.setScreen(screen)
        self.setWindowState(state)

    def _single_shot(self, delay_ms: int, then: Callable[[], None]) -> QtCore.QTimer:
        timer = QtCore.QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(delay_ms)
        timer.timeout.connect(then)
        return timer

    def _on_screen_removed(self, _screen: QtGui.QScreen) -> None:
        self._whereabouts.start()

    def _come_back(self) -> None:
        """From a screen that is gone."""
        screens = QtWidgets.QApplication.screens()
        if screens and not any(self.geometry().intersects(screen.geometry()) for screen in screens):
            self._put_on(screens[0])

    def _state_now(self) -> QtCore.Qt.WindowState:
        return next((state for state in (_FULL_SCREEN, _MAXIMIZED) if self.windowState() & state), _NORMAL)

    def _as_left(self) -> Remembered:
        state = self._state if self._is_stage else self._state_now()
        place = self.normalGeometry()
        return Remembered(
            mode=self._mode,
            theme=self._theme_name,
            span_s=self._span_s,
            maximized=state == _MAXIMIZED,
            full_screen=state == _FULL_SCREEN,
            place=(place.x(), place.y(), place.width(), place.height()) if place.isValid() else None,
        )


def _folder(kind: QtCore.QStandardPaths.StandardLocation) -> Path:
    return Path(QtCore.QStandardPaths.writableLocation(kind))


def _after(this: _T, these: Sequence[_T]) -> _T:
    """The next one, after the last one the first again."""
    return these[(these.index(this) + 1) % len(these)] if this in these else these[0]
