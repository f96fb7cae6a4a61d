"""Where the music changes: another song, a drop, a break. How likely it is, twice a second, and from when on it lasts.

At the end of a frame the last 0.5, 1, 1.5 and 2 s are each compared with the 3 s before them: spectrum, level, harmony,
onsets and contrast. A small network, trained on songs cut to cut (`python -m train changes`), turns these distances
into the odds that another music began about one second ago. `StartPoints` draws the consequence: a belief over when the
present music began, from which all descriptors take their windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from realtime_mer.features.descriptors.spectra import N_MEL_BANDS, NO_PEAK_DB
from realtime_mer.types import FloatArray

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Blocks of ten rows of 10 ms. A frame ends four rows before a multiple of ten, so blocks begin at row 6, 16, …
BLOCK_ROWS = 10
FIRST_BLOCK_ROW = 6
BLOCKS_PER_S = 10
# A tone row covers 0.37 s: the last one of a stretch begins three blocks before the stretch's last block.
_TONE_LAG_BLOCKS = 3
LAGS_BLOCKS = (5, 10, 15, 20)
_BACK_BLOCKS = 30
_SPAN_BLOCKS = 60
_FEWEST_BACK_BLOCKS = 5
_LEVEL_BLOCKS = 40
# Below the loudest block, band levels count no further: a floor for pauses and faint noise.
_FLOOR_DB = 81.0
_N_GROUPS = 8
_N_SCALARS = 10
_N_CONTRASTS = 7
N_NOVELTY = len(LAGS_BLOCKS) * (_N_SCALARS + 2 * _N_GROUPS + _N_CONTRASTS)

# The columns of what is averaged over stretches; the last one is the flux.
_MEL, _SQUARES = slice(0, N_MEL_BANDS), slice(N_MEL_BANDS, 2 * N_MEL_BANDS)
_CONTRAST = slice(2 * N_MEL_BANDS, -1)

# The belief's odds from the network's logit, chosen on validation songs, in sets and alone (results/responsiveness.md).
_LOGIT_SLOPE, _LOGIT_OFFSET = 1.0, 0.5
N_START_POINTS = 3
# A start point with less weight than this is not worth its descriptors.
_LEAST_WEIGHT = 0.02
# How strong a change has to be to be reported, and how long after one the next is at the earliest.
REPORTED_STRENGTH = 0.5
_REPORT_DISTANCE_S = 2.5


@dataclass(frozen=True, eq=False)
class Blocks:
    """What the detector keeps of 100 ms each: mel_db (n, 40), contrast_db (n, 7), level_db (n,), flux_db (n,); and
    chroma (n_tone, 36), a row per tone row, of unit length."""

    mel_db: FloatArray
    contrast_db: FloatArray
    level_db: FloatArray
    flux_db: FloatArray
    chroma: FloatArray

    def __len__(self) -> int:
        return len(self.level_db)

    def joined(self, other: Blocks, most: int | None = None) -> Blocks:
        """These, then the other's; of all only the last `most`."""
        last = slice(None if most is None else -most, None)
        return Blocks(
            np.concatenate([self.mel_db, other.mel_db])[last],
            np.concatenate([self.contrast_db, other.contrast_db])[last],
            np.concatenate([self.level_db, other.level_db])[last],
            np.concatenate([self.flux_db, other.flux_db])[last],
            np.concatenate([self.chroma, other.chroma])[last],
        )


def blocks_of(mel_db: FloatArray, contrast_db: FloatArray, peaks_db: FloatArray) -> Blocks:
    """mel_db (10 n, 40) and contrast_db (10 n, 14): rows of whole blocks; peaks_db (n_tone, 216)."""
    n = len(mel_db) // BLOCK_ROWS
    by_block = mel_db[: n * BLOCK_ROWS].astype(np.float64).reshape(n, BLOCK_ROWS, N_MEL_BANDS)
    level = 10.0 * np.log10((10.0 ** (by_block / 10.0)).sum(axis=2) + 1e-12).mean(axis=1)
    flux = np.maximum(np.diff(by_block, axis=1), 0.0).mean(axis=(1, 2))
    contrast = contrast_db[: n * BLOCK_ROWS, 0::2].reshape(n, BLOCK_ROWS, _N_CONTRASTS).mean(axis=1)
    weights = np.where(peaks_db > NO_PEAK_DB + 1.0, 10.0 ** (peaks_db.astype(np.float64) / 40.0), 0.0)
    thirds = weights.reshape(len(weights), -1, 36).sum(axis=1)
    chroma = thirds + 0.5 * np.roll(thirds, 1, axis=1) + 0.5 * np.roll(thirds, -1, axis=1)
    chroma /= np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9
    return Blocks(*(part.astype(np.float32) for part in (by_block.mean(axis=1), contrast, level, flux, chroma)))


def novelty(blocks: Blocks) -> FloatArray:
    """How the last 0.5, 1, 1.5 and 2 s differ from what was before each of them; float32, shape (N_NOVELTY,).

    blocks: up to now, the last six seconds count. Zeros for a lag before which there is too little.
    """
    floor_db = blocks.level_db[-_LEVEL_BLOCKS:].max() - _FLOOR_DB
    mel_db = np.maximum(blocks.mel_db[-_SPAN_BLOCKS:], floor_db).astype(np.float64)
    # Only differences count; without the mean, the squares' rounding is small.
    mel_db -= mel_db.mean(axis=0)
    tracks = np.column_stack(
        [mel_db, np.square(mel_db), blocks.contrast_db[-_SPAN_BLOCKS:], blocks.flux_db[-_SPAN_BLOCKS:]]
    )
    lags = np.array(LAGS_BLOCKS)
    ends = np.full_like(lags, len(tracks))
    cuts = np.maximum(ends - lags, 0)
    firsts = np.maximum(cuts - _BACK_BLOCKS, 0)
    middles = (firsts + cuts) // 2
    now, before, whole, early, late = _means(
        tracks, np.stack([cuts, firsts, firsts, firsts, middles]), np.stack([ends, cuts, ends, middles, cuts])
    )
    n_now, n_before = ends - cuts, cuts - firsts

    rise = now[:, _MEL] - before[:, _MEL]
    level_rise = rise.mean(axis=1, keepdims=True)
    variance_now, variance_before, variance = (
        np.maximum(means[:, _SQUARES] - np.square(means[:, _MEL]), 0.0) for means in (now, before, whole)
    )
    spread_now, spread_before = np.sqrt(variance_now), np.sqrt(variance_before)
    spread = 0.5 * (spread_now + spread_before)
    # Half of a change of level counts.
    halved, shape = rise - 0.5 * level_rise, rise - level_rise
    log_now, log_before, log_whole = (np.log(of + 4.0).mean(axis=1) for of in (variance_now, variance_before, variance))
    shape_size, inner = _rms(shape), _rms(late[:, _MEL] - early[:, _MEL])
    contrast = np.abs(now[:, _CONTRAST] - before[:, _CONTRAST])
    scalars = [
        _rms(halved) / (_rms(spread) + 1.5),
        _rms(halved / (spread + 2.0)),
        shape_size / 5.0,
        np.abs(level_rise[:, 0]) / 5.0,
        3.0 * _chroma_distances(blocks.chroma, lags, n_before),
        np.abs(np.log((now[:, -1] + 0.1) / (before[:, -1] + 0.1))),
        contrast.mean(axis=1) / 3.0,
        ((n_now + n_before) * log_whole - n_now * log_now - n_before * log_before) / n_now,
        inner / 5.0,
        inner / (shape_size + 1.0),
    ]
    distances = np.column_stack(
        [*scalars, np.abs(_by_group(shape)) / 5.0, np.abs(_by_group(spread_now - spread_before)) / 3.0, contrast / 3.0]
    )
    distances[n_before < _FEWEST_BACK_BLOCKS] = 0.0
    return distances.reshape(-1).astype(np.float32)


def _means(rows: npt.NDArray[np.floating], starts: IntArray, ends: IntArray) -> Float64Array:
    """The means of stretches of rows: (rows, tracks) and starts and ends (…) -> (…, tracks); zeros of an empty one."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    np.cumsum(rows, axis=0, dtype=np.float64, out=sums[1:])
    return np.asarray((sums[ends] - sums[starts]) / np.maximum(ends - starts, 1)[..., np.newaxis])


def _rms(rows: Float64Array) -> Float64Array:
    return np.asarray(np.sqrt(np.square(rows).mean(axis=1)))


def _chroma_distances(chroma: FloatArray, lags: IntArray, n_before: IntArray) -> Float64Array:
    """Cosine distance of the mean chroma of the tone rows within the last blocks, for each lag, and of those before."""
    n = len(chroma)
    starts = np.maximum([n - (lags - _TONE_LAG_BLOCKS), n - lags - n_before + _TONE_LAG_BLOCKS], 0)
    ends = np.maximum([np.full_like(lags, n), n - lags], 0)
    now, before = _means(chroma, starts, ends)
    sizes = np.linalg.norm(now, axis=1) * np.linalg.norm(before, axis=1)
    distances = 1.0 - (now * before).sum(axis=1) / (sizes + 1e-9)
    return np.where((ends > starts).all(axis=0), distances, 0.0)


def _by_group(bands: Float64Array) -> Float64Array:
    return np.asarray(bands.reshape(len(bands), _N_GROUPS, -1).mean(axis=2))


@cache
def default_detector_path() -> Path:
    """The detector that comes with the package."""
    return Path(__file__).parent / "changes.safetensors"


class ChangeDetector:
    """The network: the mean logit of a few small perceptrons with one hidden layer each.

    tensors: offset, spread (N_NOVELTY,) of the signed-log novelty; hidden_weight (members, N_NOVELTY, n), hidden_bias
    (members, n), weight (members, n), bias (members,).
    """

    def __init__(self, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
        self._tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    @classmethod
    @cache
    def default(cls) -> ChangeDetector:
        """The one that comes with the package."""
        return cls(load_file(default_detector_path()))

    def logit(self, values: FloatArray) -> float:
        """The log odds of another music since about one second, from what `novelty` returns."""
        t = self._tensors
        scaled = np.clip((signed_log(values.astype(np.float64)) - t["offset"]) / t["spread"], -5.0, 5.0)
        hidden = np.maximum(np.einsum("f,mfh->mh", scaled, t["hidden_weight"]) + t["hidden_bias"], 0.0)
        return float(((hidden * t["weight"]).sum(axis=1) + t["bias"]).mean())


def signed_log(values: Float64Array) -> Float64Array:
    """sign(x) log(1 + |x|)."""
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


@dataclass(frozen=True, slots=True)
class StartPoint:
    """A moment, in hops of 0.5 s since the stream began, at which the present music may have begun, and how likely."""

    hop: int
    weight: float


class StartPoints:
    """The belief over when the present music began: at most N_START_POINTS moments with weights of sum 1.

    At every frame each moment's weight falls by the odds of a change, and what it loses goes to the moment one second
    before the frame's end. What lies further back than the memory is merged into one.
    """

    def __init__(self, memory_hops: int) -> None:
        self._memory_hops = memory_hops
        self._points = [StartPoint(0, 1.0)]

    def step(self, end_hop: int, logit: float) -> tuple[StartPoint, ...]:
        """The belief at the end of the frame that ends at `end_hop`, oldest first."""
        share = 1.0 / (1.0 + math.exp(-(_LOGIT_SLOPE * logit + _LOGIT_OFFSET)))
        points = [StartPoint(p.hop, p.weight * (1.0 - share)) for p in self._points]
        points.append(StartPoint(end_hop - 2, share))
        oldest = end_hop - self._memory_hops
        points = _merged([StartPoint(max(p.hop, oldest), p.weight) for p in points])
        while len(points) > N_START_POINTS:
            # The least likely one's weight goes to the next older one, or else to the next younger.
            i = min(range(len(points)), key=lambda i: points[i].weight)
            lost = points.pop(i)
            heir = max(i - 1, 0)
            points[heir] = StartPoint(points[heir].hop, points[heir].weight + lost.weight)
        self._points = points
        kept = [p for p in points if p.weight >= _LEAST_WEIGHT]
        total = sum(p.weight for p in kept)
        return tuple(StartPoint(p.hop, p.weight / total) for p in kept)


def _merged(points: list[StartPoint]) -> list[StartPoint]:
    weights: dict[int, float] = {}
    for point in points:
        weights[point.hop] = weights.get(point.hop, 0.0) + point.weight
    return [StartPoint(hop, weight) for hop, weight in sorted(weights.items())]


class ChangeReports:
    """Which changes are reported: those of REPORTED_STRENGTH or more, none within 2.5 s after another."""

    def __init__(self) -> None:
        self._last_s = -math.inf

    def step(self, end_s: float, logit: float) -> float:
        """The strength of the change that this frame reports, 0 to 1; 0 if there is none."""
        strength = 1.0 / (1.0 + math.exp(-logit))
        if strength < REPORTED_STRENGTH or end_s - self._last_s < _REPORT_DISTANCE_S:
            return 0.0
        self._last_s = end_s
        return strength
