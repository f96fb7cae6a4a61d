"""A take's sound by stream time: to be played, and its level."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from realtime_mer.live.metering import LevelMeter
from realtime_mer.recording import RecordingError, reason_of
from realtime_mer.sources.player import N_CHANNELS
from realtime_mer.types import FloatArray
from realtime_mer.updates import InputLevel
from realtime_mer.viewer.moments import Piece, Take

_BLOCK_S = 0.1
# The level's state covers five seconds, in hops of 0.1 s.
_HOPS_PER_S, _METER_HOPS = 10, 50


class Files:
    """Reads parts of sound files, and keeps the last one open. For one thread."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._file: soundfile.SoundFile | None = None

    def read(self, path: Path, first_sample: int, n_samples: int) -> FloatArray:
        """float32, shape (n, n_channels); n is less than n_samples if the file ends before.

        Raises RecordingError if it cannot be read there.
        """
        try:
            if self._file is None or path != self._path:
                self.close()
                # As bytes, so that names that are not valid text in this locale work too.
                self._file, self._path = soundfile.SoundFile(path if os.name == "nt" else os.fsencode(path)), path
            if self._file.tell() != first_sample:
                self._file.seek(first_sample)
            samples: FloatArray = self._file.read(n_samples, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            self.close()
            raise RecordingError(f"{path} is damaged after sample {first_sample}: {reason_of(error)}.") from error
        return samples

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._path = None


def stereo_blocks(take: Take, from_s: float, rate_hz: int) -> Generator[FloatArray, None, None]:
    """The take's sound from a moment to its end, in blocks of 0.1 s or less: float32, shape (n, 2), at rate_hz.

    Sample k is that of from_s + k / rate_hz. Gaps are silent. Mono is on both sides, and so is the mean of more than
    two channels. Raises RecordingError if the sound is damaged.
    """
    files = Files()
    n_given = 0
    try:
        for piece in take.pieces:
            start_s, end_s = max(piece.start_s, from_s), min(piece.end_s, take.end_s)
            if end_s <= start_s:
                continue
            yield from _silence(_sample_at(start_s - from_s, rate_hz) - n_given, rate_hz)
            n_wanted = _sample_at(end_s - from_s, rate_hz) - _sample_at(start_s - from_s, rate_hz)
            for block in _resampled(files, piece, start_s, rate_hz):
                yield block[:n_wanted]
                n_wanted -= len(block[:n_wanted])
            yield from _silence(n_wanted, rate_hz)
            n_given = _sample_at(end_s - from_s, rate_hz)
        yield from _silence(_sample_at(take.end_s - from_s, rate_hz) - n_given, rate_hz)
    finally:
        files.close()


class Levels:
    """The input level at any moment of a take, as the live meter showed it. Cheap if the moments rise slowly."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._starts_s = [piece.start_s for piece in take.pieces]
        self._files = Files()
        self._meter: LevelMeter | None = None
        self._path: Path | None = None
        self._next_sample = 0

    def at(self, time_s: float) -> InputLevel | None:
        """None if there has been no sound, or it cannot be read."""
        index = bisect_left(self._starts_s, time_s) - 1
        if index < 0:
            return None
        piece = self._take.pieces[index]
        # The file does not contain dropped sound: a piece starts where the last one of its segment ended.
        heard = piece.first_sample + min(round((time_s - piece.start_s) * piece.rate_hz), piece.n_samples)
        hop = heard * _HOPS_PER_S // piece.rate_hz
        least = max(hop - _METER_HOPS, 0) * piece.rate_hz // _HOPS_PER_S
        meter = self._meter
        if meter is None or piece.path != self._path or not least <= self._next_sample <= heard:
            meter = self._meter = LevelMeter(self._take.meter, piece.rate_hz)
            self._path, self._next_sample = piece.path, least
        try:
            meter.step(self._files.read(piece.path, self._next_sample, heard - self._next_sample))
        except RecordingError:
            self._meter = None
            return None
        self._next_sample = heard
        return meter.level()

    def close(self) -> None:
        self._files.close()


def _sample_at(time_s: float, rate_hz: int) -> int:
    return round(time_s * rate_hz)


def _silence(n_samples: int, rate_hz: int) -> Iterator[FloatArray]:
    block = round(_BLOCK_S * rate_hz)
    for first in range(0, n_samples, block):
        yield np.zeros((min(block, n_samples - first), N_CHANNELS), dtype=np.float32)


def _resampled(files: Files, piece: Piece, start_s: float, rate_hz: int) -> Iterator[FloatArray]:
    first = round((start_s - piece.start_s) * piece.rate_hz)
    block = round(_BLOCK_S * piece.rate_hz)
    # Its output comes in later blocks, but every sample is at its place.
    resampler = None if piece.rate_hz == rate_hz else soxr.ResampleStream(piece.rate_hz, rate_hz, N_CHANNELS)
    while first < piece.n_samples:
        wanted = min(block, piece.n_samples - first)
        samples = _stereo(files.read(piece.path, piece.first_sample + first, wanted))
        first = first + wanted if len(samples) == wanted else piece.n_samples
        yield samples if resampler is None else resampler.resample_chunk(samples, last=first == piece.n_samples)


def _stereo(samples: FloatArray) -> FloatArray:
    if samples.shape[1] != N_CHANNELS:
        samples = samples.mean(axis=1, keepdims=True)
    return np.ascontiguousarray(np.broadcast_to(samples, (len(samples), N_CHANNELS)))
