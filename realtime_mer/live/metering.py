"""The input's level: a meter and its state, which frames are silence, and where music begins."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from realtime_mer.config import LevelMeterSettings
from realtime_mer.types import FloatArray
from realtime_mer.updates import InputLevel, LevelState

LOWEST_DB = -120.0
# Levels are measured over hops of this length, independent of the blocks.
_HOPS_PER_S = 10
LEVEL_HOP_S = 1.0 / _HOPS_PER_S
# The beginning of music is found more exactly: 50 ms of silence before it move the predictions by 0.04, 10 ms by 0.01.
_ENTRANCE_HOPS_PER_S = 100
# After two seconds of silence the model starts afresh. A shorter silence can be a general pause.
_ENDING_HOPS = 2 * _ENTRANCE_HOPS_PER_S
# A clipping converter gives runs of its largest value; a single full-scale sample comes from mastering.
_CLIPPED = 1.0 - 2.0**-15
_CLIPPED_RUN_SAMPLES = 3
# The meter shows the loudest of the last hops; the state covers a longer time.
_SHOWN_HOPS = 3
_CLIPPING_HOPS = 20
_QUIET_HOPS = 50
_FRAME_HOPS = 10
# Hops kept for the frames that openSMILE still works on: at least its last three seconds.
_KEPT_HOPS = 200


@dataclass(frozen=True, slots=True)
class _Hop:
    peak: float
    mean_square: float
    clipped: bool


def to_db(amplitude: float) -> float:
    """An amplitude in dBFS: 0 at full scale, never below -120."""
    return max(20.0 * math.log10(amplitude), LOWEST_DB) if amplitude > 0.0 else LOWEST_DB


class LevelMeter:
    """Measures a segment's samples in hops of 0.1 s, however they are cut into blocks. Use a new one per segment.

    Peak and clipping are those of the loudest channel. The RMS is that of the mean of the channels, the model's input,
    in which two channels in antiphase are silence.
    """

    def __init__(self, settings: LevelMeterSettings, rate_hz: int) -> None:
        self._settings = settings
        self._cutter = _HopCutter(rate_hz, _HOPS_PER_S)
        self._hops: deque[_Hop] = deque(maxlen=_KEPT_HOPS)

    def step(self, samples: FloatArray) -> None:
        """samples: float32, shape (n_samples, n_channels), the segment's next, finite."""
        self._hops.extend(_measured(hop) for hop in self._cutter.step(samples))

    def level(self) -> InputLevel | None:
        """The level now; None before the first hop."""
        if not self._hops:
            return None
        recent = list(self._hops)
        shown = recent[-_SHOWN_HOPS:]
        return InputLevel(
            to_db(max(hop.peak for hop in shown)),
            to_db(math.sqrt(sum(hop.mean_square for hop in shown) / len(shown))),
            self._state(recent),
        )

    def is_silent(self, start_s: float, end_s: float) -> bool:
        """Whether this part of the segment, already measured, is silence throughout.

        Both ends are rounded down to a hop: a hop that has not ended by end_s may not be measured yet.
        """
        oldest = self._cutter.n_hops - len(self._hops)
        first = max(math.floor(start_s * _HOPS_PER_S + 1e-6) - oldest, 0)
        last = math.floor(end_s * _HOPS_PER_S + 1e-6) - oldest
        return _all_below(list(self._hops)[first:last], self._settings.silence_db)

    def _state(self, recent: list[_Hop]) -> LevelState:
        if any(hop.clipped for hop in recent[-_CLIPPING_HOPS:]):
            return LevelState.CLIPPING
        if _all_below(recent[-_FRAME_HOPS:], self._settings.silence_db):
            return LevelState.SILENCE
        if _all_below(recent[-_QUIET_HOPS:], self._settings.quiet_db):
            return LevelState.QUIET
        return LevelState.MUSIC


@dataclass(frozen=True, slots=True)
class Passage:
    """Consecutive samples, float32, shape (n_samples, n_channels), and whether music begins with them after silence."""

    samples: FloatArray
    begins: bool


class Entrances:
    """Finds where music begins: after two seconds of silence, or at the start of a segment, at the first sample above
    the silence level in the first hop of 10 ms that is not silence.

    All samples pass through, in order. In a long silence each hop waits until it is complete, since its level is known
    only then; music passes at once. The result does not depend on how the samples are cut. Use a new one per segment.
    """

    def __init__(self, settings: LevelMeterSettings, rate_hz: int) -> None:
        self._silence_db = settings.silence_db
        self._silence = 10.0 ** (settings.silence_db / 20.0)
        self._cutter = _HopCutter(rate_hz, _ENTRANCE_HOPS_PER_S)
        # How many samples of the incomplete hop have passed.
        self._passed_samples = 0
        self._silent_hops = _ENDING_HOPS

    def step(self, samples: FloatArray) -> list[Passage]:
        """samples: float32, shape (n_samples, n_channels), the segment's next, finite."""
        passages = []
        for hop in self._cutter.step(samples):
            silent = _is_below(_mean_square(hop), self._silence_db)
            if not silent and self._silent_hops >= _ENDING_HOPS:
                first = int(np.argmax(np.abs(_mono(hop)) >= self._silence))
                passages += [Passage(hop[:first], False), Passage(hop[first:], True)]
            else:
                passages.append(Passage(hop[self._passed_samples :], False))
            self._silent_hops = self._silent_hops + 1 if silent else 0
            self._passed_samples = 0
        if self._silent_hops < _ENDING_HOPS:
            passages.append(self._rest())
        return _joined(passages)

    def flush(self) -> list[Passage]:
        """The samples of the last, incomplete hop."""
        return [self._rest()]

    def _rest(self) -> Passage:
        """The samples of the incomplete hop that have not passed yet."""
        passed, self._passed_samples = self._passed_samples, len(self._cutter.rest)
        return Passage(self._cutter.rest[passed:], False)


def _joined(passages: Iterable[Passage]) -> list[Passage]:
    """The same samples in as few passages as possible: every one costs a step of the whole pipeline."""
    groups: list[list[Passage]] = []
    for passage in passages:
        if passage.begins or not groups:
            groups.append([])
        groups[-1].append(passage)
    joined = [Passage(np.concatenate([part.samples for part in group]), group[0].begins) for group in groups]
    return [passage for passage in joined if len(passage.samples)]


class _HopCutter:
    """Cuts samples into complete hops, the same ones however the samples come.

    n_hops: how many so far. rest: the samples of the incomplete hop.
    """

    def __init__(self, rate_hz: int, hops_per_s: int) -> None:
        self._rate_hz = rate_hz
        self._hops_per_s = hops_per_s
        self.n_hops = 0
        self.rest: FloatArray = np.empty((0, 1), dtype=np.float32)

    def step(self, samples: FloatArray) -> list[FloatArray]:
        """samples: float32, shape (n_samples, n_channels). Returns the hops that they complete, each of that shape."""
        waiting = np.concatenate([self.rest, samples]) if len(self.rest) else samples
        hops = []
        while len(waiting) >= (hop_samples := self._start(self.n_hops + 1) - self._start(self.n_hops)):
            hops.append(waiting[:hop_samples])
            waiting = waiting[hop_samples:]
            self.n_hops += 1
        self.rest = waiting
        return hops

    def _start(self, number: int) -> int:
        # In whole numbers, so that no rounding error adds up over a night at rates that are not divisible.
        return number * self._rate_hz // self._hops_per_s


def _all_below(hops: list[_Hop], limit_db: float) -> bool:
    return all(_is_below(hop.mean_square, limit_db) for hop in hops)


def _is_below(mean_square: float, limit_db: float) -> bool:
    return to_db(math.sqrt(mean_square)) < limit_db


def _measured(hop: FloatArray) -> _Hop:
    magnitude = np.abs(hop)
    return _Hop(float(magnitude.max()), _mean_square(hop), _clips(magnitude))


def _mean_square(hop: FloatArray) -> float:
    return float(np.square(_mono(hop)).sum() / len(hop))


def _mono(hop: FloatArray) -> npt.NDArray[np.float64]:
    # NumPy's mean gives the same and takes twice as long.
    mono: npt.NDArray[np.float64] = hop.sum(axis=1, dtype=np.float64) / hop.shape[1]
    return mono


def _clips(magnitude: FloatArray) -> bool:
    at_limit = magnitude >= _CLIPPED
    if np.count_nonzero(at_limit) < _CLIPPED_RUN_SAMPLES:
        return False
    runs = at_limit[2:] & at_limit[1:-1] & at_limit[:-2]
    return bool(runs.any())
