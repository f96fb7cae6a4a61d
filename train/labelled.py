"""Reads a folder of labelled music of one's own: audio files, and a table of their valence and arousal, labels.csv."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from realtime_mer.sources.reading import AudioFileError, read_blocks
from train.deam import ANNOTATION_STEP_S, Deam, DeamError, Finding, Song

TABLE = "labels.csv"
_EXPECTED = "the columns file, start_s (in seconds), valence and arousal (-1 to 1), and a row for each label"
_Rating = Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)]


class _Row(msgspec.Struct):
    """A row of the table: from start_s, in seconds of the file, until the file's next row or its end."""

    file: Annotated[str, msgspec.Meta(min_length=1)]
    start_s: Annotated[float, msgspec.Meta(ge=0.0)]
    valence: _Rating
    arousal: _Rating


def load_labelled(root: Path) -> Deam:
    """The songs that `labels.csv` in `root` names: columns file (relative to the folder), start_s, valence, arousal.

    valence, arousal: in [-1, 1]; they hold from start_s until the same file's next row, or its end. Files that cannot
    be read are left out and reported. There is no prescribed split.

    Raises DeamError if the table is missing, a row is wrong (naming its line), or no file is usable.
    """
    rows = _rows(root / TABLE)
    by_file: dict[str, list[_Row]] = {}
    for row in rows:
        by_file.setdefault(row.file, []).append(row)
    songs, left_out = [], []
    for song_id, (name, of_file) in enumerate(by_file.items(), start=1):
        audio = root / name
        try:
            songs.append(_song(song_id, audio, sorted(of_file, key=lambda row: row.start_s)))
        except AudioFileError as error:
            left_out.append(Finding(song_id, audio, str(error)))
    if not songs:
        raise DeamError(f"No file that {root / TABLE} names can be used. The first one: {left_out[0]}")
    return Deam(root, tuple(songs), tuple(left_out), ())


def _rows(path: Path) -> list[_Row]:
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for cells in (table := csv.DictReader(file)):
                row = msgspec.convert(cells, _Row, strict=False)
                if not math.isfinite(row.start_s + row.valence + row.arousal):
                    raise DeamError(f"{path}, line {table.line_num}: expected finite numbers, got {cells}.")
                rows.append(row)
    except OSError as error:
        raise DeamError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DeamError(f"{path} is not a CSV file: {error}.") from error
    except msgspec.ValidationError as error:
        raise DeamError(f"{path}, line {table.line_num}: {error}. Expected {_EXPECTED}.") from error
    if not rows:
        raise DeamError(f"{path} has no rows. Expected {_EXPECTED}.")
    return rows


def _song(song_id: int, audio: Path, rows: list[_Row]) -> Song:
    duration_s = sum(len(block.samples) / block.rate_hz for block in read_blocks(audio))
    ends_s = [row.start_s for row in rows[1:]] + [duration_s + ANNOTATION_STEP_S]
    times_s, labels = [], []
    for row, end_s in zip(rows, ends_s, strict=True):
        steps_s = np.arange(row.start_s, end_s, ANNOTATION_STEP_S)
        times_s.append(steps_s)
        labels.append(np.full((len(steps_s), 2), [row.valence, row.arousal], dtype=np.float32))
    return Song(song_id, audio, 0.0, None, np.concatenate(times_s), np.concatenate(labels), None)
