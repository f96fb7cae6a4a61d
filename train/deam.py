"""DEAM on disk: which songs there are, where their sound is, and what listeners reported twice a second.

DEAM (Aljanaki, Yang and Soleymani, "Developing a benchmark for emotional analysis of music", PLoS ONE 2017) is read
in its official layout, as its archives unpack, and as the excerpts of it that a `clips.csv` describes. What is wrong
with one song leaves that song out and says so; what makes the whole unusable raises DeamError.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from realtime_mer.features.engine import HOP_S
from realtime_mer.types import FloatArray

TimeArray = npt.NDArray[np.float64]
Split = dict[str, tuple[int, ...]]

AUDIO_SUFFIXES = (".mp3", ".wav", ".ogg", ".flac")
SPLIT_NAMES = ("train", "validation", "test")
ANNOTATION_STEP_S = 0.5

_DIMENSIONS = ("valence", "arousal")
_DYNAMIC = Path("annotations averaged per song") / "dynamic (per second annotations)"
_AUDIO_FOLDER = "MEMD_audio"
_FEATURES_FOLDER = "features"
_CLIPS = {"clips": "clips.csv", "long": "clips_long.csv"}
# Where DEAM's archives put the folders (one down), and the parents that unpacking adds (one or two).
_SEARCH_DEPTH = 3
# Times in text have three to six digits; anything farther apart than this is another time.
_TIME_TOLERANCE_S = 1e-3
_FLOAT32_MAX = float(np.finfo(np.float32).max)
# DEAM's tables have up to 5 MB, 1,802 rows and 1,224 columns; whatever is larger than this is something else, and would
# take more memory than there is: each song has every column of its table, however short its row.
MAX_TABLE_BYTES = 2**24
MAX_ROWS = 5_000
MAX_COLUMNS = 2_000
_MAX_DIGITS = 9


def _deam_feature_names() -> tuple[str, ...]:
    """The 65 descriptors of the IS13-ComParE set, then their deltas: of each the standard deviation, then the mean."""
    voice = ("F0final", "voicingFinalUnclipped", "jitterLocal", "jitterDDP", "shimmerLocal", "logHNR")
    energy = ("audspec_lengthL1norm", "audspecRasta_lengthL1norm", "pcm_RMSenergy", "pcm_zcr")
    roll_offs = tuple(f"spectralRollOff{percent}.0" for percent in (25, 50, 75, 90))
    shapes = ("Flux", "Centroid", "Entropy", "Variance", "Skewness", "Kurtosis", "Slope")
    moments = tuple(f"spectral{shape}" for shape in shapes)
    spectrum = ("fband250-650", "fband1000-4000", *roll_offs, *moments, "psySharpness", "spectralHarmonicity")
    names = []
    for suffix in ("_sma", "_sma_de"):
        descriptors = [name + suffix for name in (*voice, *energy)]
        descriptors += [f"audSpec_Rfilt{suffix}[{band}]" for band in range(26)]
        descriptors += [f"pcm_fftMag_{name}{suffix}" for name in spectrum]
        descriptors += [f"pcm_fftMag_mfcc{suffix}[{coefficient}]" for coefficient in range(1, 15)]
        names += [descriptor + functional for descriptor in descriptors for functional in ("_stddev", "_amean")]
    return tuple(names)


DEAM_FEATURE_NAMES = _deam_feature_names()


class DeamError(ValueError):
    """What was found cannot be used as DEAM; the message says what was expected, where, and what came."""


@dataclass(frozen=True, eq=False)
class Song:
    """One song, or the stretch of it that `audio` holds.

    audio: the sound, None where only features are there; its first sample lies at `audio_start_s` of song time.
    features_csv: DEAM's own features of the song, see `read_features_csv`; None where there are none.
    label_times_s: float64, shape (n,), ascending song time; labels: float32, shape (n, 2), valence and arousal,
        each in [-1, 1]. Annotations reach beyond the audio where that is a stretch of the song.
    split: "train", "validation" or "test" where the data set prescribes it.
    """

    song_id: int
    audio: Path | None
    audio_start_s: float
    features_csv: Path | None
    label_times_s: TimeArray
    labels: FloatArray
    split: str | None


@dataclass(frozen=True)
class LeftOut:
    """A song (None: a row or file that names none) that is not used, the file that shows it, and why."""

    song_id: int | None
    file: Path
    reason: str

    def __str__(self) -> str:
        return _finding(self.file, self.song_id, self.reason)


@dataclass(frozen=True)
class Note:
    """What is worth knowing of a song that is used (None: of several songs), and the file that shows it."""

    song_id: int | None
    file: Path
    text: str

    def __str__(self) -> str:
        return _finding(self.file, self.song_id, self.text)


@dataclass(frozen=True, eq=False)
class Deam:
    """What of a DEAM folder is used (`songs`, by ascending id), what is not, and what is worth knowing (`notes`)."""

    root: Path
    songs: tuple[Song, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[Note, ...]

    def summary(self) -> str:
        """How many songs and annotation frames are used; everything left out, by reason, with file and song."""
        frames = sum(len(song.label_times_s) for song in self.songs)
        lines = [f"DEAM in {self.root}: {_count(len(self.songs), 'song')} with {_count(frames, 'annotation frame')}."]
        lines += _left_out_lines(self.left_out, self.root)
        if self.notes:
            notes = ((note.text, note.file, note.song_id) for note in self.notes)
            lines += ["Notes:", *_grouped_lines(notes, self.root)]
        return "\n".join(lines)


def load_deam(root: Path, stretches: Literal["clips", "long"] = "clips") -> Deam:
    """Reads DEAM's official layout or that of the excerpts, whichever lies in `root`.

    The official folders (`annotations`, `MEMD_audio`, `features`) are also found one or two folders further down, where
    unpacking DEAM's archives leaves them. A folder with a `clips.csv` is one of excerpts; "long" takes its
    `clips_long.csv`, the continuous stretches of some songs, instead.

    Raises DeamError where nothing is recognised or no song is usable.
    """
    if not root.is_dir():
        raise DeamError(
            f"{root} is {'a file' if root.exists() else 'not there'}; a folder with DEAM in it was expected."
        )
    folders = list(_folders(root))
    annotations = _find_annotations(root, folders)
    findings = _Findings()
    labels = _read_labels(annotations, findings)
    excerpts = _only([folder for folder in folders if (folder / _CLIPS["clips"]).is_file()], _CLIPS["clips"])
    splits: dict[int, str] = {}
    if excerpts is not None:
        recordings = _excerpt_recordings(excerpts / _CLIPS[stretches], findings)
        splits = _read_splits(excerpts / "splits.csv", recordings.keys() & labels.keys(), findings)
    elif stretches == "long":
        raise DeamError(
            f"{root} holds no excerpts, so no {_CLIPS['long']} either: the long stretches are theirs alone."
        )
    else:
        recordings = _official_recordings(root, folders, findings)

    without_recording = sorted(labels.keys() - recordings.keys() - findings.song_ids)
    if excerpts is not None and stretches == "long":
        # Few songs have one; those without are no fault of the data.
        if without_recording:
            text = f"no stretch of {_count(len(without_recording), 'annotated song')}"
            findings.note(None, excerpts / _CLIPS["long"], text)
    else:
        for song_id in without_recording:
            findings.leave_out(song_id, annotations / "valence.csv", "annotated, but neither audio nor features there")
    for song_id in sorted(recordings.keys() - labels.keys() - findings.song_ids):
        for file in filter(None, (recordings[song_id].audio, recordings[song_id].features_csv)):
            findings.leave_out(song_id, file, "not annotated")

    used = sorted((recordings.keys() & labels.keys()) - findings.song_ids)
    if not used:
        raise DeamError("\n".join([f"No song in {root} can be used.", *_left_out_lines(findings.left_out, root)]))
    songs = []
    for song_id in used:
        recording = recordings[song_id]
        label_times_s, values = labels[song_id]
        split = splits.get(song_id)
        song = Song(song_id, recording.audio, recording.start_s, recording.features_csv, label_times_s, values, split)
        songs.append(song)
    notes = (note for note in findings.notes if note.song_id is None or note.song_id in used)
    return Deam(root, tuple(songs), tuple(findings.left_out), tuple(notes))


def has_long_stretches(root: Path) -> bool:
    """Whether a folder of DEAM is one of excerpts with long stretches of some songs."""
    return any((folder / _CLIPS["long"]).is_file() for folder in _folders(root))


def split_songs(song_ids: Iterable[int], seed: int, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> Split:
    """Songs by chance into "train", "validation" and "test", in these fractions; the same seed gives the same split.

    The order of `song_ids` does not matter. Raises ValueError for an id given twice, fractions that are no positive
    parts of 1, or too few songs for each part to have one.
    """
    ids = _distinct(song_ids)
    if len(fractions) != len(SPLIT_NAMES) or min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0):
        raise ValueError(f"A split needs three positive fractions that add up to 1, not {fractions}.")
    n_validation, n_test = (round(fraction * len(ids)) for fraction in fractions[1:])
    n_train = len(ids) - n_validation - n_test
    if min(n_train, n_validation, n_test) < 1:
        raise ValueError(f"{_count(len(ids), 'song')} cannot be split {fractions}: a part would be empty.")
    shuffled = np.random.default_rng(seed).permutation(ids)
    parts = np.split(shuffled, [n_train, n_train + n_validation])
    return {name: _sorted_ids(part) for name, part in zip(SPLIT_NAMES, parts, strict=True)}


def folds(song_ids: Iterable[int], n_folds: int, seed: int) -> tuple[Split, ...]:
    """Cross-validation by song: `n_folds` times "train" and "test", every song in exactly one "test".

    The order of `song_ids` does not matter; the parts differ by one song at most. Raises ValueError for an id given
    twice, fewer than two folds, or more folds than songs.
    """
    ids = _distinct(song_ids)
    if not 2 <= n_folds <= len(ids):
        raise ValueError(f"{_count(len(ids), 'song')} make 2 to {len(ids)} folds, not {n_folds}.")
    parts = np.array_split(np.random.default_rng(seed).permutation(ids), n_folds)
    return tuple(
        {"train": _sorted_ids(np.concatenate(parts[:held_out] + parts[held_out + 1 :])), "test": _sorted_ids(part)}
        for held_out, part in enumerate(parts)
    )


def read_features_csv(path: Path) -> tuple[TimeArray, FloatArray, tuple[str, ...]]:
    """DEAM's own features of one song: `frameTime;F0final_sma_stddev;…`, one row per frame of 1.0 s, every 0.5 s.

    Returns frame_start_s (float64, shape (n,), song time), values (float32, shape (n, 260)) and DEAM_FEATURE_NAMES.

    Raises DeamError, naming file, row and column, for anything else than the 260 features as finite numbers.
    """
    (_, header), *rows = _csv_rows(path, delimiter=";") or [(1, [])]
    expected = ("frameTime", *DEAM_FEATURE_NAMES)
    if len(header) != len(expected):
        raise DeamError(
            f"{path}: {_count(len(header), 'column')} separated by semicolons, but frameTime and DEAM's "
            f"{len(DEAM_FEATURE_NAMES)} features were expected."
        )
    for column, (name, expected_name) in enumerate(zip(header, expected, strict=True), start=1):
        if name != expected_name:
            raise DeamError(f"{path}: column {column} is called {_cut(name)!r}, but DEAM's is {expected_name!r}.")
    if not rows:
        raise DeamError(f"{path}: no frame below the header.")
    table = np.empty((len(rows), len(expected)))
    for index, (line, cells) in enumerate(rows):
        if len(cells) != len(expected):
            raise DeamError(f"{path}, line {line}: {_count(len(cells), 'value')}, but {len(expected)} were expected.")
        for column, text in enumerate(cells):
            value = _number(text)
            if value is None or not abs(value) <= _FLOAT32_MAX:
                raise DeamError(f"{path}, line {line}, {expected[column]}: {_cut(text)!r} is no finite number.")
            table[index, column] = value
    frame_start_s = table[:, 0]
    odd = np.flatnonzero(np.abs(np.diff(frame_start_s) - HOP_S) > _TIME_TOLERANCE_S)
    if len(odd):
        line = rows[int(odd[0]) + 1][0]
        before, after = frame_start_s[odd[0] : odd[0] + 2]
        raise DeamError(
            f"{path}, line {line}: frameTime {after:g} after {before:g}, but steps of {HOP_S} s were expected."
        )
    return frame_start_s.copy(), table[:, 1:].astype(np.float32), DEAM_FEATURE_NAMES


@dataclass(frozen=True)
class _Recording:
    """What there is of a song besides annotations."""

    audio: Path | None
    start_s: float
    features_csv: Path | None


@dataclass
class _Findings:
    """What reading brings to light, in the order of reading.

    song_ids: the songs that are left out. One reason is enough: later stages do not look at them again.
    """

    left_out: list[LeftOut] = field(default_factory=list)
    song_ids: set[int] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)

    def leave_out(self, song_id: int | None, file: Path, reason: str) -> None:
        self.left_out.append(LeftOut(song_id, file, reason))
        if song_id is not None:
            self.song_ids.add(song_id)

    def note(self, song_id: int | None, file: Path, text: str) -> None:
        self.notes.append(Note(song_id, file, text))


# ---- folders ----------------------------------------------------------------------------------------------------


def _folders(root: Path) -> Iterator[Path]:
    """`root` and the folders below it, level by level, each level by name; hidden ones and archivers' litter aside."""
    level = [root]
    for depth in range(_SEARCH_DEPTH + 1):
        yield from level
        if depth < _SEARCH_DEPTH:
            level = [child for folder in level for child in _subfolders(folder)]


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith((".", "__")) and entry.is_dir())
    except OSError:  # a folder that may not be read holds nothing for us; if DEAM is in it, "not found" says so
        return []
    return [folder / name for name in names]


def _only(candidates: Sequence[Path], what: str) -> Path | None:
    if len(candidates) > 1:
        found = ", ".join(str(candidate) for candidate in candidates)
        raise DeamError(f"{what} was found more than once: {found}. Point at the folder of one DEAM only.")
    return candidates[0] if candidates else None


def _find_annotations(root: Path, folders: Sequence[Path]) -> Path:
    found = _only([folder / _DYNAMIC for folder in folders if (folder / _DYNAMIC).is_dir()], str(_DYNAMIC))
    if found is None:
        raise DeamError(
            f"{root} does not look like DEAM: no folder '{_DYNAMIC}' with valence.csv and arousal.csv in it, nor up to "
            f"{_SEARCH_DEPTH} folders below it. Found there: {_listing(root)}. Point at the folder that DEAM's "
            f"annotations, {_AUDIO_FOLDER} and {_FEATURES_FOLDER} were unpacked into."
        )
    for name in _DIMENSIONS:
        if not (found / f"{name}.csv").is_file():
            raise DeamError(f"{found}: {name}.csv is missing. Found there: {_listing(found)}.")
    return found


def _listing(folder: Path, most: int = 8) -> str:
    names = sorted(child.name + ("/" if child.is_dir() else "") for child in folder.iterdir())
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join(names[:most] + more) or "nothing"


# ---- tables -----------------------------------------------------------------------------------------------------


def _csv_rows(path: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that hold anything, with line numbers; cells stripped, empty ones at the end gone."""
    rows = []
    try:
        size = path.stat().st_size
        if size > MAX_TABLE_BYTES:
            raise DeamError(f"{path} has {size:,} bytes; DEAM's tables have {MAX_TABLE_BYTES:,} at most.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for row in reader:
                cells = [cell.strip() for cell in row]
                while cells and not cells[-1]:
                    cells.pop()
                if cells:
                    rows.append((reader.line_num, cells))
                if len(rows) > MAX_ROWS:
                    raise DeamError(f"{path} has more than {MAX_ROWS:,} rows, which no table of DEAM's has.")
    except OSError as error:
        raise DeamError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DeamError(f"{path} is no CSV file: {error}.") from error
    return rows


def _rows_by_song(
    path: Path, columns: Sequence[str], findings: _Findings
) -> tuple[list[str], dict[int, tuple[int, list[str]]]]:
    """A table with one row per song: its header, and line number and cells (filled up to the header) by song_id.

    Rows without a usable song_id, and songs with several rows or with more values than columns, are left out.
    Raises DeamError where one of `columns` is missing.
    """
    (_, header), *rows = _csv_rows(path) or [(1, [])]
    for column in columns:
        if column not in header:
            found = ", ".join(header[:5]) or "nothing"
            raise DeamError(f"{path}: the column {column} is missing; the header starts with: {_cut(found)}.")
    if len(header) > MAX_COLUMNS:
        raise DeamError(f"{path}: {_count(len(header), 'column')}; DEAM's tables have {MAX_COLUMNS:,} at most.")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DeamError(f"{path}: the header names {_cut(twice[0])!r} more than once.")
    found_rows: defaultdict[int, list[tuple[int, list[str]]]] = defaultdict(list)
    for line, cells in rows:
        song_column = header.index("song_id")
        text = cells[song_column] if song_column < len(cells) else ""
        song_id = _song_id(text)
        if song_id is None:
            findings.leave_out(None, path, f"line {line}: song_id {_cut(text)!r} is no integer")
        else:
            found_rows[song_id].append((line, cells))
    table = {}
    for song_id, candidates in found_rows.items():
        line, cells = candidates[0]
        if len(candidates) > 1:
            lines = ", ".join(str(line) for line, _ in candidates)
            findings.leave_out(song_id, path, f"more than one row (lines {lines})")
        elif len(cells) > len(header):
            findings.leave_out(song_id, path, f"line {line}: {len(cells)} cells under {len(header)} columns")
        else:
            table[song_id] = line, cells + [""] * (len(header) - len(cells))
    return header, table


def _song_id(text: str) -> int | None:
    # Long digits are not even converted.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _number(text: str) -> float | None:
    """The number that `text` spells; None where it spells none."""
    try:
        return float(text)
    except ValueError:
        return None


# ---- annotations ------------------------------------------------------------------------------------------------


def _read_labels(folder: Path, findings: _Findings) -> dict[int, tuple[TimeArray, FloatArray]]:
    """Times (n,) and labels (n, 2) of every song that is properly annotated in both dimensions."""
    files = [folder / f"{name}.csv" for name in _DIMENSIONS]
    (valence_ms, valence), (arousal_ms, arousal) = (_read_dimension(file, findings) for file in files)
    times_ms = np.union1d(valence_ms, arousal_ms)
    labels = {}
    for song_id in sorted(valence.keys() | arousal.keys()):
        if song_id in findings.song_ids:
            continue
        for table, file, other in ((valence, files[0], files[1]), (arousal, files[1], files[0])):
            if song_id not in table:
                findings.leave_out(song_id, other, f"annotated here, but not in {file.name}")
                break
        else:
            both = np.full((len(times_ms), 2), np.nan)
            both[np.searchsorted(times_ms, valence_ms), 0] = valence[song_id]
            both[np.searchsorted(times_ms, arousal_ms), 1] = arousal[song_id]
            rated = np.isfinite(both).all(axis=1)
            if not rated.any():
                findings.leave_out(song_id, files[0], "no time at which both valence and arousal are annotated")
                continue
            _note_gaps(folder, song_id, times_ms, both, findings)
            labels[song_id] = (times_ms[rated] / 1000.0, both[rated].astype(np.float32))
    return labels


def _read_dimension(
    path: Path, findings: _Findings
) -> tuple[npt.NDArray[np.int64], dict[int, npt.NDArray[np.float64]]]:
    """The times of the columns, in ms, and each song's values at them, NaN where there is none."""
    header, rows = _rows_by_song(path, ["song_id"], findings)
    if header[0] != "song_id":
        raise DeamError(f"{path}: the first column is {_cut(header[0])!r}, but song_id was expected there.")
    columns = header[1:]
    matches = [re.fullmatch(rf"sample_(\d{{1,{_MAX_DIGITS}}})ms", column, flags=re.ASCII) for column in columns]
    for column, match in zip(columns, matches, strict=True):
        if match is None:
            raise DeamError(f"{path}: the column {_cut(column)!r} is not called sample_<time>ms.")
    if not columns:
        raise DeamError(f"{path}: no column sample_<time>ms after song_id.")
    times_ms = np.array([int(match[1]) for match in matches if match], dtype=np.int64)
    step_ms = round(ANNOTATION_STEP_S * 1000)
    for before, after in itertools.pairwise(times_ms):
        if after - before != step_ms:
            raise DeamError(
                f"{path}: the column sample_{before + step_ms}ms is missing: after sample_{before}ms comes "
                f"sample_{after}ms, but steps of {step_ms} ms were expected."
            )
    table = {}
    for song_id, (_, cells) in rows.items():
        values = np.full(len(columns), np.nan)
        for index, text in enumerate(cells[1:]):
            if not text:
                continue
            value = _number(text)
            if value is None:
                findings.leave_out(song_id, path, f"{columns[index]} is {_cut(text)!r}, which is no number")
                break
            if abs(value) > 1.0:
                findings.leave_out(song_id, path, f"{columns[index]} is {_cut(text)}, which is not in [-1, 1]")
                break
            values[index] = value
        else:
            table[song_id] = values
    return times_ms, table


def _note_gaps(
    folder: Path,
    song_id: int,
    times_ms: npt.NDArray[np.int64],
    both: npt.NDArray[np.float64],
    findings: _Findings,
) -> None:
    """Notes which of a song's annotations are not used: holes, and a tail that only one dimension has."""
    there = np.isfinite(both)
    end = int(np.flatnonzero(there.all(axis=1))[-1]) + 1
    for column, name in enumerate(_DIMENSIONS):
        file = folder / f"{name}.csv"
        holes_ms = times_ms[:end][~there[:end, column]]
        if len(holes_ms):
            times = ", ".join(f"{time_ms / 1000:g}" for time_ms in holes_ms)
            findings.note(song_id, file, f"no value at {times} s, so no label there")
        n_more = int(there[end:, column].sum())
        if n_more:
            other = _DIMENSIONS[1 - column]
            findings.note(song_id, file, f"{_count(n_more, 'value')} not used, after the end of {other}")


# ---- recordings -------------------------------------------------------------------------------------------------


def _official_recordings(root: Path, folders: Sequence[Path], findings: _Findings) -> dict[int, _Recording]:
    audio_folder = _find_filled(folders, _AUDIO_FOLDER, AUDIO_SUFFIXES)
    features_folder = _find_filled(folders, _FEATURES_FOLDER, (".csv",))
    if audio_folder is None and features_folder is None:
        raise DeamError(
            f"{root} has DEAM's annotations, but no songs: neither a folder {_AUDIO_FOLDER} with audio "
            f"({', '.join(AUDIO_SUFFIXES)}), nor a folder {_FEATURES_FOLDER} with <song_id>.csv, nor a "
            f"{_CLIPS['clips']}, in it or up to {_SEARCH_DEPTH} folders below. Found there: {_listing(root)}."
        )
    audio = _files_by_song(audio_folder, AUDIO_SUFFIXES, findings) if audio_folder else {}
    features = _files_by_song(features_folder, (".csv",), findings) if features_folder else {}
    if audio_folder and features_folder:
        for folder, files, others in ((audio_folder, audio, features), (features_folder, features, audio)):
            missing = sorted(others.keys() - files.keys() - findings.song_ids)
            if missing:
                findings.note(None, folder, f"no file for {_songs(missing)}")
    return {
        song_id: _Recording(audio.get(song_id), 0.0, features.get(song_id))
        for song_id in audio.keys() | features.keys()
    }


def _find_filled(folders: Sequence[Path], name: str, suffixes: Sequence[str]) -> Path | None:
    """The folder of that name that has such files in it, not merely a folder of the same name again."""
    filled = [
        folder
        for folder in folders
        if folder.name == name and any(file.suffix.lower() in suffixes for file in _visible_files(folder))
    ]
    return _only(filled, f"A folder {name}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for any file
        return False


def _visible_files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file())
    except OSError as error:
        raise DeamError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _files_by_song(folder: Path, suffixes: Sequence[str], findings: _Findings) -> dict[int, Path]:
    found: defaultdict[int, list[Path]] = defaultdict(list)
    for file in _visible_files(folder):
        song_id = _song_id(file.stem)
        if file.suffix.lower() not in suffixes:
            # The song may have a proper file beside this one; where it has none, that is said of the song.
            findings.leave_out(None, file, f"not one of {', '.join(suffixes)}")
        elif song_id is None:
            findings.leave_out(None, file, f"the name {file.stem!r} is no song_id, which is an integer")
        else:
            found[song_id].append(file)
    for song_id, files in found.items():
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            findings.leave_out(song_id, files[0], f"more than one file for the same song: {names}")
    return {song_id: files[0] for song_id, files in found.items() if len(files) == 1}


def _excerpt_recordings(clips_csv: Path, findings: _Findings) -> dict[int, _Recording]:
    header, rows = _rows_by_song(clips_csv, ["song_id", "file", "start_s"], findings)
    recordings = {}
    for song_id, (line, cells) in rows.items():
        name = Path(cells[header.index("file")])
        audio = clips_csv.parent / name
        start_text = cells[header.index("start_s")]
        start_s = _number(start_text)
        if start_s is None or not 0.0 <= start_s < math.inf:
            findings.leave_out(song_id, clips_csv, f"line {line}: start_s {_cut(start_text)!r} is no time in seconds")
        elif name.is_absolute() or ".." in name.parts:
            findings.leave_out(song_id, clips_csv, f"line {line}: file {_cut(str(name))!r} is outside of this folder")
        elif not _is_file(audio):
            findings.leave_out(song_id, audio, f"{clips_csv.name} names this audio, but it is not there")
        else:
            recordings[song_id] = _Recording(audio, start_s, None)
    names = [Path(cells[header.index("file")]) for _, cells in rows.values()]
    named = {clips_csv.parent / name for name in names if not name.is_absolute() and ".." not in name.parts}
    for folder in sorted({file.parent for file in named if _is_file(file)}):
        for file in _visible_files(folder):
            unnamed_id = _song_id(file.stem)
            if file.suffix.lower() in AUDIO_SUFFIXES and file not in named and unnamed_id not in findings.song_ids:
                # Where the song has audio of another name, only this file is not used.
                song_left_out = None if unnamed_id in recordings else unnamed_id
                findings.leave_out(song_left_out, file, f"audio that {clips_csv.name} does not name")
    return recordings


def _read_splits(path: Path, song_ids: Set[int], findings: _Findings) -> dict[int, str]:
    """The prescribed split by song; empty where there is no such file. Says which of `song_ids` it does not name."""
    if not path.is_file():
        return {}
    header, rows = _rows_by_song(path, ["song_id", "split"], findings)
    splits = {}
    for song_id, (line, cells) in rows.items():
        split = cells[header.index("split")]
        if split in SPLIT_NAMES:
            splits[song_id] = split
        else:
            findings.leave_out(
                song_id, path, f"line {line}: split {_cut(split)!r} is not one of {', '.join(SPLIT_NAMES)}"
            )
    without_split = sorted(song_ids - splits.keys() - findings.song_ids)
    if without_split:
        findings.note(None, path, f"no split for {_songs(without_split)}")
    return splits


# ---- words ------------------------------------------------------------------------------------------------------


def _cut(text: str, most: int = 80) -> str:
    """A text from a file, short enough for a message."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _count(n: int, noun: str, plural: str | None = None) -> str:
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def _songs(song_ids: Sequence[int]) -> str:
    """Ascending ids in words: "song 5" or "3 songs: 5-6, 9"."""
    if len(song_ids) == 1:
        return f"song {song_ids[0]}"
    runs: list[list[int]] = []
    for song_id in song_ids:
        if runs and song_id == runs[-1][-1] + 1:
            runs[-1].append(song_id)
        else:
            runs.append([song_id])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"{_count(len(song_ids), 'song')}: {text}"


def _finding(file: Path, song_id: int | None, text: str) -> str:
    return f"{file}: {text}" if song_id is None else f"{file}: song {song_id}: {text}"


def _left_out_lines(left_out: Sequence[LeftOut], root: Path) -> Iterator[str]:
    if not left_out:
        yield "Nothing was left out."
        return
    n_songs = len({entry.song_id for entry in left_out if entry.song_id is not None})
    n_nameless = sum(entry.song_id is None for entry in left_out)
    nameless = f" and {_count(n_nameless, 'entry', 'entries')} without a song of their own" if n_nameless else ""
    yield f"Left out: {_count(n_songs, 'song')}{nameless}."
    yield from _grouped_lines(((entry.reason, entry.file, entry.song_id) for entry in left_out), root)


def _grouped_lines(findings: Iterable[tuple[str, Path, int | None]], root: Path) -> Iterator[str]:
    """What was found (text, file, song), by text, then by file with all its songs; files are told from `root`."""
    by_text: defaultdict[str, defaultdict[Path, list[int]]] = defaultdict(lambda: defaultdict(list))
    for text, file, song_id in findings:
        song_ids = by_text[text][file.relative_to(root) if file.is_relative_to(root) else file]
        if song_id is not None:
            song_ids.append(song_id)
    for text, files in by_text.items():
        yield f"  {text}:"
        for file, song_ids in files.items():
            yield f"    {file}" + (f": {_songs(sorted(song_ids))}" if song_ids else "")


def _distinct(song_ids: Iterable[int]) -> list[int]:
    ids = sorted(song_ids)
    for before, after in itertools.pairwise(ids):
        if before == after:
            raise ValueError(f"Song {after} is given more than once.")
    return ids


def _sorted_ids(ids: npt.NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(sorted(int(song_id) for song_id in ids))
