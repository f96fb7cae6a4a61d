"""Qt and pyqtgraph for the window's modules, with Qt's types.

Importing this takes a fraction of a second, and fails if the system lacks libraries that Qt needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# First: pyqtgraph uses the binding that is already loaded.
import PyQt5.QtWidgets  # noqa: F401 # isort: skip
import pyqtgraph as pg

if TYPE_CHECKING:
    from PyQt5 import QtCore, QtGui, QtWidgets
else:
    from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

__all__ = ["QtCore", "QtGui", "QtWidgets", "pg"]
