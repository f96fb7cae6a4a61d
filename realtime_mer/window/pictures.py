"""Saves pictures of the window."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from realtime_mer.window.notices import Notices
from realtime_mer.window.qt import QtCore, QtGui


class PictureSaver:
    """Saves pictures in a thread of its own, one at a time, and posts the result of each.

    folders: the first of these that can be written to is used.
    """

    def __init__(self, notices: Notices, folders: Sequence[Path]) -> None:
        self._notices, self._folders = notices, folders
        self._thread: threading.Thread | None = None

    def save(self, image: QtGui.QImage) -> None:
        """Never blocks. A picture is refused while another is being saved."""
        if self._thread is not None and self._thread.is_alive():
            self._notices.post("A picture is still being saved.", fault=True)
            return
        self._thread = threading.Thread(target=self._save, args=(image,), name="picture", daemon=True)
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Waits for the picture that is being saved, if any, but no longer than this."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _save(self, image: QtGui.QImage) -> None:
        try:
            path = write_new(png(image), self._folders, f"realtime-mer {datetime.now():%Y-%m-%d %H.%M.%S}", ".png")
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            self._notices.post(f"No picture was saved: {error.strerror or error}{where}.", fault=True)
        else:
            self._notices.post(f"Saved as {path}")


def write_new(content: bytes, folders: Sequence[Path], name: str, suffix: str) -> Path:
    """Writes a new file into the first folder where that is possible and returns its path.

    Adds a number if the name is taken. Raises OSError if no folder can be written to.
    """
    *others, last = folders
    for folder in others:
        with contextlib.suppress(OSError):
            return _write_new(content, folder, name, suffix)
    return _write_new(content, last, name, suffix)


def _write_new(content: bytes, folder: Path, name: str, suffix: str) -> Path:
    for number in itertools.count(1):
        path = folder / (f"{name}{suffix}" if number == 1 else f"{name} ({number}){suffix}")
        try:
            file = path.open("xb")
        except FileExistsError:
            continue
        try:
            with file:
                file.write(content)
        except OSError:
            # A full disk.
            path.unlink(missing_ok=True)
            raise
        return path.absolute()
    raise AssertionError("numbers do not end")


def png(image: QtGui.QImage) -> bytes:
    """The image as a PNG file. Raises OSError if Qt cannot make one, as for lack of memory."""
    buffer = QtCore.QBuffer()
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    if not image.save(buffer, "PNG"):
        raise OSError("Qt cannot make a PNG file of it")
    return bytes(buffer.data())
