"""The viewer: a take in the live window's views, with a bar to move about in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from realtime_mer.config import MODES, THEMES
from realtime_mer.monitor.application import application, faults_told
from realtime_mer.monitor.keys import KEYS, Action
from realtime_mer.monitor.notices import Notices
from realtime_mer.monitor.pace import Pace
from realtime_mer.monitor.pictures import PictureSaver
from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets
from realtime_mer.monitor.remembered import SPANS_S
from realtime_mer.monitor.view import View
from realtime_mer.viewing.moments import Moments, Take
from realtime_mer.viewing.output import SoundPlayer
from realtime_mer.viewing.playhead import Playhead
from realtime_mer.viewing.projector import Look, Projector, theme_for, view_type
from realtime_mer.viewing.scrub import ScrubBar
from realtime_mer.viewing.sound import stereo_blocks

_T = TypeVar("_T")

_SIZE_PX, _LEAST_SIZE_PX = (1280, 720), (880, 520)
_SETTLED_MS = 100
_JUMP_S = 10.0
_PICTURE_TIMEOUT_S = 0.5
_SOUND_HZ = 48_000
_FULL_SCREEN = QtCore.Qt.WindowState.WindowFullScreen
_SHIFT, _KEYPAD = QtCore.Qt.KeyboardModifier.ShiftModifier, QtCore.Qt.KeyboardModifier.KeypadModifier

# What the live window's keys do here, in their order there; the rest is not for what has been.
_PLAY = "play, and pause   (← → one prediction, with Shift 10 s; Home, End)"
_SHARED = (
    *(Action.SCREENSHOT, Action.SPAN, Action.MODE, Action.FULL_SCREEN, Action.THEME),
    *(Action.HELP, Action.LEAVE, Action.QUIT),
)
_LIVE_ONLY = "; with --keep-running, only close the window"
VIEWER_KEYS = tuple(
    replace(key, does=_PLAY, brief="play")
    if key.action is Action.PAUSE
    else replace(key, does=key.does.removesuffix(_LIVE_ONLY))
    for key in KEYS
    if key.action in (Action.PAUSE, *_SHARED)
)


def run_viewer(take: Take, look: Look, *, at_s: float, size_px: tuple[int, int] | None, stop: threading.Event) -> None:
    """Shows the take until the window is closed or `stop` is set. For the main thread, where there is a display.

    at_s: the moment that it begins at. A fault in the window is told once on standard error.
    """
    with faults_told(stop):
        qt = application()
        window = ViewerWindow(take, look, stop)
        window.resize(QtCore.QSize(*(size_px or _SIZE_PX)))
        window.seek(at_s)
        window.open()
        loop = QtCore.QEventLoop()
        window.closed.connect(loop.quit)
        loop.exec_()
        window.deleteLater()
        qt.processEvents()


class ViewerWindow(QtWidgets.QWidget):
    """A take, one moment at a time. look: how it begins. stop: ends it."""

    closed = QtCore.pyqtSignal()

    def __init__(self, take: Take, look: Look, stop: threading.Event) -> None:
        super().__init__()
        self._stop, self._look, self._moments = stop, look, Moments(take)
        self._projector = Projector(self._moments)
        self._playhead = Playhead(take.start_s, take.end_s)
        self._player = SoundPlayer(partial(stereo_blocks, take), _SOUND_HZ)
        self._told_fault = False
        self._notices = Notices()
        pictures = QtCore.QStandardPaths.writableLocation(QtCore.QStandardPaths.StandardLocation.PicturesLocation)
        self._pictures = PictureSaver(self._notices, [Path(), Path(pictures)])
        self._actions: dict[Action, Callable[[], object]] = {
            Action.PAUSE: self._toggle,
            Action.SCREENSHOT: self._save_picture,
            Action.SPAN: self._next_span,
            Action.MODE: self._next_mode,
            Action.FULL_SCREEN: self._toggle_full_screen,
            Action.THEME: self._next_theme,
            Action.HELP: lambda: self._view.toggle_key_list(),
            Action.LEAVE: self._leave,
            Action.QUIT: self.close,
        }
        keys = QtCore.Qt.Key
        self._plain = {getattr(keys, f"Key_{name}"): key.action for key in VIEWER_KEYS for name in key.names}
        self._moves: dict[tuple[int, bool], Callable[[float], float]] = {
            (keys.Key_Left, False): self._moments.previous_s,
            (keys.Key_Right, False): self._moments.next_s,
            (keys.Key_Left, True): lambda time_s: time_s - _JUMP_S,
            (keys.Key_Right, True): lambda time_s: time_s + _JUMP_S,
            (keys.Key_Home, False): lambda _: take.start_s,
            (keys.Key_End, False): lambda _: take.end_s,
        }
        self.setWindowTitle(f"realtime-mer: {take.name}")
        screen = self.screen()
        room = QtCore.QSize(*_SIZE_PX) if screen is None else screen.availableGeometry().size()
        self.setMinimumSize(QtCore.QSize(*_LEAST_SIZE_PX).boundedTo(room))
        self._layout = QtWidgets.QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._view: View
        self._bar: ScrubBar
        self._build()
        self._settled = QtCore.QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_SETTLED_MS)
        self._settled.timeout.connect(self._refit)
        self._looked_s = time.monotonic()
        self._pace = Pace(0.0 if screen is None else screen.refreshRate())
        self._timer = QtCore.QTimer(self)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(self._pace.interval_ms)

    @property
    def position_s(self) -> float:
        """The moment that it is at."""
        return self._playhead.position_s

    @property
    def playing(self) -> bool:
        """Whether it goes on."""
        return self._playhead.playing

    @property
    def look(self) -> Look:
        """How it is shown now."""
        return self._look

    @property
    def bar(self) -> ScrubBar:
        """The bar at its foot, hidden on a stage."""
        return self._bar

    @property
    def view(self) -> View:
        """What shows the moment."""
        return self._view

    def open(self) -> None:
        """Shows it, on a stage on the whole screen."""
        self.setWindowState(_FULL_SCREEN if self._look.mode == "stage" else QtCore.Qt.WindowState.WindowNoState)
        self.show()

    def seek(self, time_s: float) -> None:
        """Goes to a moment; it is shown with the next picture."""
        self._playhead.seek(time_s)
        if self._playhead.playing:
            self._player.play(self._playhead.position_s)

    def keyPressEvent(self, event: QtGui.QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is None:
            return
        modifiers = event.modifiers()
        if modifiers & ~(_SHIFT | _KEYPAD):
            super().keyPressEvent(event)
            return
        move = self._moves.get((event.key(), bool(modifiers & _SHIFT)))
        action = self._plain.get(event.key())
        if move is not None:
            self.seek(move(self._playhead.position_s))
        elif action is None:
            super().keyPressEvent(event)
        elif not event.isAutoRepeat():
            self._actions[action]()

    def resizeEvent(self, event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        if self.isVisible():
            self._settled.start()
        else:
            self._refit()

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
        self._timer.stop()
        self._player.close()
        self._projector.close()
        self._pictures.finish(_PICTURE_TIMEOUT_S)
        super().closeEvent(event)
        self.closed.emit()

    def _tick(self) -> None:
        if self._stop.is_set():
            self.close()
            return
        now_s = time.monotonic()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        self._pace.note(now_s, time.thread_time())
        if self._timer.interval() != self._pace.interval_ms:
            self._timer.setInterval(self._pace.interval_ms)
        self._playhead.advance(elapsed_s, self._player.heard_s())
        if self._player.fault and not self._told_fault:
            self._told_fault = True
            self._notices.post(f"{self._player.fault} It goes on in silence.")
        self._view.show_notices(self._notices.current())
        self._show()

    def _show(self) -> None:
        self._projector.show(self._playhead.position_s)
        self._bar.show_moment(self._playhead.position_s, playing=self._playhead.playing)

    def _toggle(self) -> None:
        self._playhead.toggle()
        if self._playhead.playing:
            self._player.play(self._playhead.position_s)
        else:
            self._player.stop()

    def _save_picture(self) -> None:
        # Without the message about the last one.
        self._view.show_notices(())
        self._pictures.save(self.grab().toImage())

    def _next_span(self) -> None:
        self._change(replace(self._look, span_s=_after(self._look.span_s, SPANS_S)))

    def _next_theme(self) -> None:
        self._change(replace(self._look, theme=_after(self._look.theme, THEMES)))

    def _next_mode(self) -> None:
        self._change(replace(self._look, mode=_after(self._look.mode, MODES)))
        self.open()

    def _toggle_full_screen(self) -> None:
        self.setWindowState(self.windowState() ^ _FULL_SCREEN)

    def _leave(self) -> None:
        if self._view.has_key_list:
            self._view.toggle_key_list()
        elif self.windowState() & _FULL_SCREEN:
            self._toggle_full_screen()
        else:
            self.close()

    def _refit(self) -> None:
        if theme_for(self._look, self.width(), self.height()) != self._view.theme:
            self._change(self._look)

    def _change(self, look: Look) -> None:
        """Everything that is seen, anew."""
        self._look = look
        before = (self._view, self._bar)
        has_key_list = self._view.has_key_list
        for old in before:
            self._layout.removeWidget(old)
            old.hide()
            old.deleteLater()
        self._build()
        if has_key_list:
            self._view.toggle_key_list()

    def _build(self) -> None:
        theme = theme_for(self._look, self.width(), self.height())
        self._view = view_type(self._look)(theme, VIEWER_KEYS, self._moments.take.trail_s)
        self._bar = ScrubBar(self._moments, theme)
        self._bar.sought.connect(self.seek)
        self._layout.addWidget(self._view, 1)
        self._layout.addWidget(self._bar)
        self._bar.setVisible(self._look.mode != "stage")
        # Every key is the window's.
        for part in (*self._view.findChildren(QtWidgets.QWidget), *self._bar.findChildren(QtWidgets.QWidget)):
            part.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        palette = self.palette()
        palette.setColor(QtGui.QPalette.ColorRole.Window, QtGui.QColor(theme.background))
        self.setPalette(palette)
        self._projector.use(self._view, self._look.span_s)
        self._view.show_notices(self._notices.current())
        self._show()


def _after(this: _T, these: Sequence[_T]) -> _T:
    """The next one, after the last one the first again."""
    return these[(these.index(this) + 1) % len(these)]
