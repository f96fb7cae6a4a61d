"""Which files of a folder are predicted, and which are left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime_mer.errors import UsageError, printable
from realtime_mer.sources.reading import AUDIO_SUFFIXES

# Sound, or instructions for making it, that cannot be read here.
_UNSUPPORTED_SUFFIXES = (
    frozenset(
        {".mid", ".midi", ".kar", ".mod", ".xm", ".s3m", ".it", ".raw", ".pcm", ".ra", ".rm", ".dsf", ".dff", ".m4p"}
        | {".aax", ".amr", ".mpc"}
    )
    - AUDIO_SUFFIXES
)
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The files of a folder that are not predicted. Hidden files are not counted.

    unsupported: sound of a kind that cannot be read. inside: audio files in folders inside it. n_other: how many others
        are in the folder itself, which are not audio.
    """

    unsupported: tuple[Path, ...] = ()
    inside: tuple[Path, ...] = ()
    n_other: int = 0

    @property
    def audio(self) -> tuple[Path, ...]:
        """Those that a user may have expected to be predicted."""
        return self.unsupported + self.inside

    def text(self) -> str:
        """For the end of a sentence, such as "left out: 1 that is not audio"; "" if nothing is left out."""
        parts = [
            _counted(self.unsupported, "of an unsupported kind"),
            _counted(self.inside, "in folders inside"),
            f"{self.n_other} not audio" if self.n_other else "",
        ]
        return ", ".join(filter(None, parts))

    def without(self, found: Collection[Path]) -> LeftOut:
        """Without the files with these resolved paths, and each file once."""
        unsupported, inside = (
            tuple({path.resolve(): path for path in paths if path.resolve() not in found}.values())
            for paths in (self.unsupported, self.inside)
        )
        return LeftOut(unsupported, inside, self.n_other)

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(self.unsupported + other.unsupported, self.inside + other.inside, self.n_other + other.n_other)


def search(folder: Path) -> tuple[list[Path], LeftOut]:
    """The audio files in a folder, in alphabetical order, and what is left out.

    Hidden files are neither: macOS leaves a ._song.mp3 beside every song.mp3 on foreign disks.
    Raises UsageError if the folder cannot be read, or has no audio file.
    """
    try:
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        files = [path for path in entries if path.is_file()]
        inside = [path for path in entries if path.is_dir() and not path.is_symlink()]
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    audio = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise UsageError(
            f"The folder {folder} has no audio file (wav, flac, mp3, ogg, m4a and others). "
            "Folders inside it are not searched."
        )
    unsupported = tuple(path for path in files if path.suffix.lower() in _UNSUPPORTED_SUFFIXES)
    n_other = len(files) - len(audio) - len(unsupported)
    return audio, LeftOut(unsupported, tuple(path for sub in inside for path in _audio_below(sub)), n_other)


def _audio_below(folder: Path) -> list[Path]:
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(where, name)
            for name in sorted(names)
            if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
        ]
    return found


def _counted(paths: Sequence[Path], what: str) -> str:
    if not paths:
        return ""
    named = ", ".join(printable(str(path)) for path in paths[:_MOST_NAMED])
    more = ", …" if len(paths) > _MOST_NAMED else ""
    return f"{len(paths)} {what} ({named}{more})"
