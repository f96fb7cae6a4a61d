"""The base of the live window and the viewer: a view, keys, and a size and place that are kept between runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from realtime_mer.config import MODES, THEMES
from realtime_mer.window.application import application
from realtime_mer.window.notices import Notices
from realtime_mer.window.pace import Pace
from realtime_mer.window.pictures import PictureSaver
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets
from realtime_mer.window.remembered import SPANS_S, ZOOMS_S, Look, keep, recall
from realtime_mer.window.shortcuts import Action, Key
from realtime_mer.window.theme import Theme
from realtime_mer.window.view import SIZE_PX, View, theme_for

_T = TypeVar("_T")
# What keys do; None: nothing.
Actions = Mapping[Action, Callable[[], object] | None]

_LEAST_SIZE_PX = (800, 480)
# Everything is rebuilt in another size once the window's size has not changed for so long.
_SETTLED_MS = 100
# How long closing waits for a picture that is being saved.
_PICTURE_TIMEOUT_S = 0.5
# So long after a screen was removed, or a window left full screen, the window manager has finished its own moves.
_WHEREABOUTS_MS = 500

_NORMAL, _MAXIMIZED, _FULL_SCREEN = (
    QtCore.Qt.WindowState.WindowNoState,
    QtCore.Qt.WindowState.WindowMaximized,
    QtCore.Qt.WindowState.WindowFullScreen,
)
_SHIFT, _KEYPAD = QtCore.Qt.KeyboardModifier.ShiftModifier, QtCore.Qt.KeyboardModifier.KeypadModifier


def remembered_in(name: str) -> Path:
    """The file of this name in the user's configuration, for a window's look."""
    return _folder(QtCore.QStandardPaths.StandardLocation.GenericConfigLocation) / "realtime-mer" / name


class ViewWindow(QtWidgets.QWidget):
    """A window filled by a View. A subclass calls `_begin` once it can make one; `open` shows the window.

    stop: closes it. mode, theme: the first ones, of config.MODES and config.THEMES; None: as the window was left.
    remembered: the file that keeps how it was left; None: none. notices: messages to show. keys: all keys of the
    window; actions: what they do besides what all windows have in common.
    view: what fills it now. look: its present mode, theme and span.
    """

    closed = QtCore.pyqtSignal()

    def __init__(
        self,
        stop: threading.Event,
        *,
        mode: str | None,
        theme: str | None,
        remembered: Path | None,
        notices: Notices,
        keys: Sequence[Key],
        actions: Actions,
        title: str,
    ) -> None:
        super().__init__()
        self._stop, self._notices, self._remembered = stop, notices, remembered
        self.view: View
        # The view, and what is below it.
        self._parts: tuple[QtWidgets.QWidget, ...] = ()
        left = Look() if remembered is None else recall(remembered)
        self.look = replace(left, mode=mode or left.mode, theme=theme or left.theme)
        # In operator mode.
        self._state = _FULL_SCREEN if left.full_screen else _MAXIMIZED if left.maximized else _NORMAL
        # Its place before it filled the screen without a window manager.
        self._unfilled: QtCore.QRect | None = None
        self._pictures = PictureSaver(
            notices, [Path(), _folder(QtCore.QStandardPaths.StandardLocation.PicturesLocation)]
        )
        self._bind(
            keys,
            {
                Action.SCREENSHOT: self._save_picture,
                Action.SPAN: lambda: self._show_span(_after(self.look.span_s, SPANS_S)),
                Action.MODE: self._next_mode,
                Action.FULL_SCREEN: lambda: self.setWindowState(self.windowState() ^ _FULL_SCREEN),
                Action.SCREEN: self._next_screen,
                Action.THEME: self._next_theme,
                Action.HELP: lambda: self.view.toggle_key_list(),
                Action.LEAVE: self._leave,
                Action.QUIT: self.close,
                **actions,
            },
        )
        self.setWindowTitle(title)
        # In Qt's pixels, of which a scaled screen has fewer than its resolution.
        screen = self.screen()
        room = QtCore.QSize(*SIZE_PX) if screen is None else room_on(screen).size()
        self.setMinimumSize(QtCore.QSize(*_LEAST_SIZE_PX).boundedTo(room))
        self.resize(QtCore.QSize(*SIZE_PX).boundedTo(room))
        self._layout = QtWidgets.QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._settled = self._single_shot(_SETTLED_MS, self._refit)
        self._whereabouts = self._single_shot(_WHEREABOUTS_MS, self._come_back)
        self._pace = Pace(0.0 if screen is None else screen.refreshRate())
        self._timer = QtCore.QTimer(self)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        application().screenRemoved.connect(self._on_screen_removed)

    # For subclasses

    def _new_view(self, theme: Theme) -> View:
        """A view in this theme for the present look, which shows all that is known."""
        raise NotImplementedError

    def _parts_below(self, _theme: Theme) -> tuple[QtWidgets.QWidget, ...]:
        """The widgets below the view, from top to bottom."""
        return ()

    def _advance(self, elapsed_s: float) -> None:
        """Called at every picture, with the time since the last one."""
        raise NotImplementedError

    def _at_close(self) -> None:
        """Ends what the subclass has started."""

    def _begin(self) -> None:
        """Fills the window and starts to draw."""
        self._rebuild()
        self._ticked_s = time.monotonic()
        self._timer.start(self._pace.interval_ms)

    # For callers

    def open(self, size_px: tuple[int, int] | None = None, screen: int | None = None) -> None:
        """Shows it as it was left; size_px: in this size instead, in Qt's pixels; screen: on this one, from 1."""
        screens = QtWidgets.QApplication.screens()
        if size_px is not None:
            self.resize(QtCore.QSize(*size_px))
        elif self.look.place is not None and screens:
            self.setGeometry(fitted(QtCore.QRect(*self.look.place), [room_on(screen) for screen in screens]))
        if screen is not None:
            if screen <= len(screens):
                self._put_on(screens[screen - 1])
            else:
                there_are = "is only one screen" if len(screens) == 1 else f"are only {len(screens)} screens"
                self._notices.post(f"There is no screen {screen}: there {there_are}.", fault=True)
        state = _NORMAL if size_px is not None else self._state
        self.setWindowState(_FULL_SCREEN if self._is_stage else state)
        self.show()

    def run_until_closed(self) -> None:
        """Runs Qt's event loop until the window is closed or the desktop session ends, and deletes the window."""
        loop = QtCore.QEventLoop()
        self.closed.connect(loop.quit)
        loop.exec_()
        self.deleteLater()
        application().sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)

    # Called by Qt

    def keyPressEvent(self, event: QtGui.QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        if event is None:
            return
        modifiers = event.modifiers()
        found = None
        if not modifiers & ~(_SHIFT | _KEYPAD):
            # On some keyboards a key needs Shift, and some keys have another meaning with it.
            shifted = self._pressed.get((event.key(), True)) if modifiers & _SHIFT else None
            found = shifted or self._pressed.get((event.key(), False))
        if found is None:
            super().keyPressEvent(event)
            return
        do, repeats = found
        if repeats or not event.isAutoRepeat():
            do()

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
            # Its former place may be on a screen that was removed.
            self._whereabouts.start()

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
        self._timer.stop()
        if self._remembered is not None:
            keep(self._remembered, self._as_left())
        self._at_close()
        self._pictures.finish(_PICTURE_TIMEOUT_S)
        super().closeEvent(event)
        self.closed.emit()

    def _tick(self) -> None:
        if self._stop.is_set():
            self.close()
            return
        now_s = time.monotonic()
        elapsed_s, self._ticked_s = now_s - self._ticked_s, now_s
        self._pace.note(now_s, time.thread_time())
        if self._timer.interval() != self._pace.interval_ms:
            self._timer.setInterval(self._pace.interval_ms)
        self.view.show_notices(self._notices.current())
        self._advance(elapsed_s)

    # Keys and the mouse

    def _bind(self, keys: Sequence[Key], actions: Actions) -> None:
        """Leaves out keys without an action."""
        done = {action: do for action, do in actions.items() if do is not None}
        self._keys = [key for key in keys if key.action in done]
        self._pressed = {
            (getattr(QtCore.Qt.Key, f"Key_{name}"), key.shifted): (done[key.action], key.repeats)
            for key in self._keys
            for name in key.names
        }

    @property
    def _is_stage(self) -> bool:
        return self.look.mode == "stage"

    @property
    def _is_full_screen(self) -> bool:
        return bool(self.windowState() & _FULL_SCREEN)

    def _save_picture(self) -> None:
        # Without the message about the last one.
        self.view.show_notices(())
        self._pictures.save(self.grab().toImage())

    def _zoom(self, steps: int) -> None:
        """Zooms the timelines in, or out if steps is negative."""
        # `index` also finds None, the widest.
        index = ZOOMS_S.index(self.look.span_s) - steps
        self._show_span(ZOOMS_S[min(max(index, 0), len(ZOOMS_S) - 1)])

    def _show_span(self, span_s: float | None) -> None:
        # The stage display has no timelines, so the change would be invisible.
        if not self._is_stage:
            self.look = replace(self.look, span_s=span_s)
            self.view.show_span(span_s)

    def _next_mode(self) -> None:
        if not self._is_stage:
            self._state = self._state_now()
        self.look = replace(self.look, mode=_after(self.look.mode, MODES))
        self._rebuild()
        self.setWindowState(_FULL_SCREEN if self._is_stage else self._state)

    def _next_screen(self) -> None:
        screens = QtWidgets.QApplication.screens()
        if len(screens) == 1:
            self._notices.post("There is only one screen.")
            return
        names, here = [screen.name() for screen in screens], self.screen()
        self._put_on(screens[names.index(_after(here.name() if here else "", names))])

    def _next_theme(self) -> None:
        self.look = replace(self.look, theme=_after(self.look.theme, THEMES))
        self._rebuild()

    def _leave(self) -> None:
        if self.view.has_key_list:
            self.view.toggle_key_list()
        elif self._is_full_screen:
            self.setWindowState(self.windowState() ^ _FULL_SCREEN)
        else:
            self.close()

    # Its contents and its place

    def _refit(self) -> None:
        if self._parts and self._fitting_theme() != self.view.theme:
            self._rebuild()

    def _rebuild(self) -> None:
        """Replaces everything in the window."""
        has_key_list = bool(self._parts) and self.view.has_key_list
        for old in self._parts:
            self._layout.removeWidget(old)
            old.hide()
            old.deleteLater()
        theme = self._fitting_theme()
        self.view = self._new_view(theme)
        self.view.zoomed.connect(self._zoom)
        self._parts = (self.view, *self._parts_below(theme))
        for number, part in enumerate(self._parts):
            self._layout.addWidget(part, 0 if number else 1)
            # At once: the layout alone would show it later.
            part.show()
            # The window handles all keys.
            for inside in part.findChildren(QtWidgets.QWidget):
                inside.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        if has_key_list:
            self.view.toggle_key_list()
        self.view.show_notices(self._notices.current())
        # Visible for a moment when the window grows.
        palette = self.palette()
        palette.setColor(QtGui.QPalette.ColorRole.Window, QtGui.QColor(theme.background))
        self.setPalette(palette)
        self._show_cursor()

    def _fitting_theme(self) -> Theme:
        return theme_for(self.look.theme, self.look.mode, self.size())

    def _show_cursor(self) -> None:
        hidden = self._is_stage and self._is_full_screen
        self.setCursor(QtCore.Qt.CursorShape.BlankCursor if hidden else QtCore.Qt.CursorShape.ArrowCursor)

    def _put_on(self, screen: QtGui.QScreen) -> None:
        """Moves it to the middle of this screen, shrunk to fit; maximized or full screen stays so."""
        state, place = self.windowState(), self.normalGeometry()
        # Most desktops do not move a window that fills a screen.
        self.setWindowState(_NORMAL)
        room = room_on(screen)
        place.moveCenter(room.center())
        self.setGeometry(fitted(place, [room]))
        # On Wayland a program cannot choose a place, only the screen to fill.
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
        """Moves it to the first screen if it is on none, and fills the screen if nothing else has done so."""
        screens = QtWidgets.QApplication.screens()
        handle, screen = self.windowHandle(), self.screen()
        # On X11 without a window manager, Qt's full screen has no effect.
        if handle is not None and screen is not None and application().platformName() == "xcb":
            if self._is_full_screen and handle.geometry() != screen.geometry():
                self._unfilled = self.normalGeometry()
                handle.setGeometry(screen.geometry())
            elif not self._is_full_screen and self._unfilled is not None:
                self.setGeometry(self._unfilled)
                self._unfilled = None
        if screens and not any(self.geometry().intersects(screen.geometry()) for screen in screens):
            self._put_on(screens[0])

    def _state_now(self) -> QtCore.Qt.WindowState:
        return next((state for state in (_FULL_SCREEN, _MAXIMIZED) if self.windowState() & state), _NORMAL)

    def _as_left(self) -> Look:
        state = self._state if self._is_stage else self._state_now()
        place = self.normalGeometry()
        return replace(
            self.look,
            maximized=state == _MAXIMIZED,
            full_screen=state == _FULL_SCREEN,
            place=(place.x(), place.y(), place.width(), place.height()) if place.isValid() else None,
        )


def room_on(screen: QtGui.QScreen) -> QtCore.QRect:
    """The area of this screen for a window below its title bar, in Qt's pixels."""
    style = QtWidgets.QApplication.style()
    title_px = 0 if style is None else style.pixelMetric(QtWidgets.QStyle.PixelMetric.PM_TitleBarHeight)
    return screen.availableGeometry().adjusted(0, title_px, 0, 0)


def fitted(place: QtCore.QRect, rooms: Sequence[QtCore.QRect]) -> QtCore.QRect:
    """The place, moved and shrunk to fit into the room that it overlaps most, or the first. rooms: at least one."""

    def shared_px(room: QtCore.QRect) -> int:
        both = place.intersected(room)
        return both.width() * both.height() if both.isValid() else 0

    room = max(rooms, key=shared_px)
    size = place.size().boundedTo(room.size())
    left = min(max(place.left(), room.left()), room.right() + 1 - size.width())
    top = min(max(place.top(), room.top()), room.bottom() + 1 - size.height())
    return QtCore.QRect(QtCore.QPoint(left, top), size)


def _folder(kind: QtCore.QStandardPaths.StandardLocation) -> Path:
    return Path(QtCore.QStandardPaths.writableLocation(kind))


def _after(this: _T, these: Sequence[_T]) -> _T:
    """The next one; the first after the last."""
    return these[(these.index(this) + 1) % len(these)] if this in these else these[0]
