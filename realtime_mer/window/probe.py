"""Run as a program of its own: opens what Qt draws on, and exits with 0 where that worked.

Where it does not, Qt ends the process that tries, without a way to catch it: hence a process that can be spared. Qt's
words go to standard error, one message to a line, before that happens.
"""

from __future__ import annotations

import os
import sys

from PyQt5 import QtCore, QtGui


def _tell(kind: QtCore.QtMsgType, _context: QtCore.QMessageLogContext, message: str | None) -> None:
    sys.stderr.write(" ".join((message or "").split()) + "\n")
    sys.stderr.flush()
    # Returning from a fatal message would abort, and leave a core file or a crash report behind.
    if kind == QtCore.QtMsgType.QtFatalMsg:
        os._exit(1)


if __name__ == "__main__":
    QtCore.qInstallMessageHandler(_tell)
    _application = QtGui.QGuiApplication(["realtime-mer"])
    # Nothing was made that has to be taken down in order.
    os._exit(0)
