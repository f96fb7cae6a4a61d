"""`realtime-mer view`: a recording or an audio file, in a window, as a picture or as a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from realtime_mer.endings import ending_by_signal
from realtime_mer.errors import OutputError
from realtime_mer.models.packaged import chosen_checkpoint_path
from realtime_mer.viewer.export import Wish, check_size, check_wish, export, moment_of
from realtime_mer.viewer.loading import take_of_file, take_of_recording
from realtime_mer.viewer.moments import Take
from realtime_mer.window import display_fault


def view(source: Path, wish: Wish, checkpoint_path: Path | None) -> None:
    """Shows the source in a window or, if the wish has a path, writes it there. Progress goes to standard error.

    source: a recording's folder, or an audio file, which is predicted first. checkpoint_path: the model for that; None:
    the one that comes with realtime-mer.
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
    take = _load(source, checkpoint_path)
    at_s = moment_of(wish.at_s, take, default_s=take.updates[0].time_s if take.updates else take.start_s)
    with ending_by_signal() as stop:
        if wish.path is None:
            # Imported late, since it imports Qt.
            from realtime_mer.viewer.window import run_viewer

            run_viewer(take, mode=wish.mode, theme=wish.theme, at_s=at_s, size_px=wish.size_px, stop=stop)
        else:
            with _progress(f"Writing {wish.path.name}") as report:
                export(wish, take, report, stop)


def _load(source: Path, checkpoint_path: Path | None) -> Take:
    if source.is_dir():
        from realtime_mer.recording.reader import read_recording

        return take_of_recording(read_recording(source))
    with _progress(f"Predicting {source.name}") as report:
        return take_of_file(source, chosen_checkpoint_path(checkpoint_path), report)


@contextmanager
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
