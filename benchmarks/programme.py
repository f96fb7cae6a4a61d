"""The soak's evening of sound, generated from songs on demand, and the predictions that it should give.

It starts with music without a pause, loud enough never to count as silence, long enough to renew the engine. Then
follows a set with cuts, short pauses, silences, faint noise and lost devices. Both have level jumps and clipping.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from realtime_mer.config import LevelMeterSettings, ModelSettings
from realtime_mer.demo.instruments import RATE_HZ as DEMO_RATE_HZ
from realtime_mer.demo.piece import render
from realtime_mer.features.conditioning import MonoMix, Resampler
from realtime_mer.features.engine import ENGINE_RATE_HZ, FRAME_S, HOP_S
from realtime_mer.features.renewal import RenewalSettings
from realtime_mer.live.metering import Entrances
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.reading import read_blocks
from realtime_mer.types import FloatArray

# As most sound cards have; so the resampler is tested too.
RATE_HZ = 48_000
_CHANNEL_GAINS = np.array([[1.0, 0.8]], dtype=np.float32)
_BLOCK_SAMPLES = RATE_HZ // 10
# Samples past a frame's own 44,100 that openSMILE needs for the frame at the end of a stream: four hops of its
# descriptors (measured).
_PAST_THE_FRAME_SAMPLES = 1_764
_GAINS_DB = (0.0, 0.0, -12.0, -30.0, 6.0, 18.0)
_CLIPPING_DB = 18.0
# Added to music without a pause, so that a silent passage is 15 dB above the threshold of silence.
_FLOOR = 10.0 ** (-45.0 / 20.0)
_FAINT = 10.0 ** (-80.0 / 20.0)
_SEED = 6
_DEFAULT_MODEL = ModelSettings()

Sounds = Callable[[], Iterator[FloatArray]]


def song_sounds(paths: Sequence[Path]) -> list[Sounds]:
    """A generator function for each of these files, mono at RATE_HZ, piece by piece; the built-in piece if none."""
    if not paths:
        return [_demo_sound]

    def sound_of(path: Path) -> Sounds:
        return lambda: _file_sound(path)

    return [sound_of(path) for path in paths]


def _file_sound(path: Path) -> Iterator[FloatArray]:
    blocks = read_blocks(path)
    first = next(blocks)
    mono, resampler = MonoMix(first.rate_hz), Resampler(first.rate_hz, RATE_HZ)
    for block in itertools.chain([first], blocks):
        yield resampler.step(mono.step(block.samples))
    yield resampler.flush()


def _demo_sound() -> Iterator[FloatArray]:
    samples = _demo_samples()
    for start in range(0, len(samples), RATE_HZ):
        yield samples[start : start + RATE_HZ]


@cache
def _demo_samples() -> FloatArray:
    # Rendering is slow.
    resampler = Resampler(DEMO_RATE_HZ, RATE_HZ)
    mono = MonoMix(DEMO_RATE_HZ).step(np.concatenate(list(render())))
    return np.concatenate([resampler.step(mono), resampler.flush()])


@dataclass(slots=True)
class Stretch:
    """Sound that one model processes without a break: from a segment's start or an entrance of music to the next.

    start_samples: in the stream. predictions_hz: how many a second. n_frames: how many predictions it should give; None
        while it is open.
    """

    start_samples: int
    predictions_hz: float
    n_frames: int | None = None

    def time_s(self, frame: int) -> float:
        """The stream time of a prediction, by its index in the stretch."""
        return self.start_samples / RATE_HZ + frame / self.predictions_hz + FRAME_S


def frames_in(n_samples: int, model: ModelSettings = _DEFAULT_MODEL) -> int:
    """How many frames a stretch of n_samples at RATE_HZ has."""
    n_samples = (2 * n_samples * ENGINE_RATE_HZ + RATE_HZ) // (2 * RATE_HZ)
    frame, hop = round(FRAME_S * ENGINE_RATE_HZ), round(ENGINE_RATE_HZ / model.predictions_hz)
    past = _PAST_THE_FRAME_SAMPLES if model.name == "default" else 0
    return max((n_samples - frame - past) // hop + 1, 0)


def renewals_in(n_frames: int, renewal: RenewalSettings) -> int:
    """How many new engines take over in a stretch of n_frames."""
    period, warm_up = round(renewal.period_s / HOP_S), round(renewal.warm_up_s / HOP_S)
    return max((n_frames - warm_up) // period, 0)


class Expected:
    """The predictions due for the sound so far, calculated from the samples."""

    def __init__(self, renewal: RenewalSettings, model: ModelSettings = _DEFAULT_MODEL) -> None:
        self.stretches: deque[Stretch] = deque()
        self.n_frames = 0
        self.n_renewals = 0
        self.n_stretches = 0
        self.n_samples = 0
        self._renewal = renewal
        self._model = model
        self._open: Stretch | None = None
        self._entrances = Entrances(LevelMeterSettings(), RATE_HZ)

    def process(self, samples: FloatArray) -> None:
        """samples: the stream's next, as given to the session."""
        for passage in self._entrances.step(samples):
            if passage.begins:
                self._close()
            self._pass(len(passage.samples))

    def end_segment(self) -> None:
        """Call it when the sound is interrupted, or ends."""
        for passage in self._entrances.flush():
            self._pass(len(passage.samples))
        self._close()
        self._entrances = Entrances(LevelMeterSettings(), RATE_HZ)

    def _pass(self, n_samples: int) -> None:
        if n_samples and self._open is None:
            self._open = Stretch(self.n_samples, self._model.predictions_hz)
            self.stretches.append(self._open)
            self.n_stretches += 1
        self.n_samples += n_samples

    def _close(self) -> None:
        if self._open is not None:
            self._open.n_frames = frames_in(self.n_samples - self._open.start_samples, self._model)
            self.n_frames += self._open.n_frames
            if self._model.name == "default":
                self.n_renewals += renewals_in(self._open.n_frames, self._renewal)
            self._open = None


@dataclass(slots=True)
class Programme:
    """The evening; deterministic. songs: played in random order, repeatedly. pauseless_s: the length of the first part
    without a pause; length_s: the whole length. happened: what happened, and how often."""

    songs: Sequence[Sounds]
    pauseless_s: float
    length_s: float
    expected: Expected
    happened: Counter[str] = field(default_factory=Counter)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))
    _given_samples: int = 0
    _segment: int = 0

    def captures(self) -> Generator[Capture, None, None]:
        """The sound, in pieces of at most 0.1 s."""
        for song in self._order():
            if self._is_over(self.length_s):
                break
            if not self._is_over(self.pauseless_s):
                yield from self._play(song, self.pauseless_s, _FLOOR)
            else:
                yield from self._play(song, self.length_s, 0.0)
                yield from self._transition()
        self.expected.end_segment()

    def _order(self) -> Iterator[Sounds]:
        while True:
            yield from (self.songs[i] for i in self._rng.permutation(len(self.songs)))

    def _is_over(self, end_s: float) -> bool:
        return self._given_samples >= round(end_s * RATE_HZ)

    def _play(self, song: Sounds, end_s: float, floor: float) -> Iterator[Capture]:
        self.happened["songs"] += 1
        gain_db = self._gain_db()
        jump_s = self._rng.uniform(5.0, 60.0)
        began_samples = self._given_samples
        for piece in song():
            if self._given_samples - began_samples > jump_s * RATE_HZ:
                self.happened["level jumps within a song"] += 1
                gain_db, jump_s = self._gain_db(), np.inf
            sound = piece * np.float32(10.0 ** (gain_db / 20.0))
            if floor:
                sound = sound + self._noise(len(sound), floor)
            yield from self._give(sound, end_s)
            if self._is_over(end_s):
                return

    def _gain_db(self) -> float:
        gain_db = float(self._rng.choice(_GAINS_DB))
        self.happened["times clipping"] += gain_db == _CLIPPING_DB
        return gain_db

    def _transition(self) -> Iterator[Capture]:
        kind = self._rng.choice(["cuts", "short pauses", "silences", "faint noises", "device losses"])
        self.happened[str(kind)] += 1
        if kind == "device losses":
            self.expected.end_segment()
            self._segment += 1
        elif kind == "faint noises":
            yield from self._give(self._noise(5 * RATE_HZ, _FAINT), self.length_s)
        elif kind != "cuts":
            low_s, high_s = (0.5, 1.5) if kind == "short pauses" else (2.5, 8.0)
            n_samples = round(self._rng.uniform(low_s, high_s) * RATE_HZ)
            yield from self._give(np.zeros(n_samples, dtype=np.float32), self.length_s)

    def _noise(self, n_samples: int, rms: float) -> FloatArray:
        return np.asarray(rms * self._rng.standard_normal(n_samples, dtype=np.float32), dtype=np.float32)

    def _give(self, sound: FloatArray, end_s: float) -> Iterator[Capture]:
        sound = sound[: max(round(end_s * RATE_HZ) - self._given_samples, 0)]
        for start in range(0, len(sound), _BLOCK_SAMPLES):
            samples, _ = on_grid(sound[start : start + _BLOCK_SAMPLES, np.newaxis] * _CHANNEL_GAINS)
            self._given_samples += len(samples)
            self.expected.process(samples)
            yield Capture(samples, RATE_HZ, self._segment, 0, None)
