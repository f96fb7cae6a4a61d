"""Scores the shipped model through the session of a live run, on songs alone and songs one after the other.

`python -m benchmarks.accuracy --deam PATH` scores the test split: each song from its own file, and sixty of them as one
stream, cut to cut and with pauses of three seconds between them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from realtime_mer.config import LevelMeterSettings
from realtime_mer.features.engine import FRAME_S
from realtime_mer.live.session import Session, predict_file
from realtime_mer.models.checkpoint import Checkpoint, load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FloatArray, Prediction
from train.deam import Song, load_deam
from train.loop import score_sequences
from train.metrics import Scores, markdown_table
from train.sequences import SongSequence, align

SET_SONGS = 60
PAUSES_S = (0.0, 3.0)
_SEED = 0


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--deam", type=Path, required=True, metavar="PATH", help="the folder of DEAM")
    parser.add_argument("--output", type=Path, default=Path("results/live_accuracy.md"), metavar="FILE")
    options = parser.parse_args()
    checkpoint = load_checkpoint(default_checkpoint_path())
    songs = [song for song in load_deam(options.deam).songs if song.split == "test" and song.audio is not None]
    scores = {f"each of {len(songs)} songs alone": _scored([alone(song, checkpoint) for song in songs])}
    order = np.random.default_rng(_SEED).permutation(len(songs))[:SET_SONGS]
    in_set = [songs[i] for i in order]
    scores[f"{len(in_set)} of them alone"] = _scored([alone(song, checkpoint) for song in in_set])
    for pause_s in PAUSES_S:
        between = f"pauses of {pause_s:g} s" if pause_s else "cut to cut"
        scores[f"{len(in_set)} of them in a row, {between}"] = _scored(in_a_row(in_set, checkpoint, pause_s))
    table = markdown_table(scores)
    print(table)
    options.output.write_text(
        "# The shipped model through the session of a live run\n\n"
        "`python -m benchmarks.accuracy --deam PATH`: DEAM's fixed test split, as in `realtime-mer predict` and a\n"
        "live run: starting at its first sound, and again after two seconds of silence. Every frame counts.\n\n"
        f"{table}\n",
        encoding="utf-8",
    )


def alone(song: Song, checkpoint: Checkpoint) -> SongSequence:
    """The song's predictions from its own file, as the features of a sequence with its labels."""
    assert song.audio is not None
    return _with_labels(song, predict_file(song.audio, checkpoint), 0.0)


def in_a_row(songs: Sequence[Song], checkpoint: Checkpoint, pause_s: float) -> list[SongSequence]:
    """The same for songs that follow each other in one stream; of each song, the frames inside it."""
    session = Session(checkpoint, LevelMeterSettings())
    predictions: list[Prediction] = []
    starts_s, ends_s, position = [], [], 0
    for song in songs:
        samples, rate_hz = _mono(song)
        pause = np.zeros((round(pause_s * rate_hz), 1), dtype=np.float32)
        starts_s.append(position / rate_hz)
        ends_s.append((position + len(samples)) / rate_hz)
        for sound in (samples, pause):
            position += len(sound)
            if len(sound):
                updates = session.process(Capture(on_grid(sound)[0], rate_hz, 0, 0, None))
                predictions += [update.prediction for update in updates]
    predictions += [update.prediction for update in session.end_segment()]
    return [
        _with_labels(song, [p for p in predictions if start_s + FRAME_S <= p.time_s <= end_s], start_s)
        for song, start_s, end_s in zip(songs, starts_s, ends_s, strict=True)
    ]


def _with_labels(song: Song, predictions: Sequence[Prediction], start_s: float) -> SongSequence:
    values = np.array([[p.valence, p.arousal] for p in predictions], dtype=np.float32)
    return align(song, np.array([p.time_s - FRAME_S - start_s for p in predictions]), values)


def _mono(song: Song) -> tuple[FloatArray, int]:
    samples, rate_hz = soundfile.read(song.audio, dtype="float32", always_2d=True)
    return samples.mean(axis=1, keepdims=True), rate_hz


def _scored(sequences: Sequence[SongSequence]) -> Scores:
    return score_sequences([sequence.features for sequence in sequences], sequences)


if __name__ == "__main__":
    main()
