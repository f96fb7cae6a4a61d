"""Writes a moment of a take as a picture, or all of it as a video."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from realtime_mer.atomic import write_atomically
from realtime_mer.errors import OutputError, UsageError
from realtime_mer.viewer.moments import Moments, Take
from realtime_mer.window import display_fault
from realtime_mer.window.remembered import Look

PICTURE_SUFFIXES = (".png", ".svg")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm")
# The most that Qt and the encoders support, and the least that is readable.
_SMALLEST_PX, _LARGEST_PX = (320, 240), (8192, 8192)
_DEFAULT_SIZE_PX = (1920, 1080)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to show. path: where to write it; None: in a window. at_s: the moment of a picture (None: the end), or the
    one at which the window starts (None: the first prediction). mode, theme, size_px: None: the default, or as the window was
    left."""

    path: Path | None = None
    at_s: float | None = None
    mode: str | None = None
    theme: str | None = None
    size_px: tuple[int, int] | None = None

    @property
    def is_video(self) -> bool:
        """Whether a video is to be written."""
        return self.path is not None and self.path.suffix.lower() in VIDEO_SUFFIXES


def check_size(wish: Wish) -> None:
    """Raises UsageError for a size that is not supported."""
    width_px, height_px = wish.size_px or _DEFAULT_SIZE_PX
    pairs = zip(_SMALLEST_PX, (width_px, height_px), _LARGEST_PX, strict=True)
    if not all(least <= size <= most for least, size, most in pairs):
        smallest, largest = ("x".join(map(str, size)) for size in (_SMALLEST_PX, _LARGEST_PX))
        raise UsageError(f"--size: expected {smallest} to {largest}, got {width_px}x{height_px}.")
    if wish.is_video and (width_px % 2 or height_px % 2):
        raise UsageError(f"--size: expected an even width and height for a video, got {width_px}x{height_px}.")


def check_wish(wish: Wish, source: Path) -> None:
    """Raises UsageError or OutputError, before any work, if it cannot be written. source: what is shown."""
    path = _path_of(wish)
    suffixes = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--export: expected a path that ends in one of {', '.join(suffixes)}, got {path}.")
    if wish.is_video and wish.at_s is not None:
        raise UsageError("--at is for a picture: a video shows everything. Leave it out.")
    check_size(wish)
    try:
        if path.is_dir():
            raise OutputError(f"{path} cannot be written: it is a folder.")
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path} is the source itself: --export would overwrite it. Choose another path.")
        if not path.resolve().parent.is_dir():
            raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.")
        existing = path if path.exists() else path.resolve().parent
        if not os.access(existing, os.W_OK):
            raise OutputError(f"{path} cannot be written: permission denied.")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def export(wish: Wish, take: Take, report: Callable[[float], None], stop: threading.Event) -> None:
    """Writes it, after `check_wish`. Needs no display. report: gets the share done, 0 to 1. stop: ends it.

    Raises UsageError, OutputError, RecordingError if the sound is damaged, and KeyboardInterrupt once stopped.
    """
    path = _path_of(wish)
    # Even if there is a display, nothing is shown on it.
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    fault = display_fault()
    if fault is not None:
        raise OutputError(f"{path} cannot be drawn: {fault}")
    # Imported late, since they import Qt.
    from realtime_mer.viewer.canvas import Canvas
    from realtime_mer.viewer.video import write_video

    look = Look(wish.mode or ("stage" if wish.is_video else "operator"), wish.theme or "dark")
    moments = Moments(take)

    def open_canvas() -> Canvas:
        return Canvas(moments, look, *(wish.size_px or _DEFAULT_SIZE_PX))

    if wish.is_video:
        write_video(path, take, open_canvas, report, stop)
        return
    at_s = moment_of(wish.at_s, take, default_s=take.end_s)
    try:
        with contextlib.closing(open_canvas()) as canvas:
            content = canvas.svg(at_s) if path.suffix.lower() == ".svg" else canvas.png(at_s)
        write_atomically(path, content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def moment_of(at_s: float | None, take: Take, *, default_s: float) -> float:
    """The moment that --at names. Raises UsageError if it is not in the take."""
    if at_s is None:
        return default_s
    # Times are shown in milliseconds.
    if not take.start_s - 0.5e-3 <= at_s <= take.end_s + 0.5e-3:
        raise UsageError(f"--at: expected {take.start_s:.3f} to {take.end_s:.3f} s for this source, got {at_s:g}.")
    return min(max(at_s, take.start_s), take.end_s)


def _path_of(wish: Wish) -> Path:
    if wish.path is None:
        raise ValueError("Nothing is to be written.")
    return wish.path
