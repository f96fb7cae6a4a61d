"""Small data sets for the tests of training: songs of random numbers, and folders of a few real clips."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from realtime_mer.features.engine import opensmile_names
from realtime_mer.features.extraction import ExtractionSettings
from train.data import Dataset
from train.deam import Deam, Song
from train.metrics import DimensionScores, Estimate, Scores
from train.sequences import SongSequence

# Models of this size are slower on several threads, by far on a busy machine.
torch.set_num_threads(1)

N_FEATURES = 4
DYNAMIC = "annotations/annotations averaged per song/dynamic (per second annotations)"


def silent_console() -> Console:
    """A console whose text is in `console.file.getvalue()`, in lines that are not broken."""
    return Console(file=io.StringIO(), width=500)


def made_up_song(song_id: int, n_frames: int = 20) -> SongSequence:
    """Labels follow from the frame's own features, so that every model can learn them."""
    rng = np.random.default_rng(song_id)
    level = rng.normal(size=(1, N_FEATURES))
    features = (level + 0.3 * rng.normal(size=(n_frames, N_FEATURES))).astype(np.float32)
    labels = np.tanh(features[:, :2] - features[:, 2:]).astype(np.float32)
    return song_sequence(song_id, features, labels)


def song_sequence(song_id: int, features: np.ndarray, labels: np.ndarray) -> SongSequence:
    """A song of which every frame has a label."""
    end_s = 1.0 + 0.5 * np.arange(len(features), dtype=np.float64)
    return SongSequence(
        song_id, features.astype(np.float32), labels.astype(np.float32), np.ones(len(features), bool), end_s
    )


def made_up_data(songs: Sequence[SongSequence] | None = None, splits: dict[int, str] | None = None) -> Dataset:
    """A data set of these songs, or of 40 learnable ones, with the prescribed split if there is one."""
    by_id = {song.song_id: song for song in songs or [made_up_song(song_id) for song_id in range(1, 41)]}
    deam_songs = tuple(
        Song(song_id, None, 0.0, None, song.end_s, song.labels, (splits or {}).get(song_id))
        for song_id, song in by_id.items()
    )
    n_features = next(iter(by_id.values())).features.shape[1]
    return Dataset(
        deam=Deam(Path("made-up"), deam_songs, (), ()),
        extraction=ExtractionSettings(level=None, descriptors=False),
        names=tuple(f"feature {column}" for column in range(n_features)),
        songs=by_id,
        training={song_id: (song,) for song_id, song in by_id.items()},
        long={},
    )


def made_up_scores(
    valence_r2: float, arousal_r2: float, *, within_song_r: float = 0.0, n_songs: int = 3, n_frames: int = 16
) -> Scores:
    """Scores with these R², and 1 - R² as the mean squared error."""

    def dimension(r2: float) -> DimensionScores:
        values = dict.fromkeys(("ccc", "between_song_r2", "within_song_rmse", "within_song_ccc"), 0.0)
        values |= {"r2": r2, "mse": 1.0 - r2, "within_song_r": within_song_r}
        estimates = {name: Estimate(value, value, value) for name, value in values.items()}
        return DimensionScores(**estimates, n_constant_labels=0, n_constant_predictions=0)

    return Scores(dimension(valence_r2), dimension(arousal_r2), n_songs, n_frames, n_bootstrap=1, seed=0)


def few_clips(deam_root: Path, folder: Path, splits: dict[int, str]) -> Path:
    """A folder like DEAM's excerpts, with these songs' clips, annotations and split only."""
    (folder / "audio").mkdir(parents=True)
    (folder / DYNAMIC).mkdir(parents=True)
    tables = ["clips.csv", *(f"{DYNAMIC}/{dimension}.csv" for dimension in ("valence", "arousal"))]
    for table in tables:
        with (deam_root / table).open(newline="") as file:
            header, *rows = list(csv.reader(file))
        with (folder / table).open("w", newline="") as file:
            csv.writer(file).writerows([header, *(row for row in rows if int(row[0]) in splits)])
    for song_id in splits:
        shutil.copy(deam_root / "audio" / f"{song_id}.ogg", folder / "audio")
    lines = ["song_id,split", *(f"{song_id},{split}" for song_id, split in splits.items())]
    (folder / "splits.csv").write_text("\n".join(lines))
    return folder


def official(root: Path, song_ids: range) -> Path:
    """DEAM's official layout without audio: 40 s of features and, from 15 s on, labels."""
    (root / "features").mkdir()
    (root / DYNAMIC).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for song_id in song_ids:
        with (root / "features" / f"{song_id}.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=";")
            writer.writerow(["frameTime", *opensmile_names()])
            writer.writerows([k / 2, *rng.normal(size=260).round(4)] for k in range(79))
    for dimension in ("valence", "arousal"):
        with (root / DYNAMIC / f"{dimension}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["song_id", *(f"sample_{ms}ms" for ms in range(15000, 40500, 500))])
            writer.writerows([song_id, *rng.uniform(-1, 1, 51).round(3)] for song_id in song_ids)
    return root
