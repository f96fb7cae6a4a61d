"""The process's QApplication, and the guards that keep Qt from ending or disturbing the rest of the process."""

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

# Qt's messages just before it ends the process because the display's server is gone.
_LOST = ("The X11 connection broke", "The Wayland connection")


@functools.cache
def application() -> QtWidgets.QApplication:
    """The process's one QApplication, created on first use and kept: Qt does not survive a second one."""
    existing = QtWidgets.QApplication.instance()
    if isinstance(existing, QtWidgets.QApplication):
        return existing
    QtWidgets.QApplication.setAttribute(QtCore.Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    QtWidgets.QApplication.setAttribute(QtCore.Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
    QtWidgets.QApplication.setHighDpiScaleFactorRoundingPolicy(QtCore.Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    # Without the command's own arguments: Qt would interpret some of them.
    with _decimal_points():
        return QtWidgets.QApplication(["realtime-mer"])


@contextlib.contextmanager
def _decimal_points() -> Generator[None, None, None]:
    """Keeps the C library's decimal point while Qt starts and switches it to the user's language.

    openSMILE reads its configuration with the C library. With a decimal comma it would refuse every new engine, and
    another thread may be making one at this moment.
    """
    before = {name: os.environ.get(name) for name in ("LC_ALL", "LC_NUMERIC", "LANG")}
    # LC_ALL takes precedence over LC_NUMERIC, LANG does not.
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
    """Calls `lost` in the main thread when the display's server is gone. If `lost` returns, Qt ends the process.

    Qt only prints a message about it. All its messages go to the log.
    """

    def handle(_kind: QtCore.QtMsgType, _context: QtCore.QMessageLogContext, message: str | None) -> None:
        text = message or ""
        LOGGER.debug("Qt: %s", text)
        # In any other thread it is too late.
        if lost is not None and text.startswith(_LOST) and threading.current_thread() is threading.main_thread():
            lost()

    before = QtCore.qInstallMessageHandler(handle)
    try:
        yield
    finally:
        QtCore.qInstallMessageHandler(before)


@contextlib.contextmanager
def faults_reported(stop: threading.Event) -> Generator[None, None, None]:
    """Prints exceptions raised inside Qt's calls, each once, and goes on: PyQt would abort the process.

    Ctrl-C sets `stop` instead.
    """
    reported: set[tuple[type[BaseException], str]] = set()

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            stop.set()
            return
        place = "".join(traceback.format_tb(trace)[-1:])
        if (kind, place) not in reported:
            reported.add((kind, place))
            with contextlib.suppress(OSError, ValueError):
                print("realtime-mer: the window has a fault (shown once); sound and OSC go on:", file=sys.stderr)
                traceback.print_exception(kind, error, trace)
            LOGGER.error("the window has a fault", exc_info=(kind, error, trace))

    before = sys.excepthook
    sys.excepthook = report
    try:
        yield
    finally:
        sys.excepthook = before
