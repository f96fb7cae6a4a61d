"""Sets: songs played one after the other in one stream, each song with its own labels.

A set is real audio that goes through the real extraction in one piece, so that gain stage, openSMILE and the
descriptors carry their memory of a song over into the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from realtime_mer.features.conditioning import MonoMix, Resampler
from realtime_mer.features.engine import ENGINE_RATE_HZ
from realtime_mer.features.extraction import too_short
from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import FloatArray
from train.deam import Song
from train.features_cache import Features
from train.sequences import SongSequence, align


@dataclass(frozen=True)
class SongSet:
    """songs: in playing order. file: the audio. starts_s: stream time of each song's first sample. duration_s."""

    songs: tuple[Song, ...]
    file: Path
    starts_s: tuple[float, ...]
    duration_s: float


def mono_of(path: Path) -> FloatArray:
    """A file's mono mix at 44.1 kHz."""
    pieces: list[FloatArray] = []
    steps: tuple[MonoMix, Resampler] | None = None
    for block in read_blocks(path):
        if steps is None:
            steps = MonoMix(block.rate_hz), Resampler(block.rate_hz)
        pieces.append(steps[1].step(steps[0].step(block.samples)))
    if steps is None:
        raise AudioFileError(too_short(path))
    pieces.append(steps[1].flush())
    return np.concatenate(pieces)


def write_set(songs: Sequence[Song], file: Path) -> SongSet:
    """Writes the songs' audio, cut to cut, into a FLAC file (16 bits, mono, 44.1 kHz).

    Raises ValueError for a song without audio, AudioFileError for one whose audio cannot be read.
    """
    starts_s = []
    position = 0
    with soundfile.SoundFile(file, "w", ENGINE_RATE_HZ, 1, format="FLAC", subtype="PCM_16") as out:
        for song in songs:
            if song.audio is None:
                raise ValueError(f"Song {song.song_id} has no audio to play in a set.")
            starts_s.append(position / ENGINE_RATE_HZ)
            samples = mono_of(song.audio)
            out.write(np.clip(samples, -1.0, 1.0))
            position += len(samples)
    return SongSet(tuple(songs), file, tuple(starts_s), position / ENGINE_RATE_HZ)


def set_sequences(song_set: SongSet, features: Features) -> list[SongSequence]:
    """The set's frames song by song: those that end within the song, with the labels of that moment.

    features: of the set's file. A frame's `end_s` is its stream time in the set. The first frame of a song may begin
    in the song before.
    """
    ends_s = features.frame_start_s + 1.0
    sequences = []
    for i, song in enumerate(song_set.songs):
        start_s = song_set.starts_s[i]
        end_s = song_set.starts_s[i + 1] if i + 1 < len(song_set.songs) else song_set.duration_s
        inside = (ends_s > start_s) & (ends_s <= end_s)
        # Frame starts relative to the song's first sample; negative if the frame starts in the song before.
        own = align(song, features.frame_start_s[inside] - start_s, features.values[inside])
        sequences.append(SongSequence(song.song_id, own.features, own.labels, own.labelled, ends_s[inside]))
    return sequences


def joined(sequences: Sequence[SongSequence], *, label_from: int = 0) -> SongSequence:
    """One sequence of several, named after the last; songs before `label_from` only lead in, without labels."""
    labelled = [
        sequence.labelled if i >= label_from else np.zeros_like(sequence.labelled)
        for i, sequence in enumerate(sequences)
    ]
    return SongSequence(
        sequences[-1].song_id,
        np.concatenate([sequence.features for sequence in sequences]),
        np.concatenate([sequence.labels for sequence in sequences]),
        np.concatenate(labelled),
        np.concatenate([sequence.end_s for sequence in sequences]),
    )
