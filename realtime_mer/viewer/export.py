"""Writes what a take looked like: a moment as a picture, or all of it as a video."""

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

PICTURE_SUFFIXES = (".png", ".svg")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm")
# Qt's pictures and the encoders go no further; below, the least of a window there is nothing to be read any more.
_SMALLEST_PX, _LARGEST_PX = (320, 240), (8192, 8192)
_DEFAULT_SIZE_PX = (1920, 1080)


@dataclass(frozen=True, slots=True)
class Wish:
    """What to show. path: where to write it, None is a window. at_s: the moment of a picture, None is the end, or the
    one that the window begins at, None is the start. mode, theme, size_px: None is as it usually is, or, of the window,
    as it was left."""

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
    """Raises UsageError for a size that nothing can have, or not what is wished for."""
    width_px, height_px = wish.size_px or _DEFAULT_SIZE_PX
    pairs = zip(_SMALLEST_PX, (width_px, height_px), _LARGEST_PX, strict=True)
    if not all(least <= size <= most for least, size, most in pairs):
        smallest, largest = ("x".join(map(str, size)) for size in (_SMALLEST_PX, _LARGEST_PX))
        raise UsageError(f"--size is from {smallest} to {largest}, not {width_px}x{height_px}.")
    if wish.is_video and (width_px % 2 or height_px % 2):
        raise UsageError(f"A video's width and height are even numbers, not {width_px}x{height_px}.")


def check_wish(wish: Wish, source: Path) -> None:
    """Raises UsageError or OutputError for what cannot be written, before any work. source: what is shown."""
    path = _path_of(wish)
    suffixes = (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--export takes a path that ends in one of {', '.join(suffixes)}, not {path}.")
    if wish.is_video and wish.at_s is not None:
        raise UsageError("--at is for a picture, which shows a moment: a video shows everything.")
    check_size(wish)
    try:
        if path.is_dir():
            raise OutputError(f"{path} cannot be written: it is a folder.")
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path} is what is to be shown: writing there would destroy it.")
        if not path.resolve().parent.is_dir():
            raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.")
        existing = path if path.exists() else path.resolve().parent
        if not os.access(existing, os.W_OK):
            raise OutputError(f"{path} cannot be written: permission denied.")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def export(wish: Wish, take: Take, tell: Callable[[float], None], stop: threading.Event) -> None:
    """Writes it, as `check_wish` let it pass. Needs no display. tell: is told what share is done; stop: ends it.

    Raises UsageError, OutputError, RecordingError where the sound is damaged, and KeyboardInterrupt once stopped.
    """
    path = _path_of(wish)
    # Whatever display there is: nothing is to be shown on it.
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    fault = display_fault()
    if fault is not None:
        raise OutputError(f"{path} cannot be drawn: {fault}")
    # Only here: with Qt.
    from realtime_mer.viewer.canvas import Canvas
    from realtime_mer.viewer.video import write_video
    from realtime_mer.window.view import Look

    look = Look(wish.mode or ("stage" if wish.is_video else "operator"), wish.theme or "dark")
    moments = Moments(take)

    def open_canvas() -> Canvas:
        return Canvas(moments, look, *(wish.size_px or _DEFAULT_SIZE_PX))

    if wish.is_video:
        write_video(path, take, open_canvas, tell, stop)
        return
    at_s = moment_of(wish.at_s, take, default_s=take.end_s)
    with contextlib.closing(open_canvas()) as canvas:
        content = canvas.svg(at_s) if path.suffix.lower() == ".svg" else canvas.png(at_s)
    try:
        write_atomically(path, content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def moment_of(at_s: float | None, take: Take, *, default_s: float) -> float:
    """The moment that --at names. Raises UsageError where the take has none such."""
    if at_s is None:
        return default_s
    # As far as somebody reads its times.
    if not take.start_s - 0.5e-3 <= at_s <= take.end_s + 0.5e-3:
        raise UsageError(f"--at is from {take.start_s:.3f} to {take.end_s:.3f} s here, not {at_s:g}.")
    return min(max(at_s, take.start_s), take.end_s)


def _path_of(wish: Wish) -> Path:
    if wish.path is None:
        raise ValueError("Nothing is to be written.")
    return wish.path
