"""Makes the pictures of the window in docs/: both modes in both themes, silence, and a lost device.

The window, drawn into memory, gets the updates of a live run of these songs, one after the other, or of the built-in
piece, followed by silence. Only the loss of the device is simulated.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import ROOT, BenchmarkError, at_least
from benchmarks.offscreen import Recognised, draw_into_memory, look, open_window, recognise
from realtime_mer.atomic import write_atomically
from realtime_mer.config import DisplaySettings
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.updates import Board, SourceState, Status

if TYPE_CHECKING:
    from realtime_mer.window.run import LiveWindow

SIZE_PX = (1280, 720)
# A window is at rest if it has not painted for so long; after the second time this is an error.
_REST_S, _REST_TIMEOUT_S = 0.5, 60.0
# After the last song, whose last frames still contain some music.
_SILENCE_S = 5.0
_LOST = "USB Audio CODEC"
_LOST_DETAIL, _LOST_S = "It delivers no data any more. Waiting for its return.", 2.4


@dataclass(frozen=True, slots=True)
class Picture:
    """name: of its file. mode, theme: of config.MODES and config.THEMES. silent, lost: the state of the sound."""

    name: str
    mode: str
    theme: str
    silent: bool = False
    lost: bool = False


PICTURES = (
    Picture("window", "operator", "dark"),
    Picture("window-light", "operator", "light"),
    Picture("stage", "stage", "dark"),
    Picture("stage-light", "stage", "light"),
    Picture("window-silence", "operator", "dark", silent=True),
    Picture("window-lost", "operator", "dark", lost=True),
)


def save_pictures(songs: Sequence[Path], longest_s: float, folder: Path) -> list[Path]:
    """Saves PICTURES as PNG files in this folder and returns their paths.

    songs: played one after the other; empty: the built-in piece. longest_s: how much of each is played.
    Raises AudioFileError, and BenchmarkError if nothing can be drawn or written.
    """
    if not folder.is_dir():
        raise BenchmarkError(f"{folder} is not a folder. Create it first.")
    draw_into_memory()
    recognised = recognise(songs, _SILENCE_S, longest_s)
    with contextlib.ExitStack() as opened:
        windows = []
        for picture in PICTURES:
            settings = DisplaySettings(mode=picture.mode, theme=picture.theme)
            window, board = opened.enter_context(open_window(settings, SIZE_PX))
            _show(board, window, recognised, picture)
            windows.append(window)
        # All at once: a point takes some seconds to come to rest.
        _rest(windows)
        return [_save(window, folder, picture) for window, picture in zip(windows, PICTURES, strict=True)]


def _rest(windows: Sequence[LiveWindow]) -> None:
    """Returns once nothing moves in any of them. Raises BenchmarkError if something never stops moving."""
    began_s = painted_s = time.monotonic()
    n_painted = -1
    while time.monotonic() - painted_s < _REST_S:
        for window in windows:
            look(window)
        if (n_now := sum(window.frames_painted for window in windows)) != n_painted:
            n_painted, painted_s = n_now, time.monotonic()
        if painted_s - began_s > _REST_TIMEOUT_S:
            raise BenchmarkError("The windows do not come to rest.")


def _show(board: Board, window: LiveWindow, recognised: Recognised, picture: Picture) -> None:
    """Shows the end of the music, or of the silence after it."""
    length_s = recognised.length_s - (0.0 if picture.silent else _SILENCE_S)
    for update in recognised.updates:
        if update.time_s <= length_s:
            board.update(update)
            # The board keeps only a limited number of updates.
            look(window)
    status = [status for status in recognised.statuses if status.time_s <= length_s][-1]
    board.status(_lost(status) if picture.lost else status)


def _lost(status: Status) -> Status:
    return replace(
        status, source=_LOST, state=SourceState.LOST, detail=_LOST_DETAIL, level=None, losses=1, lost_s=_LOST_S
    )


def _save(window: LiveWindow, folder: Path, picture: Picture) -> Path:
    from realtime_mer.window.qt import QtCore

    buffer = QtCore.QBuffer()
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    # The smallest file.
    if not window.grab().toImage().save(buffer, "PNG", 0):
        raise BenchmarkError("Qt cannot make a PNG file of the window.")
    path = folder / f"{picture.name}.png"
    try:
        write_atomically(path, bytes(buffer.data()))
    except OSError as error:
        raise BenchmarkError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


def main() -> int:
    """`python -m benchmarks.screenshots`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("songs", type=Path, nargs="*", metavar="SONG", help="audio files (default: the built-in piece)")
    parser.add_argument(
        "--longest", type=at_least(2), default=math.inf, metavar="S", help="how many seconds of each (default: all)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="where to (default: docs/)")
    given = parser.parse_args()
    try:
        for path in save_pictures(given.songs, given.longest, given.output):
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    except (AudioFileError, BenchmarkError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
