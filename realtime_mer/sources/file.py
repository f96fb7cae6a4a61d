"""An audio file as a source."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path

from realtime_mer.sources import MAX_CHANNELS, Capture, SourceError
from realtime_mer.sources.paced import PacedSource
from realtime_mer.sources.reading import AudioFileError, missing_file, read_blocks


class FileSource(PacedSource):
    """An audio file, in real time or as fast as possible.

    loop: at its end it begins again, without a gap, in the same segment.
    `start` raises SourceError for a file that is missing, not audio, empty or has more than eight channels; `read`, for
    one that breaks off or changes.
    """

    def __init__(self, path: Path, *, loop: bool, fast: bool) -> None:
        super().__init__(path.name, partial(_file_captures, path, loop=loop), fast=fast)


def _file_captures(path: Path, *, loop: bool) -> Generator[Capture, None, None]:
    _check_is_file(path)
    form: tuple[int, int] | None = None
    while True:
        n_samples = 0
        try:
            for block in read_blocks(path):
                found = (block.rate_hz, block.samples.shape[1])
                if form is None:
                    form = found
                    _check_channels(path, form[1])
                if found != form:
                    changed = f"it had {_form_text(form)}, and now {_form_text(found)}"
                    raise SourceError(f"{path} was changed during playback: {changed}.")
                n_samples += len(block.samples)
                yield Capture(block.samples, block.rate_hz, 0, 0, None)
        except AudioFileError as error:
            raise SourceError(str(error)) from error
        if n_samples == 0:
            raise SourceError(f"{path} holds no sound.")
        if not loop:
            return


def _check_is_file(path: Path) -> None:
    """Opening a pipe, for example, could wait forever."""
    try:
        there, is_file = path.exists(), path.is_file()
    except OSError as error:
        raise SourceError(f"{path} cannot be played: {error.strerror or error}.") from error
    if not there:
        raise SourceError(missing_file(path))
    if not is_file:
        raise SourceError(f"{path} is not a regular file. Pipe raw PCM to standard input instead: --input -")


def _check_channels(path: Path, n_channels: int) -> None:
    if n_channels > MAX_CHANNELS:
        raise SourceError(
            f"{path} has {n_channels} channels; {MAX_CHANNELS} are the most that a recording could hold. "
            "Mix it down first, for example with ffmpeg's -ac 2."
        )


def _form_text(form: tuple[int, int]) -> str:
    rate_hz, n_channels = form
    return f"{n_channels} channel{'s' if n_channels > 1 else ''} at {rate_hz} Hz"
