"""The files of a recording that is being made."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from io import SEEK_SET, FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from realtime_mer.atomic import write_atomically
from realtime_mer.config import LiveSettings, settings_toml
from realtime_mer.recording import (
    DETAILS_FILE,
    DETAILS_HEADER,
    DROPS_FILE,
    DROPS_HEADER,
    EVENTS_FILE,
    EVENTS_HEADER,
    FACTS_FILE,
    MARKS_FILE,
    MARKS_HEADER,
    PREDICTIONS_FILE,
    PREDICTIONS_HEADER,
    SETTINGS_FILE,
    Beginning,
    audio_name,
)
from realtime_mer.recording.samples import to_pcm
from realtime_mer.sources import Capture
from realtime_mer.updates import Update

# How much of a mark's text is kept.
_MARK_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Event:
    """A row of events.csv."""

    time_s: float
    time_of_day: str
    state: str
    level: str
    detail: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A row of marks.csv."""

    time_s: float
    time_of_day: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Predicted:
    """A row of predictions.csv and one of details.csv: an update, and the gain stage's gain; None: not known."""

    update: Update
    gain_db: float | None


Entry = Beginning | Capture | Predicted | Event | Mark


class Folder:
    """The files of a recording that is being made. Every method raises if it cannot write, mostly OSError."""

    def __init__(self, directory: Path, settings: LiveSettings, facts: dict[str, Any]) -> None:
        self._directory = directory
        self._facts = facts
        self._segments: list[dict[str, int | None]] = []
        self._audio: _AudioFile | None = None
        (directory / SETTINGS_FILE).write_text(settings_toml(settings), encoding="utf-8", newline="\n")
        self._predictions = _Table(directory / PREDICTIONS_FILE, PREDICTIONS_HEADER)
        self._details = _Table(directory / DETAILS_FILE, DETAILS_HEADER)
        self._drops = _Table(directory / DROPS_FILE, DROPS_HEADER)
        self._events = _Table(directory / EVENTS_FILE, EVENTS_HEADER)
        self._marks = _Table(directory / MARKS_FILE, MARKS_HEADER)
        self._tables = (self._predictions, self._details, self._drops, self._events, self._marks)
        self.write_facts("", 0.0)

    def write(self, entry: Entry) -> None:
        if isinstance(entry, Capture):
            self._write_capture(entry)
        elif isinstance(entry, Beginning):
            # On the disk with the first segment, before any update.
            valence, arousal = map(float, entry.held)
            self._facts["began"] = {
                "index": entry.index,
                "time_s": float(entry.time_s),
                "valence": valence,
                "arousal": arousal,
            }
        elif isinstance(entry, Predicted):
            update, prediction = entry.update, entry.update.prediction
            held = "true" if update.held else "false"
            numbers = (float(update.time_s), float(prediction.valence), float(prediction.arousal))
            self._predictions.add(f"{update.index},{','.join(map(repr, numbers))},{held}")
            details = (prediction.valence_sd, prediction.arousal_sd, prediction.confidence, entry.gain_db)
            attention = " ".join(f"{weight:.4f}" for weight in prediction.attention or ())
            self._details.add(f"{update.index},{','.join(map(_rounded, details))},{attention}")
        elif isinstance(entry, Mark):
            text = _quoted(entry.text[:_MARK_CHARACTERS])
            self._marks.add(f"{entry.time_s:.3f},{_quoted(entry.time_of_day)},{entry.number},{text}")
        else:
            words = (_quoted(word) for word in (entry.time_of_day, entry.state, entry.level, entry.detail))
            self._events.add(f"{entry.time_s:.3f},{','.join(words)}")

    def flush(self) -> None:
        """Hands everything to the system, and raises if a file is gone."""
        if self._audio is not None:
            self._audio.check()
        for table in self._tables:
            table.flush()

    def finish(self, fault: str, lost_s: float, *, open_end: bool) -> None:
        """Ends every file and marks the recording as whole if it is; open_end: as in Recorder.finish."""
        self._finish_segment()
        for table in self._tables:
            table.flush()
            table.close()
        self._facts["open_end"] = open_end
        self.write_facts(fault, lost_s, whole=not fault)

    def abandon(self) -> None:
        """Closes every file as it is, after a last attempt to write the tables, which may fit where sound does not."""
        for table in self._tables:
            with contextlib.suppress(OSError):
                table.flush()
        for file in (self._audio, *self._tables):
            # Its error was reported before.
            with contextlib.suppress(OSError, soundfile.SoundFileError):
                if file is not None:
                    file.close()

    def write_facts(self, fault: str, lost_s: float, *, whole: bool = False) -> None:
        """recording.json, whole or not at all."""
        facts = self._facts | {"segments": self._segments, "whole": whole, "fault": fault, "lost_s": lost_s}
        write_atomically(self._directory / FACTS_FILE, (json.dumps(facts, indent=2) + "\n").encode())

    def _write_capture(self, capture: Capture) -> None:
        n_samples, n_channels = capture.samples.shape
        if self._audio is None or capture.segment != self._segments[-1]["segment"]:
            self._finish_segment()
            path = self._directory / audio_name(capture.segment)
            self._audio = _AudioFile(path, capture.rate_hz, n_channels)
            self._segments.append(
                {"segment": capture.segment, "rate_hz": capture.rate_hz, "channels": n_channels, "samples": None}
            )
            self.write_facts("", 0.0)
        if capture.dropped_samples:
            self._drops.add(f"{capture.segment},{self._audio.n_samples},{capture.dropped_samples}")
        if n_samples:
            self._audio.write(to_pcm(capture.samples))

    def _finish_segment(self) -> None:
        if self._audio is not None:
            self._audio.close()
            self._segments[-1]["samples"] = self._audio.n_samples
            self._audio = None


class _File:
    """A new file. After an error it takes nothing more; `check` raises that error, also if the file is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Unbuffered, so that an error is raised by the write that caused it.
        self._raw = FileIO(path, "xb")
        self._error: OSError | None = None

    def write(self, content: bytes) -> int:
        """Returns how many bytes were written, all or none, without raising: libsndfile passes no exception on."""
        if self._error is not None:
            return 0
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._raw.write(rest) :]
        except OSError as error:
            self._error = error
            return 0
        return len(content)

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def check(self) -> None:
        if self._error is not None:
            raise self._error
        if not self._path.exists():
            raise OSError(f"{self._path.name} was removed")

    def close(self) -> None:
        """Raises what `check` would. Can be called twice."""
        if self._raw.closed:
            return
        try:
            self.check()
            os.fsync(self._raw.fileno())
        finally:
            self._raw.close()


class _AudioFile:
    """A new FLAC file of 24 bits. `close` raises if it was not written completely."""

    def __init__(self, path: Path, rate_hz: int, n_channels: int) -> None:
        self.n_samples = 0
        self._file = _File(path)
        # Until its first samples it has no bytes.
        self._sound = soundfile.SoundFile(self._file, "w", rate_hz, n_channels, "PCM_24", format="FLAC")

    def write(self, pcm: npt.NDArray[np.int32]) -> None:
        """pcm: shape (n_samples, n_channels), as `to_pcm` gives it."""
        try:
            self._sound.write(pcm)
        # soundfile asserts that everything was written; the file has the reason.
        except (soundfile.SoundFileError, AssertionError):
            self._file.check()
            raise
        self.n_samples += len(pcm)

    def check(self) -> None:
        self._file.check()

    def close(self) -> None:
        try:
            self._sound.close()
        finally:
            self._file.close()


class _Table:
    """A new CSV file; its lines are complete unless the disk is full."""

    def __init__(self, path: Path, header: str) -> None:
        self._file = _File(path)
        self._lines = [header]
        self.flush()

    def add(self, line: str) -> None:
        self._lines.append(line)

    def flush(self) -> None:
        content = "".join(f"{line}\n" for line in self._lines).encode("utf-8", "backslashreplace")
        self._lines.clear()
        self._file.write(content)
        self._file.check()

    def close(self) -> None:
        self._file.close()


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _quoted(text: str) -> str:
    """A text as a CSV field on one line, without control characters."""
    words = " ".join(text.split()).replace('"', '""')
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    return f'"{printable}"'
