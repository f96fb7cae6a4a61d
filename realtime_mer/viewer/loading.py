"""Loads a recording as a take, or an audio file, which is predicted first."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import soundfile

from realtime_mer.config import DisplaySettings, LevelMeterSettings, ModelSettings
from realtime_mer.errors import OutputError
from realtime_mer.recording import (
    DETAILS_FILE,
    DETAILS_HEADER,
    EVENTS_FILE,
    EVENTS_HEADER,
    MARKS_FILE,
    MARKS_HEADER,
)
from realtime_mer.recording.reader import RecordedSegment, Recording
from realtime_mer.updates import Marked, SourceState, Update
from realtime_mer.viewer.moments import Loss, Piece, Take, with_quadrants

# The table of a month stays below this.
_LARGEST_TABLE_BYTES = 2**29
# The most attention weights of a prediction.
_MOST_WEIGHTS = 64


def take_of_recording(recording: Recording) -> Take:
    """The recording's sound and predictions. One that was cut off ends with its last prediction.

    Marks, losses of the device, and all details of an update except valence and arousal come from the CSV tables;
    invalid rows are left out.
    """
    known, gains_db = _details(recording.directory / DETAILS_FILE)
    start_s = recording.began.time_s
    last_s = recording.updates[-1].time_s if recording.updates else start_s
    pieces: list[Piece] = []
    drops: list[Loss] = []
    breaks: list[float] = []
    end_s = start_s
    for segment in recording.segments:
        if end_s > start_s:
            breaks.append(end_s)
        for part in _parts(segment, end_s, last_s):
            if isinstance(part, Loss):
                drops.append(part)
                end_s = part.time_s
            else:
                pieces.append(part)
                end_s = part.end_s
    return Take(
        name=recording.source,
        start_s=start_s,
        end_s=max(end_s, last_s),
        updates=tuple(
            replace(update, prediction=replace(update.prediction, **known.get(update.index, {})))
            for update in with_quadrants(recording.updates, recording.settings.quadrant)
        ),
        gains_db=tuple(gains_db.get(update.index) for update in recording.updates),
        pieces=tuple(pieces),
        meter=recording.settings.level,
        trail_s=recording.settings.display.trail_s,
        fault=recording.fault,
        marks=tuple(_marks(recording.directory / MARKS_FILE)),
        breaks=tuple(breaks),
        drops=tuple(drops),
        losses=tuple(_losses(recording.directory / EVENTS_FILE)),
    )


def take_of_file(path: Path, model: ModelSettings, report: Callable[[float], None], folder: Path) -> Take:
    """An audio file, predicted as it would have been live. report: gets the share done, 0 to 1.

    folder: for the sound of a file that cannot be read from any moment on, such as an MP3; it stays there.
    Raises AudioFileError, CheckpointError, OutputError, and the errors of Session.
    """
    # These import SciPy, which takes a while, and a recording does not need it.
    from realtime_mer.live.session import process_file
    from realtime_mer.models.checkpoint import load_checkpoint
    from realtime_mer.models.packaged import chosen_checkpoint_path
    from realtime_mer.sources.reading import AudioFileError, is_read_by_libsndfile, missing_file

    if not path.exists():
        raise AudioFileError(missing_file(path))
    if not path.is_file():
        raise AudioFileError(f"{path} is not a regular file.")
    try:
        sound = path if is_read_by_libsndfile(path) else _decoded(path, folder)
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {error.strerror or error}.") from error
    updates: list[Update] = []
    gains_db: list[float] = []
    n_samples, rate_hz, n_promised = 0, 1, _n_promised(sound)
    checkpoint = load_checkpoint(chosen_checkpoint_path(model))
    for part in process_file(path, checkpoint, model.predictions_hz):
        updates += part.updates
        gains_db += len(part.updates) * [part.gain_db]
        n_samples, rate_hz = n_samples + part.n_samples, part.rate_hz
        report(min(n_samples / n_promised, 1.0))
    piece = Piece(sound, rate_hz, 0, n_samples, 0.0)
    end_s = max(piece.end_s, updates[-1].time_s)
    name = "".join(character if character.isprintable() else "?" for character in path.name)
    meter, trail_s = LevelMeterSettings(), DisplaySettings().trail_s
    return Take(name, 0.0, end_s, tuple(updates), (piece,), meter, trail_s, gains_db=tuple(gains_db))


def _decoded(path: Path, folder: Path) -> Path:
    """The file's sound as a file in this folder that libsndfile reads."""
    from realtime_mer.sources.reading import AudioFileError, read_blocks

    sound = folder / "sound.rf64"
    with contextlib.ExitStack() as opened:
        file: soundfile.SoundFile | None = None
        for block in read_blocks(path):
            try:
                if file is None:
                    form = (block.rate_hz, block.samples.shape[1], "PCM_16")
                    file = opened.enter_context(soundfile.SoundFile(sound, "w", *form, format="RF64"))
                file.write(block.samples)
            except (soundfile.SoundFileError, AssertionError) as error:
                raise OutputError(f"The sound of {path} cannot be written into {folder}: is its disk full?") from error
    if file is None:
        raise AudioFileError(f"{path} holds no sound.")
    return sound


def _n_promised(path: Path) -> int:
    """The samples per channel according to the file's header; at least 1."""
    with contextlib.suppress(soundfile.SoundFileError, OSError, TypeError):
        return max(int(soundfile.info(path if os.name == "nt" else os.fsencode(path)).frames), 1)
    return 1


def _parts(segment: RecordedSegment, start_s: float, last_s: float) -> Iterator[Piece | Loss]:
    """A segment's sound and what was dropped, in order. last_s: the time of the recording's last update."""
    rate_hz = segment.rate_hz
    first, now_s = 0, start_s
    for drop in segment.drops:
        if drop.at_sample > first:
            yield Piece(segment.path, rate_hz, first, drop.at_sample - first, now_s)
            now_s += (drop.at_sample - first) / rate_hz
            first = drop.at_sample
        now_s += drop.n_samples / rate_hz
        yield Loss(now_s, drop.n_samples / rate_hz)
    n_samples = segment.n_samples
    if n_samples is None:
        # The real length would take reading the whole file.
        n_samples = first + max(math.ceil((last_s - now_s) * rate_hz), 0)
    if n_samples > first:
        yield Piece(segment.path, rate_hz, first, n_samples - first, now_s)


def _marks(path: Path) -> Iterator[Marked]:
    for row in _rows(path, MARKS_HEADER):
        with contextlib.suppress(ValueError):
            yield Marked(_time_s(row[0]), int(row[2]), row[3])


def _losses(path: Path) -> Iterator[Loss]:
    lost: tuple[float, datetime] | None = None
    for row in _rows(path, EVENTS_HEADER):
        with contextlib.suppress(ValueError):
            time_s, time_of_day = _time_s(row[0]), datetime.fromisoformat(row[1])
            if row[2] == SourceState.LOST:
                lost = lost or (time_s, time_of_day)
            elif lost is not None:
                since_s, since = lost
                lost = None
                # Naive and aware times cannot be subtracted. Only an edited table mixes them.
                if (since.tzinfo is None) == (time_of_day.tzinfo is None):
                    yield Loss(since_s, max((time_of_day - since).total_seconds(), 0.0))
    if lost is not None:
        yield Loss(lost[0], 0.0)


def _details(path: Path) -> tuple[dict[int, dict[str, Any]], dict[int, float]]:
    """By the update's index: what its prediction had beside valence and arousal, and the gain in dB."""
    known: dict[int, dict[str, Any]] = {}
    gains_db: dict[int, float] = {}
    for index, *errors, gain_db, attention in _rows(path, DETAILS_HEADER):
        with contextlib.suppress(ValueError):
            fields: dict[str, Any] = {}
            if any(errors):
                for name, text, most in zip(("valence_sd", "arousal_sd", "confidence"), errors, (2, 2, 1), strict=True):
                    fields[name] = _within(text, 0.0, most)
            if attention:
                fields["attention"] = tuple(_within(text, 0.0, 1.0) for text in attention.split()[:_MOST_WEIGHTS])
            if gain_db:
                gains_db[int(index)] = _within(gain_db, -200.0, 200.0)
            known[int(index)] = fields
    return known, gains_db


def _within(text: str, least: float, most: float) -> float:
    """Raises ValueError if it is not a number from `least` to `most`."""
    value = float(text)
    if not least <= value <= most:
        raise ValueError(f"expected {least} to {most}, got {text}")
    return value


def _rows(path: Path, header: str) -> Iterator[list[str]]:
    """The rows with as many fields as the header; none if there is no such table."""
    names = header.split(",")
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_TABLE_BYTES:
            return
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            yield from (row for row in csv.reader(file) if len(row) == len(names) and row != names)
    except (OSError, csv.Error):
        return


def _time_s(text: str) -> float:
    """Raises ValueError if it is not a stream time."""
    return _within(text, 0.0, sys.float_info.max)
