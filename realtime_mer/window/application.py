"""The process's QApplication, and what keeps Qt from disturbing the rest of the process."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from types import TracebackType
from typing import NoReturn

from realtime_mer.log import LOGGER
from realtime_mer.window.qt import QtCore, QtWidgets

# What Qt says before it ends the process, for lack of a server to draw on.
_LOST = ("The X11 connection broke", "The Wayland connection")


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
def display_watched(lost: Callable[[], NoReturn] | None) -> Generator[None, None, None]:
    """lost: called, in the main thread, where the display's server is gone; Qt ends the process where it returns.

    Qt tells of it by nothing but a message. All its messages go to standard error, as ever.
    """

    def tell(_kind: QtCore.QtMsgType, _context: QtCore.QMessageLogContext, message: str | None) -> None:
        text = message or ""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(text, file=sys.stderr)
        # From another thread nothing can be done about it.
        if lost is not None and text.startswith(_LOST) and threading.current_thread() is threading.main_thread():
            lost()

    before = QtCore.qInstallMessageHandler(tell)
    try:
        yield
    finally:
        QtCore.qInstallMessageHandler(before)


@contextlib.contextmanager
def faults_told(stop: threading.Event) -> Generator[None, None, None]:
    """Takes what is raised inside Qt's calls, each fault once, to standard error. PyQt would abort the process."""
    told: set[tuple[type[BaseException], str]] = set()

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            stop.set()
            return
        place = "".join(traceback.format_tb(trace)[-1:])
        if (kind, place) not in told:
            told.add((kind, place))
            with contextlib.suppress(OSError, ValueError):
                print("realtime-mer: the window has a fault (told once); sound and OSC go on:", file=sys.stderr)
                traceback.print_exception(kind, error, trace)
            LOGGER.error("the window has a fault", exc_info=(kind, error, trace))

    before = sys.excepthook
    sys.excepthook = tell
    try:
        yield
    finally:
        sys.excepthook = before
