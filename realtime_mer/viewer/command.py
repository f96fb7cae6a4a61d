"""`realtime-mer view`: a recording or an audio file, in a window, as a picture or as a video."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from realtime_mer.endings import ending_by_signal
from realtime_mer.errors import OutputError
from realtime_mer.viewer.export import Wish, check_size, check_wish, export, moment_of
from realtime_mer.viewer.loading import take_of_file, take_of_recording
from realtime_mer.viewer.moments import Take
from realtime_mer.window import display_fault


def view(source: Path, wish: Wish, checkpoint_path: Path | None) -> None:
    """Shows the source in a window, or, where the wish has a path, writes it there.

    source: a recording's folder, or an audio file, which is predicted first. checkpoint_path: with this model; None:
    with the one that comes with realtime-mer. Progress goes to standard error.
    Raises UsageError, OutputError, RecordingError, what take_of_file raises, and KeyboardInterrupt where an export was
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
    take = _load(source, checkpoint_path)
    # Before the first picture: a moment that is not there is told at once.
    moment_of(wish.at_s, take, default_s=take.start_s)
    with ending_by_signal() as stop:
        if wish.path is None:
            _show(wish, take, stop)
            return
        with _progress(f"Writing {wish.path.name}") as tell:
            export(wish, take, tell, stop)


def _show(wish: Wish, take: Take, stop: threading.Event) -> None:
    # Late, with Qt.
    from realtime_mer.viewer.window import run_viewer

    at_s = moment_of(wish.at_s, take, default_s=take.start_s)
    run_viewer(take, mode=wish.mode, theme=wish.theme, at_s=at_s, size_px=wish.size_px, stop=stop)


def _load(source: Path, checkpoint_path: Path | None) -> Take:
    if source.is_dir():
        from realtime_mer.recording.reader import read_recording

        return take_of_recording(read_recording(source))
    from realtime_mer.models.checkpoint import chosen_checkpoint_path

    with _progress(f"Predicting {source.name}") as tell:
        return take_of_file(source, chosen_checkpoint_path(checkpoint_path), tell)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error, where that is a terminal, and what takes the share that is done, 0 to 1."""
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
