"""`realtime-mer view`: a recording or an audio file, in a window, as a picture or as a video."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from realtime_mer.atomic import write_atomically
from realtime_mer.config import ModelSettings
from realtime_mer.endings import ending_by_signal
from realtime_mer.errors import OutputError, UsageError
from realtime_mer.viewer.loading import take_of_file, take_of_recording
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
    one at which the window starts (None: the first prediction). mode, theme, size_px: None: the default, or as the
    window was left."""

    path: Path | None = None
    at_s: float | None = None
    mode: str | None = None
    theme: str | None = None
    size_px: tuple[int, int] | None = None

    @property
    def is_video(self) -> bool:
        return self.path is not None and self.path.suffix.lower() in VIDEO_SUFFIXES


def view(source: Path, wish: Wish, model: ModelSettings) -> None:
    """Shows the source in a window or, if the wish has a path, writes it there. Progress goes to standard error.

    source: a recording's folder, or an audio file, which is predicted first. model: for that.
    Raises UsageError, OutputError, RecordingError, the errors of take_of_file, and KeyboardInterrupt if an export is
    interrupted.
    """
    if wish.path is None:
        check_size(wish)
        fault = display_fault()
        if fault is not None:
            raise OutputError(
                f"There is no window: {fault} With --export PATH a picture or a video is made without one."
            )
    else:
        check_wish(wish, source)
    with tempfile.TemporaryDirectory(prefix="realtime-mer-") as folder:
        take = _load(source, model, Path(folder))
        at_s = moment_of(wish.at_s, take, default_s=take.updates[0].time_s if take.updates else take.start_s)
        with ending_by_signal() as stop:
            if wish.path is None:
                # Imported late, since it imports Qt.
                from realtime_mer.viewer.window import run_viewer

                run_viewer(take, mode=wish.mode, theme=wish.theme, at_s=at_s, size_px=wish.size_px, stop=stop)
            else:
                with _progress(f"Writing {wish.path.name}") as report:
                    export(wish, take, report, stop)


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
    """Raises UsageError or OutputError, before any work, if wish.path cannot be written. source: what is shown."""
    path = wish.path
    assert path is not None
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
        if not os.access(path if path.exists() else path.resolve().parent, os.W_OK):
            raise OutputError(f"{path} cannot be written: permission denied.")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error


def export(wish: Wish, take: Take, report: Callable[[float], None], stop: threading.Event) -> None:
    """Writes wish.path, after `check_wish`. Needs no display. report: gets the share done, 0 to 1. stop: ends it.

    Raises UsageError, OutputError, RecordingError if the sound is damaged, and KeyboardInterrupt once stopped.
    """
    path = wish.path
    assert path is not None
    # Even if there is a display, nothing is shown on it.
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    fault = display_fault()
    if fault is not None:
        raise OutputError(f"{path} cannot be drawn: {fault}")
    # Imported late, since they import Qt.
    from realtime_mer.viewer.canvas import Canvas
    from realtime_mer.viewer.video import write_video

    look = Look(wish.mode or ("stage" if wish.is_video else "operator"), wish.theme or "dark")

    def open_canvas() -> Canvas:
        return Canvas(Moments(take), look, *(wish.size_px or _DEFAULT_SIZE_PX))

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


def _load(source: Path, model: ModelSettings, folder: Path) -> Take:
    if source.is_dir():
        from realtime_mer.recording.reader import read_recording

        return take_of_recording(read_recording(source))
    with _progress(f"Predicting {source.name}") as report:
        return take_of_file(source, model, report, folder)


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on standard error, if that is a terminal; yields what takes the share done, 0 to 1."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)
