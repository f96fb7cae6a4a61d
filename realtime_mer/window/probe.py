"""A program of its own that opens Qt's display and exits with 0 if that works.

If it does not, Qt ends the process, which cannot be caught. Qt's messages go to standard error, one per line.
"""

from __future__ import annotations

import os
import sys

from PyQt5 import QtCore, QtGui


def _print(kind: QtCore.QtMsgType, _context: QtCore.QMessageLogContext, message: str | None) -> None:
    sys.stderr.write(" ".join((message or "").split()) + "\n")
    sys.stderr.flush()
    # Returning from a fatal message would abort and leave a core file or a crash report.
    if kind == QtCore.QtMsgType.QtFatalMsg:
        os._exit(1)


if __name__ == "__main__":
    QtCore.qInstallMessageHandler(_print)
    _application = QtGui.QGuiApplication(["realtime-mer"])
    # There is nothing to clean up.
    os._exit(0)
