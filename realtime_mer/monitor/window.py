"""The window of a live run: it looks at a board thirty times a second and draws what is there."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from types import TracebackType

from realtime_mer.monitor.captions import headline, status_fields
from realtime_mer.monitor.history import History
from realtime_mer.monitor.labels import CutLabel, Label
from realtime_mer.monitor.meter import LevelMeter
from realtime_mer.monitor.plane import PlaneView
from realtime_mer.monitor.qt import QtCore, QtGui, QtWidgets
from realtime_mer.monitor.statusline import StatusLine
from realtime_mer.monitor.theme import DARK, Theme
from realtime_mer.monitor.timelines import Timeline
from realtime_mer.status import Board, SourceState, Status

_LOOKS_PER_S = 30
_SIZE_PX, _LEAST_SIZE_PX = (1280, 720), (880, 520)
_MARGIN_PX = 12


def run_window(
    board: Board,
    stop: threading.Event,
    *,
    toggle_pause: Callable[[], None] | None = None,
    osc: Callable[[], Sequence[str]] = tuple,
    title: str = "realtime-mer",
) -> None:
    """Shows the window until it is closed, which sets `stop`, or until `stop` is set. For the main thread.

    board: one that nothing else reads. toggle_pause: what the space bar does; None: nothing. osc: the OSC targets, for
    people. Python's signal handlers run meanwhile, within a few hundredths of a second.
    A fault in the window is told once on standard error and ends nothing else. Only where the window cannot even be
    made does this return with `stop` not set.
    """
    with _faults_told(stop):
        try:
            qt = application()
            window = MonitorWindow(board, stop, DARK, toggle_pause=toggle_pause, osc=osc, title=title)
            window.show()
        except Exception:  # noqa: BLE001 - whatever it is, sound and OSC go on
            sys.excepthook(*sys.exc_info())
            return
        loop = QtCore.QEventLoop()
        window.closed.connect(loop.quit)
        loop.exec_()
        # The loop also ends where the desktop's session does.
        stop.set()
        window.deleteLater()
        qt.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


class MonitorWindow(QtWidgets.QWidget):
    """The plane; beside it the headline, the timelines and the level; below, the status line."""

    closed = QtCore.pyqtSignal()

    def __init__(
        self,
        board: Board,
        stop: threading.Event,
        theme: Theme,
        *,
        toggle_pause: Callable[[], None] | None = None,
        osc: Callable[[], Sequence[str]] = tuple,
        title: str = "realtime-mer",
    ) -> None:
        super().__init__()
        self._board, self._stop, self._theme = board, stop, theme
        self._toggle_pause, self._osc = toggle_pause, osc
        self._history = History()
        self._plane = PlaneView(theme)
        self._word = Label("", theme.medium_pt, theme.text, bold=True)
        self._sentence = CutLabel(theme.medium_pt, theme.text, lines=2)
        self._timelines = (Timeline("valence", theme.valence, theme), Timeline("arousal", theme.arousal, theme))
        self._meter = LevelMeter(theme)
        self._status_line = StatusLine(theme)
        self.setWindowTitle(title)
        self.setStyleSheet(f"background-color: {theme.background}; color: {theme.text};")
        screen = QtWidgets.QApplication.primaryScreen()
        # In Qt's pixels, of which a screen with a scale has fewer than it says.
        room = QtCore.QSize(*_SIZE_PX) if screen is None else screen.availableSize()
        self.setMinimumSize(QtCore.QSize(*_LEAST_SIZE_PX).boundedTo(room))
        self.resize(QtCore.QSize(*_SIZE_PX).boundedTo(room))
        self._arrange()
        self._shown_status: Status | None = None
        self._looked_s = time.monotonic()
        self._timer = QtCore.QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(round(1000 / _LOOKS_PER_S))

    def keyPressEvent(self, event: QtGui.QKeyEvent | None) -> None:  # noqa: N802 - Qt's name
        key = None if event is None or event.isAutoRepeat() else event.key()
        if key == QtCore.Qt.Key.Key_Space and self._toggle_pause is not None:
            self._toggle_pause()
        elif key == QtCore.Qt.Key.Key_F:
            self.setWindowState(self.windowState() ^ QtCore.Qt.WindowState.WindowFullScreen)
        elif key in (QtCore.Qt.Key.Key_Q, QtCore.Qt.Key.Key_Escape):
            self.close()
        else:
            super().keyPressEvent(event)

    def closeEvent(self, event: QtGui.QCloseEvent | None) -> None:  # noqa: N802 - Qt's name
        self._timer.stop()
        self._stop.set()
        super().closeEvent(event)
        self.closed.emit()

    def _look(self) -> None:
        if self._stop.is_set():
            self.close()
            return
        now_s = time.monotonic()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        updates = self._board.take_updates()
        status = self._board.latest_status
        if updates:
            self._history.extend(updates)
            self._show_history()
        if updates or status is not self._shown_status:
            self._shown_status = status
            self._show_status(status)
        self._plane.advance(elapsed_s)

    def _show_history(self) -> None:
        history = self._history
        self._plane.show_history(history)
        for timeline, values in zip(self._timelines, (history.valence, history.arousal), strict=True):
            timeline.show_values(history.time_s, values, history.held)

    def _show_status(self, status: Status) -> None:
        newest = self._history.newest
        head = headline(status, newest)
        self._plane.show_headline(head)
        self._word.setVisible(bool(head.word))
        self._word.show_text(head.word.upper())
        self._word.show_colour(self._theme.of(head.tone))
        self._sentence.show_text(head.sentence)
        for timeline in self._timelines:
            timeline.show_ghost(head.ghost)
            timeline.show_time(status.time_s if newest is None else max(status.time_s, newest.time_s))
        self._meter.show_level(status.level if status.state is SourceState.RUNNING else None, status.gain_db)
        self._status_line.show_fields(status_fields(status, newest, self._osc()))

    def _arrange(self) -> None:
        theme = self._theme
        head = QtWidgets.QHBoxLayout()
        head.setSpacing(_MARGIN_PX)
        head.addWidget(self._word, 0, QtCore.Qt.AlignmentFlag.AlignTop)
        head.addWidget(self._sentence, 1)
        keys = ("Space pause   " if self._toggle_pause is not None else "") + "F full screen   Q quit"
        beside = QtWidgets.QVBoxLayout()
        beside.setSpacing(_MARGIN_PX)
        beside.addLayout(head)
        for timeline in self._timelines:
            beside.addWidget(timeline, 1)
        beside.addWidget(self._meter)
        beside.addWidget(Label(keys, theme.small_pt, theme.faint), 0, QtCore.Qt.AlignmentFlag.AlignRight)
        upper = QtWidgets.QHBoxLayout()
        upper.setSpacing(_MARGIN_PX)
        upper.addWidget(self._plane, 11)
        upper.addLayout(beside, 9)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(_MARGIN_PX, _MARGIN_PX, _MARGIN_PX, _MARGIN_PX)
        whole.setSpacing(_MARGIN_PX)
        whole.addLayout(upper, 1)
        whole.addWidget(self._status_line)


@functools.cache
def application() -> QtWidgets.QApplication:
    """The process's one QApplication, made if need be, and kept: Qt does not survive its end."""
    existing = QtWidgets.QApplication.instance()
    if isinstance(existing, QtWidgets.QApplication):
        return existing
    QtWidgets.QApplication.setAttribute(QtCore.Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    QtWidgets.QApplication.setAttribute(QtCore.Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
    QtWidgets.QApplication.setHighDpiScaleFactorRoundingPolicy(QtCore.Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    # Not the command's own arguments: Qt would take some of them for its own.
    with _decimal_points():
        return QtWidgets.QApplication(["realtime-mer"])


@contextlib.contextmanager
def _decimal_points() -> Generator[None, None, None]:
    """Keeps C's numbers as they are in here, where Qt, as it starts, turns the C library to the user's language.

    openSMILE reads its configuration with the C library: from then on a decimal comma would have it refuse every new
    engine, and another thread may be making one at this moment.
    """
    before = {name: os.environ.get(name) for name in ("LC_ALL", "LC_NUMERIC", "LANG")}
    # LC_ALL goes before LC_NUMERIC, LANG comes after.
    if everything := os.environ.pop("LC_ALL", None):
        os.environ["LANG"] = everything
    os.environ["LC_NUMERIC"] = "C"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _faults_told(stop: threading.Event) -> Generator[None, None, None]:
    """Takes what is raised inside Qt's calls, each fault once, to standard error. PyQt would abort the process."""
    told: set[tuple[type[BaseException], str]] = set()

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            stop.set()
            return
        place = "".join(traceback.format_tb(trace)[-1:])
        if (kind, place) not in told:
            told.add((kind, place))
            print("realtime-mer: the window has a fault (told once); sound and OSC go on:", file=sys.stderr)
            traceback.print_exception(kind, error, trace)

    before = sys.excepthook
    sys.excepthook = tell
    try:
        yield
    finally:
        sys.excepthook = before
