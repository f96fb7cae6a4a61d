"""Reads a DEAM folder: its songs, their audio or features, and the listeners' ratings, two per second.

DEAM (Aljanaki, Yang and Soleymani, "Developing a benchmark for emotional analysis of music", PLoS ONE 2017) is read
in its official layout, as its archives unpack, and as excerpts that a `clips.csv` describes. A fault in one song leaves
that song out and is reported; if the folder as a whole is unusable, DeamError is raised.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from realtime_mer.features.engine import HOP_S, opensmile_names
from realtime_mer.types import FloatArray

TimeArray = npt.NDArray[np.float64]
Split = dict[str, tuple[int, ...]]

AUDIO_SUFFIXES = (".mp3", ".wav", ".ogg", ".flac")
SPLIT_NAMES = ("train", "validation", "test")
ANNOTATION_STEP_S = 0.5
_STEP_MS = round(ANNOTATION_STEP_S * 1000)

_DYNAMIC = Path("annotations averaged per song") / "dynamic (per second annotations)"
_AUDIO_FOLDER = "MEMD_audio"
_FEATURES_FOLDER = "features"
_CLIPS = {"clips": "clips.csv", "long": "clips_long.csv"}
# DEAM's archives put the folders one level down, and unpacking adds one or two parents.
_SEARCH_DEPTH = 3
_TIME_TOLERANCE_S = 1e-3
_FLOAT32_MAX = float(np.finfo(np.float32).max)
# DEAM's tables have up to 5 MB, 1,802 rows and 1,224 columns. Anything larger than this is something else, and could
# take more memory than there is.
MAX_TABLE_BYTES = 2**24
MAX_ROWS = 5_000
MAX_COLUMNS = 2_000
_MAX_DIGITS = 9


class DeamError(ValueError):
    """The folder cannot be used as DEAM; the message says what was expected, what was found, and where."""


@dataclass(frozen=True, eq=False)
class Song:
    """One song, or the stretch of it that `audio` holds.

    audio: the sound file, None if there are only features; its first sample is at `audio_start_s` of song time.
    features_csv: DEAM's own features of the song, see `read_features_csv`; None if there are none.
    label_times_s: float64, shape (n,), ascending song time; labels: float32, shape (n, 2), valence and arousal,
        each in [-1, 1]. Annotations extend beyond the audio if that is a stretch of the song.
    split: "train", "validation" or "test" if the data set prescribes it.
    """

    song_id: int
    audio: Path | None
    audio_start_s: float
    features_csv: Path | None
    label_times_s: TimeArray
    labels: FloatArray
    split: str | None


@dataclass(frozen=True)
class Finding:
    """Why a song is left out, or a note on it, and the file. song_id: None for several songs, or a row without one."""

    song_id: int | None
    file: Path
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}" if self.song_id is None else f"{self.file}: song {self.song_id}: {self.text}"


@dataclass(frozen=True, eq=False)
class Deam:
    """The songs of a DEAM folder that are used, by ascending id, what is left out, and notes on songs that are used."""

    root: Path
    songs: tuple[Song, ...]
    left_out: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    def summary(self) -> str:
        """How many songs and annotation frames are used; everything left out, by file and reason."""
        frames = sum(len(song.label_times_s) for song in self.songs)
        lines = [f"{self.root}: {_count(len(self.songs), 'song')} with {_count(frames, 'annotation frame')}."]
        lines += _left_out_lines(self.left_out)
        if self.notes:
            lines += ["Notes:", *_grouped_lines(self.notes)]
        return "\n".join(lines)


def load_deam(root: Path, stretches: Literal["clips", "long"] = "clips") -> Deam:
    """Reads DEAM's official layout or that of the excerpts, whichever is in `root`.

    The official folders (`annotations`, `MEMD_audio`, `features`) are also found up to three folders further down,
    where unpacking DEAM's archives leaves them. A folder with a `clips.csv` is one of excerpts; "long" reads its
    `clips_long.csv`, the continuous stretches of some songs, instead.

    Raises DeamError if the layout is not recognised or no song is usable.
    """
    if not root.is_dir():
        raise DeamError(
            f"Expected a folder with DEAM in it, but {root} {'is a file' if root.exists() else 'is missing'}."
        )
    folders = _folders(root)
    annotations = _only([folder / _DYNAMIC for folder in folders if (folder / _DYNAMIC).is_dir()], str(_DYNAMIC))
    if annotations is None:
        raise DeamError(
            f"{root} does not look like DEAM: expected a folder '{_DYNAMIC}' with valence.csv and arousal.csv, in it "
            f"or up to {_SEARCH_DEPTH} folders below, got {_listing(root)}. Give the folder that DEAM's annotations, "
            f"{_AUDIO_FOLDER} and {_FEATURES_FOLDER} were unpacked into, or, for your own music, one with a labels.csv."
        )
    findings = _Findings()
    labels = _read_labels(annotations, findings)
    excerpts = _only([folder for folder in folders if (folder / _CLIPS["clips"]).is_file()], _CLIPS["clips"])
    splits: dict[int, str] = {}
    if excerpts is not None:
        recordings = _excerpt_recordings(excerpts / _CLIPS[stretches], findings)
        splits = _read_splits(excerpts / "splits.csv", recordings.keys() & labels.keys(), findings)
    elif stretches == "long":
        raise DeamError(f"{root} holds no excerpts, so it has no {_CLIPS['long']} with long stretches either.")
    else:
        recordings = _official_recordings(root, folders, findings)

    without_recording = sorted(labels.keys() - recordings.keys() - findings.song_ids)
    if excerpts is not None and stretches == "long":
        # Only few songs have one.
        if without_recording:
            text = f"no stretch of {_count(len(without_recording), 'annotated song')}"
            findings.notes.append(Finding(None, excerpts / _CLIPS["long"], text))
    else:
        for song_id in without_recording:
            findings.leave_out(song_id, annotations, "annotated, but neither audio nor features found")
    for song_id in sorted(recordings.keys() - labels.keys() - findings.song_ids):
        for file in filter(None, (recordings[song_id].audio, recordings[song_id].features_csv)):
            findings.leave_out(song_id, file, "not annotated")

    songs = []
    for song_id in sorted((recordings.keys() & labels.keys()) - findings.song_ids):
        recording = recordings[song_id]
        split = splits.get(song_id)
        songs.append(Song(song_id, recording.audio, recording.start_s, recording.features_csv, *labels[song_id], split))
    if not songs:
        raise DeamError("\n".join([f"No song in {root} can be used.", *_left_out_lines(findings.left_out)]))
    used = {None, *(song.song_id for song in songs)}
    notes = (note for note in findings.notes if note.song_id in used)
    return Deam(root, tuple(songs), tuple(findings.left_out), tuple(notes))


def has_long_stretches(root: Path) -> bool:
    """Whether a DEAM folder is one of excerpts with long stretches of some songs."""
    return any((folder / _CLIPS["long"]).is_file() for folder in _folders(root))


def split_songs(song_ids: Iterable[int], seed: int) -> Split:
    """A random split by song: 80 % "train", 10 % "validation", 10 % "test"; the same seed gives the same split.

    The order of `song_ids` does not matter. Raises ValueError if there are too few songs for each part to have one.
    """
    ids = sorted(song_ids)
    n_held_out = round(0.1 * len(ids))
    if n_held_out < 1:
        raise ValueError(f"{_count(len(ids), 'song')} cannot be split 80/10/10: a part would be empty.")
    shuffled = np.random.default_rng(seed).permutation(ids)
    parts = np.split(shuffled, [len(ids) - 2 * n_held_out, len(ids) - n_held_out])
    return {name: _sorted_ids(part) for name, part in zip(SPLIT_NAMES, parts, strict=True)}


def folds(song_ids: Iterable[int], n_folds: int, seed: int) -> tuple[Split, ...]:
    """Cross-validation by song: `n_folds` times "train" and "test", every song in exactly one "test".

    The order of `song_ids` does not matter; the parts differ by at most one song. Raises ValueError for fewer than two
    folds, or more folds than songs.
    """
    ids = sorted(song_ids)
    if not 2 <= n_folds <= len(ids):
        raise ValueError(f"Expected 2 to {len(ids)} folds for {_count(len(ids), 'song')}, got {n_folds}.")
    parts = np.array_split(np.random.default_rng(seed).permutation(ids), n_folds)
    return tuple(
        {"train": _sorted_ids(np.concatenate(parts[:held_out] + parts[held_out + 1 :])), "test": _sorted_ids(part)}
        for held_out, part in enumerate(parts)
    )


def read_features_csv(path: Path) -> tuple[TimeArray, FloatArray]:
    """DEAM's own features of one song: `frameTime;F0final_sma_stddev;…`, one row per frame of 1.0 s, every 0.5 s.

    Returns frame_start_s (float64, shape (n,), song time) and values (float32, shape (n, 260)), the columns as in
    `opensmile_names`. Raises DeamError, naming the file, if it holds anything but the 260 features as finite numbers.
    """
    header, *rows = _csv_rows(path, delimiter=";") or [[]]
    expected = ("frameTime", *opensmile_names())
    for number, (name, found) in enumerate(itertools.zip_longest(expected, header, fillvalue="nothing"), start=1):
        if name != found:
            raise DeamError(
                f"{path}: expected frameTime and DEAM's 260 features as columns, separated by semicolons; column "
                f"{number} should be {name!r}, got {_quoted(found)}."
            )
    if not rows:
        raise DeamError(f"{path}: no frame below the header.")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(expected):
            raise DeamError(f"{path}: expected {len(expected)} values in row {number}, got {len(row)}.")
    table = np.array([[_number(cell) for cell in row] for row in rows], dtype=np.float64)
    for row_index, column in np.argwhere(~(np.abs(table) <= _FLOAT32_MAX)):
        found = _quoted(rows[row_index][column])
        raise DeamError(f"{path}: expected {expected[column]} as a finite number in row {row_index + 1}, got {found}.")
    frame_start_s = table[:, 0]
    if np.any(np.abs(np.diff(frame_start_s) - HOP_S) > _TIME_TOLERANCE_S):
        raise DeamError(f"{path}: expected a frameTime every {HOP_S} s.")
    return frame_start_s.copy(), table[:, 1:].astype(np.float32)


@dataclass(frozen=True)
class _Recording:
    """The files of a song, and the song time at which its audio starts."""

    audio: Path | None
    start_s: float
    features_csv: Path | None


@dataclass
class _Findings:
    """What is left out, and notes, in the order of reading. song_ids: the songs left out; one reason each is enough."""

    left_out: list[Finding] = field(default_factory=list)
    song_ids: set[int] = field(default_factory=set)
    notes: list[Finding] = field(default_factory=list)

    def leave_out(self, song_id: int | None, file: Path, reason: str) -> None:
        self.left_out.append(Finding(song_id, file, reason))
        if song_id is not None:
            self.song_ids.add(song_id)


# ---- folders ----------------------------------------------------------------------------------------------------


def _folders(root: Path) -> list[Path]:
    """`root` and the folders below it, level by level, each level by name; without hidden ones and `__MACOSX`."""
    folders = [root]
    for depth in range(1, _SEARCH_DEPTH + 1):
        below = (path for path in sorted(root.glob("/".join("*" * depth))) if path.is_dir())
        folders += [
            path for path in below if not any(part.startswith((".", "__")) for part in path.relative_to(root).parts)
        ]
    return folders


def _only(candidates: Sequence[Path], what: str) -> Path | None:
    if len(candidates) > 1:
        found = ", ".join(str(candidate) for candidate in candidates)
        raise DeamError(f"{what} was found more than once: {found}. Point at the folder of one DEAM only.")
    return candidates[0] if candidates else None


def _listing(folder: Path, most: int = 8) -> str:
    names = sorted(child.name + ("/" if child.is_dir() else "") for child in folder.iterdir())
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join(names[:most] + more) or "nothing"


# ---- tables -----------------------------------------------------------------------------------------------------


def _csv_rows(path: Path, delimiter: str = ",") -> list[list[str]]:
    """The rows of a CSV file that are not empty; cells are stripped, and empty ones at the end removed."""
    rows = []
    try:
        size = path.stat().st_size
        if size > MAX_TABLE_BYTES:
            raise DeamError(f"{path}: expected at most {MAX_TABLE_BYTES:,} bytes, as DEAM's tables have, got {size:,}.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.reader(file, delimiter=delimiter):
                cells = [cell.strip() for cell in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    rows.append(cells)
                if len(rows) > MAX_ROWS:
                    raise DeamError(f"{path}: expected at most {MAX_ROWS:,} rows, as DEAM's tables have.")
    except OSError as error:
        raise DeamError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DeamError(f"{path} is not a CSV file: {error}.") from error
    return rows


def _rows_by_song(path: Path, columns: Sequence[str], findings: _Findings) -> tuple[list[str], dict[int, list[str]]]:
    """A table with one row per song: its header, and by song_id the cells, as many as the header has.

    Rows without a usable song_id, and songs with several rows or with more values than columns, are left out.
    Raises DeamError if song_id is not the first column, or one of `columns` is missing.
    """
    header, *rows = _csv_rows(path) or [[]]
    if header[:1] != ["song_id"] or not set(columns) <= set(header):
        expected = ", ".join(("song_id", *columns))
        raise DeamError(f"{path}: expected the columns {expected}, got {_quoted(', '.join(header))}.")
    if len(header) > MAX_COLUMNS:
        raise DeamError(f"{path}: expected at most {MAX_COLUMNS:,} columns, got {len(header):,}.")
    table: dict[int, list[str]] = {}
    for cells in rows:
        song_id = _song_id(cells[0])
        if song_id is None:
            findings.leave_out(None, path, f"song_id {_quoted(cells[0])} is not an integer")
        elif song_id in table:
            findings.leave_out(song_id, path, "more than one row")
        elif len(cells) > len(header):
            findings.leave_out(song_id, path, f"{len(cells)} cells for {len(header)} columns")
        else:
            table[song_id] = cells + [""] * (len(header) - len(cells))
    return header, {song_id: cells for song_id, cells in table.items() if song_id not in findings.song_ids}


def _song_id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# ---- annotations ------------------------------------------------------------------------------------------------


def _read_labels(folder: Path, findings: _Findings) -> dict[int, tuple[TimeArray, FloatArray]]:
    """Times (n,) and labels (n, 2) of every song that is properly annotated in both dimensions."""
    valence, arousal = (_read_dimension(folder / f"{name}.csv", findings) for name in ("valence", "arousal"))
    labels = {}
    for song_id in sorted((valence.keys() | arousal.keys()) - findings.song_ids):
        of_valence, of_arousal = valence.get(song_id, {}), arousal.get(song_id, {})
        times_ms = sorted(of_valence.keys() & of_arousal.keys())
        if not times_ms:
            findings.leave_out(song_id, folder, "no time at which both valence and arousal are annotated")
            continue
        unused = len(of_valence.keys() ^ of_arousal.keys())
        if unused:
            text = f"{_count(unused, 'value')} not used, without one of the other dimension at the same time"
            findings.notes.append(Finding(song_id, folder, text))
        if times_ms[-1] - times_ms[0] != (len(times_ms) - 1) * _STEP_MS:
            findings.notes.append(Finding(song_id, folder, "a gap between the labels"))
        values = [(of_valence[time_ms], of_arousal[time_ms]) for time_ms in times_ms]
        labels[song_id] = np.array(times_ms) / 1000.0, np.array(values, dtype=np.float32)
    return labels


def _read_dimension(path: Path, findings: _Findings) -> dict[int, dict[int, float]]:
    """The values by song_id and time in ms; times without a value are left out."""
    header, rows = _rows_by_song(path, (), findings)
    times_ms = []
    for column in header[1:]:
        match = re.fullmatch(rf"sample_(\d{{1,{_MAX_DIGITS}}})ms", column, flags=re.ASCII)
        if match is None:
            raise DeamError(f"{path}: expected columns sample_<time>ms, got {_quoted(column)}.")
        times_ms.append(int(match[1]))
    for before, after in itertools.pairwise(times_ms):
        if after - before != _STEP_MS:
            raise DeamError(f"{path}: expected columns every {_STEP_MS} ms, got {after} ms after {before} ms.")
    table = {}
    for song_id, cells in rows.items():
        texts = {time_ms: text for time_ms, text in zip(times_ms, cells[1:], strict=True) if text}
        numbers = {time_ms: _number(text) for time_ms, text in texts.items()}
        bad = next((time_ms for time_ms, value in numbers.items() if value is None or abs(value) > 1.0), None)
        if bad is not None:
            findings.leave_out(song_id, path, f"sample_{bad}ms is {_quoted(texts[bad])}, expected a number in [-1, 1]")
        else:
            # In these tables a missing value is sometimes NaN.
            table[song_id] = {t: value for t, value in numbers.items() if value is not None and not math.isnan(value)}
    return table


# ---- recordings -------------------------------------------------------------------------------------------------


def _official_recordings(root: Path, folders: Sequence[Path], findings: _Findings) -> dict[int, _Recording]:
    audio_folder = _find_filled(folders, _AUDIO_FOLDER, AUDIO_SUFFIXES)
    features_folder = _find_filled(folders, _FEATURES_FOLDER, (".csv",))
    if audio_folder is None and features_folder is None:
        raise DeamError(
            f"{root} has DEAM's annotations, but no songs: expected a folder {_AUDIO_FOLDER} with audio "
            f"({', '.join(AUDIO_SUFFIXES)}), a folder {_FEATURES_FOLDER} with <song_id>.csv, or a {_CLIPS['clips']}, "
            f"in it or up to {_SEARCH_DEPTH} folders below, got {_listing(root)}."
        )
    audio = _files_by_song(audio_folder, AUDIO_SUFFIXES, findings)
    features = _files_by_song(features_folder, (".csv",), findings)
    if audio_folder and features_folder:
        for folder, files, others in ((audio_folder, audio, features), (features_folder, features, audio)):
            missing = sorted(others.keys() - files.keys() - findings.song_ids)
            if missing:
                findings.notes.append(Finding(None, folder, f"no file for {_songs(missing)}"))
    return {
        song_id: _Recording(audio.get(song_id), 0.0, features.get(song_id))
        for song_id in audio.keys() | features.keys()
    }


def _find_filled(folders: Sequence[Path], name: str, suffixes: Sequence[str]) -> Path | None:
    """The folder of that name that holds such files; an archive may unpack to a folder in one of the same name."""
    filled = [
        folder
        for folder in folders
        if folder.name == name and any(file.suffix.lower() in suffixes for file in _visible_files(folder))
    ]
    return _only(filled, f"A folder {name}")


def _visible_files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    except OSError as error:
        raise DeamError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _files_by_song(folder: Path | None, suffixes: Sequence[str], findings: _Findings) -> Mapping[int, Path]:
    found: defaultdict[int, list[Path]] = defaultdict(list)
    for file in _visible_files(folder) if folder else []:
        song_id = _song_id(file.stem)
        if file.suffix.lower() not in suffixes:
            # The song may have a proper file beside this one.
            findings.leave_out(None, file, f"not one of {', '.join(suffixes)}")
        elif song_id is None:
            findings.leave_out(None, file, f"expected a song_id as the file's name, got {file.stem!r}")
        else:
            found[song_id].append(file)
    for song_id, files in found.items():
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            findings.leave_out(song_id, files[0], f"more than one file for the same song: {names}")
    return {song_id: files[0] for song_id, files in found.items() if len(files) == 1}


def _excerpt_recordings(clips_csv: Path, findings: _Findings) -> dict[int, _Recording]:
    header, rows = _rows_by_song(clips_csv, ("file", "start_s"), findings)
    recordings = {}
    for song_id, cells in rows.items():
        row = dict(zip(header, cells, strict=True))
        name, start_s = Path(row["file"]), _number(row["start_s"])
        audio = clips_csv.parent / name
        if start_s is None or not 0.0 <= start_s < math.inf:
            findings.leave_out(song_id, clips_csv, f"expected start_s in seconds, got {_quoted(row['start_s'])}")
        elif name.is_absolute() or ".." in name.parts:
            findings.leave_out(song_id, clips_csv, f"the file {_quoted(row['file'])} is outside of this folder")
        elif not os.path.isfile(audio):  # noqa: PTH113 - Path.is_file raises if the name is too long
            findings.leave_out(song_id, clips_csv, f"the file {_quoted(row['file'])} is missing")
        else:
            recordings[song_id] = _Recording(audio, start_s, None)
    return recordings


def _read_splits(path: Path, song_ids: Set[int], findings: _Findings) -> dict[int, str]:
    """The prescribed split by song; empty if there is no such file. Notes which of `song_ids` it does not name."""
    if not path.is_file():
        return {}
    header, rows = _rows_by_song(path, ("split",), findings)
    splits = {song_id: cells[header.index("split")] for song_id, cells in rows.items()}
    for song_id, split in splits.items():
        if split not in SPLIT_NAMES:
            findings.leave_out(song_id, path, f"expected a split of {', '.join(SPLIT_NAMES)}, got {_quoted(split)}")
    without_split = sorted(song_ids - splits.keys() - findings.song_ids)
    if without_split:
        findings.notes.append(Finding(None, path, f"no split for {_songs(without_split)}"))
    return splits


# ---- messages ---------------------------------------------------------------------------------------------------


def _quoted(text: str, most: int = 80) -> str:
    """A text from a file, short enough for a message."""
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def _songs(song_ids: Sequence[int], most: int = 10) -> str:
    """ "song 5" or "2 songs: 5, 9"; of many songs, the first ones."""
    ids = ", ".join(str(song_id) for song_id in song_ids[:most]) + (", ..." if len(song_ids) > most else "")
    return f"song {ids}" if len(song_ids) == 1 else f"{_count(len(song_ids), 'song')}: {ids}"


def _left_out_lines(left_out: Sequence[Finding]) -> list[str]:
    if not left_out:
        return ["Nothing was left out."]
    n_songs = len({entry.song_id for entry in left_out} - {None})
    n_others = sum(entry.song_id is None for entry in left_out)
    others = f" and {n_others} rows or files that belong to no song" if n_others else ""
    return [f"Left out: {_count(n_songs, 'song')}{others}.", *_grouped_lines(left_out)]


def _grouped_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """One line for each file and text, with all its songs."""
    song_ids: defaultdict[tuple[Path, str], list[int]] = defaultdict(list)
    for finding in findings:
        song_ids[finding.file, finding.text] += [] if finding.song_id is None else [finding.song_id]
    for (file, text), ids in song_ids.items():
        yield f"  {file}: {text}" + (f": {_songs(sorted(set(ids)))}" if ids else "")


def _sorted_ids(ids: npt.NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(sorted(int(song_id) for song_id in ids))
