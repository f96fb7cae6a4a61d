"""The descriptors of the music since its last change: a change is noticed within about a second, what lay before it
is left out.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from realtime_mer.features.changes import (
    BLOCK_ROWS,
    FIRST_BLOCK_ROW,
    Blocks,
    ChangeDetector,
    ChangeReports,
    StartPoint,
    StartPoints,
    blocks_of,
    novelty,
)
from realtime_mer.features.descriptors import MEMORY_S, describe_levels, descriptor_names
from realtime_mer.features.descriptors.rows import FRAME_SAMPLES, HOP_SAMPLES, RowStream
from realtime_mer.features.descriptors.spectra import N_MEL_BANDS, NO_PEAK_DB, RATE_HZ, ShortSpectra
from realtime_mer.features.descriptors.tracks import levels_db, powers
from realtime_mer.types import FeatureFrame, FloatArray

# A tick is the step in which the stage goes on: 50 ms. Frames are a whole number of ticks apart.
TICK_SAMPLES = RATE_HZ // 20
TICKS_PER_HOP = HOP_SAMPLES // TICK_SAMPLES
MEMORY_HOPS = round(MEMORY_S * RATE_HZ / HOP_SAMPLES)
_MEMORY_TICKS = MEMORY_HOPS * TICKS_PER_HOP
_FRAME_TICKS = FRAME_SAMPLES // TICK_SAMPLES
MEL_ROWS_PER_TICK, TICKS_PER_TONE_ROW = 5, 2
# So many rows of a stretch's last ones reach beyond its end.
MEL_ROWS_SHORT, TONE_ROWS_SHORT = 4, 3
_MEMORY_MEL_ROWS = _MEMORY_TICKS * MEL_ROWS_PER_TICK
_MEMORY_TONE_ROWS = _MEMORY_TICKS // TICKS_PER_TONE_ROW
_DETECTOR_BLOCKS = 70
# The detector needs a second of music and one to compare it with.
_FIRST_DETECTION_HOP = 4

# Below the window's mean power, in dB; what lies lower is rounding and faint noise, which depends on the input's gain.
_MEL_FLOOR_DB, _CONTRAST_FLOOR_DB, _PEAK_FLOOR_DB = -65.0, -80.0, -75.0
_LEAST_POWER = 1e-30
# Of the rows: far below 16-bit rounding, so that the window's own floor is the one that counts, at any gain.
LOW_FLOOR = 1e-15
# The onset rate is noise on steady sound.
_LEFT_OUT = descriptor_names().index("rhythm.onset_rate_hz")
AGE_NAME = "window.age_s"


@cache
def responsive_names() -> tuple[str, ...]:
    """The names of the values of a frame, in order: the descriptors, then the window's mean length in seconds."""
    names = descriptor_names()
    return (*names[:_LEFT_OUT], *names[_LEFT_OUT + 1 :], AGE_NAME)


def describe_window(spectra: ShortSpectra, peaks_db: FloatArray, age_s: float) -> FloatArray:
    """The values of a window of rows, `age_s` long, as `responsive_names` has them; float32.

    Levels count above floors relative to the window's own mean power, so a constant input gain changes nothing.
    """
    power = powers(spectra.mel_db)
    totals = power.sum(axis=1)
    mean_power = totals.mean() + _LEAST_POWER
    band_floor = mean_power * 10.0 ** (_MEL_FLOOR_DB / 10.0)
    # The levels of the valleys and of the peaks above them, each with the floor's power added.
    contrast_floor = mean_power * 10.0 ** (_CONTRAST_FLOOR_DB / 10.0)
    distances_db, valleys_db = spectra.contrast_db[:, 0::2], spectra.contrast_db[:, 1::2].astype(np.float64)
    contrast_db = np.empty(spectra.contrast_db.shape)
    contrast_db[:, 1::2] = valleys = levels_db(powers(valleys_db) + contrast_floor)
    contrast_db[:, 0::2] = levels_db(powers(valleys_db + distances_db) + contrast_floor) - valleys
    peak_floor_db = 10.0 * math.log10(mean_power) + _PEAK_FLOOR_DB
    audible_db = np.where(peaks_db > peak_floor_db, peaks_db, np.float32(NO_PEAK_DB))
    described = describe_levels(
        levels_db(power + band_floor), contrast_db, levels_db(totals + N_MEL_BANDS * band_floor), audible_db
    )
    return np.append(np.delete(described, _LEFT_OUT), age_s).astype(np.float32)


def describe_last(spectra: ShortSpectra, peaks_db: FloatArray, ticks: int) -> FloatArray:
    """The values of the last `ticks` of 50 ms, from all rows of a stream up to the end of a frame."""
    mel_rows, tone_rows = ticks * MEL_ROWS_PER_TICK - MEL_ROWS_SHORT, ticks // TICKS_PER_TONE_ROW - TONE_ROWS_SHORT
    window = ShortSpectra(spectra.mel_db[-mel_rows:], spectra.contrast_db[-mel_rows:])
    return describe_window(window, peaks_db[-tone_rows:], ticks * TICK_SAMPLES / RATE_HZ)


class ResponsiveStage:
    """Mono samples at 44.1 kHz in, `rate_hz` FeatureFrames a second out, each for a frame of 1.0 s.

    A frame's values are the descriptors of the music from where it may have begun (`StartPoints`) to the frame's end,
    at most ten seconds, averaged by how likely each beginning is. Its `change` is the strength of a change that was
    noticed with it. A reset is a new stage.

    Changes are looked for at whole half seconds, at every rate: the frames that end there are the same at every rate.

    rate_hz: 2, 4, 10 or 20, so that frames are a whole number of ticks apart, and some end at every half second.
    Raises ValueError for another rate.
    """

    latency_s = 0.0
    # The belief over where the music began reaches back without end, however little.
    receptive_field_s = math.inf

    def __init__(self, rate_hz: float = RATE_HZ / HOP_SAMPLES, detector: ChangeDetector | None = None) -> None:
        self.rate_hz = rate_hz
        self._ticks_per_frame = round(RATE_HZ / TICK_SAMPLES / rate_hz)
        if self._ticks_per_frame * TICK_SAMPLES * rate_hz != RATE_HZ or TICKS_PER_HOP % self._ticks_per_frame:
            raise ValueError(f"Expected 2, 4, 10 or 20 frames a second, not {rate_hz}.")
        self._detector = detector or ChangeDetector.default()
        self._rows = RowStream(_MEMORY_MEL_ROWS, _MEMORY_TONE_ROWS, LOW_FLOOR, TICK_SAMPLES)
        self._blocks: Blocks | None = None
        self._blocked_rows = FIRST_BLOCK_ROW
        self._blocked_tone_rows = 0
        self._starts = StartPoints(MEMORY_HOPS)
        self._points: tuple[StartPoint, ...] = ()
        self._windows: dict[StartPoint, FloatArray] = {}
        self._reports = ChangeReports()

    def step(self, samples: FloatArray) -> list[FeatureFrame]:
        """The frames that `samples` (float32, shape (n,)) complete; possibly none."""
        frames = []
        for tick in self._rows.step(samples):
            end_tick = tick + _FRAME_TICKS
            change = self._detect(end_tick // TICKS_PER_HOP) if end_tick % TICKS_PER_HOP == 0 else 0.0
            if tick % self._ticks_per_frame == 0:
                frames.append(self._frame(tick // self._ticks_per_frame, end_tick, change))
        return frames

    def flush(self) -> list[FeatureFrame]:
        """Nothing: a frame that is not whole is no frame."""
        return []

    def _detect(self, end_hop: int) -> float:
        """Brings the belief over where the music began up to date; returns the strength of a change to report, or 0."""
        blocks = self._add_blocks()
        logit = -math.inf if end_hop < _FIRST_DETECTION_HOP else self._detector.logit(novelty(blocks))
        self._points = self._starts.step(end_hop, logit)
        self._windows.clear()
        return self._reports.step(end_hop * HOP_SAMPLES / RATE_HZ, logit)

    def _frame(self, index: int, end_tick: int, change: float) -> FeatureFrame:
        likeliest = max(self._points, key=lambda point: point.weight)
        values = np.zeros(len(responsive_names()))
        for point in self._points:
            # Until the next half second only the likeliest window follows: the others cost as much and change little.
            if point is likeliest or point not in self._windows:
                ticks = min(end_tick - point.hop * TICKS_PER_HOP, _MEMORY_TICKS)
                self._windows[point] = describe_last(self._rows.spectra, self._rows.peaks_db, ticks)
            values += point.weight * self._windows[point]
        end_sample = end_tick * TICK_SAMPLES
        start_s, end_s = (end_sample - FRAME_SAMPLES) / RATE_HZ, end_sample / RATE_HZ
        return FeatureFrame(index, start_s, end_s, values.astype(np.float32), change)

    def _add_blocks(self) -> Blocks:
        rows = self._rows
        n_new, n_new_tones = rows.n_mel_rows - self._blocked_rows, rows.n_tone_rows - self._blocked_tone_rows
        new = blocks_of(rows.spectra.mel_db[-n_new:], rows.spectra.contrast_db[-n_new:], rows.peaks_db[-n_new_tones:])
        self._blocked_rows += len(new) * BLOCK_ROWS
        self._blocked_tone_rows = rows.n_tone_rows
        self._blocks = new if self._blocks is None else self._blocks.joined(new, _DETECTOR_BLOCKS)
        return self._blocks
