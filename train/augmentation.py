"""Altered copies of songs: other speeds, other equalisation, other levels, through the real extraction.

Each copy of a song is played slightly faster or slower (tempo and pitch together, like a DJ's pitch fader), starts
within the song's first seconds, passes an equaliser, and has another gain. It keeps the song's ratings: the changes are
small compared with the differences between songs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt

from realtime_mer.features.engine import FRAME_S, to_int16
from realtime_mer.features.extraction import ExtractionSettings, extract_stream, stacked, too_short
from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import AudioBlock, FloatArray

# Uniform ranges.
_SPEED = (0.93, 1.07)
_LATEST_START_S = 2.5
_SHELF_DB = 4.0
_LOW_SHELF_HZ = (80.0, 300.0)
_HIGH_SHELF_HZ = (2000.0, 8000.0)
_GAIN_DB = (-20.0, 6.0)
_HIGHEST_CORNER = 0.4


@dataclass(frozen=True, slots=True)
class Alteration:
    """One way to play a song. speed: 1 is the original; start_s: seconds of the file that are skipped."""

    speed: float
    start_s: float
    gain_db: float
    low_shelf_hz: float
    low_shelf_db: float
    high_shelf_hz: float
    high_shelf_db: float


@dataclass(frozen=True, slots=True)
class AlteredExtraction:
    """Settings for `extract_altered`: the extraction's, and which copy of the songs to make (1, 2, …)."""

    extraction: ExtractionSettings
    copy: int


def alteration(path: Path, copy: int) -> Alteration:
    """The alteration of a file's n-th copy; deterministic."""
    rng = np.random.default_rng([zlib.crc32(path.stem.encode()), copy])
    return Alteration(
        speed=float(rng.uniform(*_SPEED)),
        start_s=float(rng.uniform(0.0, _LATEST_START_S)),
        gain_db=float(rng.uniform(*_GAIN_DB)),
        low_shelf_hz=float(rng.uniform(*_LOW_SHELF_HZ)),
        low_shelf_db=float(rng.uniform(-_SHELF_DB, _SHELF_DB)),
        high_shelf_hz=float(rng.uniform(*_HIGH_SHELF_HZ)),
        high_shelf_db=float(rng.uniform(-_SHELF_DB, _SHELF_DB)),
    )


def shelf(frequency_hz: float, gain_db: float, rate_hz: int, *, high: bool) -> npt.NDArray[np.float64]:
    """A shelving filter of slope 1 as one second-order section, shape (1, 6) (Bristow-Johnson's audio EQ cookbook)."""
    amplitude = 10.0 ** (gain_db / 40.0)
    omega = 2.0 * np.pi * frequency_hz / rate_hz
    sign = -1.0 if high else 1.0
    cosine = sign * np.cos(omega)
    root = 2.0 * np.sqrt(amplitude) * np.sin(omega) / np.sqrt(2.0)
    plus, minus = amplitude + 1.0, amplitude - 1.0
    b = [amplitude * (plus - minus * cosine + root), sign * 2.0 * amplitude * (minus - plus * cosine)]
    b.append(amplitude * (plus - minus * cosine - root))
    a = [plus + minus * cosine + root, sign * -2.0 * (minus + plus * cosine), plus + minus * cosine - root]
    section: npt.NDArray[np.float64] = np.array([[*b, *a]]) / a[0]
    return section


def altered_audio(path: Path, altered: Alteration) -> tuple[FloatArray, int]:
    """The altered audio, float32, shape (n_samples, n_channels), clipped at full scale like a sound card's, and its
    sample rate in Hz."""
    blocks = list(read_blocks(path))
    if not blocks:
        raise AudioFileError(too_short(path))
    rate_hz = blocks[0].rate_hz
    samples = np.concatenate([block.samples for block in blocks])[int(altered.start_s * rate_hz) :]
    if not len(samples):
        raise AudioFileError(too_short(path))
    # A shelf needs its corner well below half the sample rate.
    highest_hz = _HIGHEST_CORNER * rate_hz
    sections = np.concatenate(
        [
            shelf(min(altered.low_shelf_hz, highest_hz), altered.low_shelf_db, rate_hz, high=False),
            shelf(min(altered.high_shelf_hz, highest_hz), altered.high_shelf_db, rate_hz, high=True),
        ]
    )
    filtered = sosfilt(sections, samples, axis=0) * 10.0 ** (altered.gain_db / 20.0)
    return np.clip(filtered, -1.0, 1.0).astype(np.float32), round(rate_hz * altered.speed)


def extract_altered(path: Path, settings: AlteredExtraction) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """All frames of an altered copy: starts, shape (frames,), and values, shape (frames, n).

    A start is 1.0 s before the frame's end in the file's own time. Raises AudioFileError as `extract_file` does.
    """
    altered = alteration(path, settings.copy)
    samples, rate_hz = altered_audio(path, altered)
    blocks: Iterator[AudioBlock] = iter([AudioBlock(samples, 0.0, rate_hz)])
    starts_s, values = stacked(extract_stream(blocks, settings.extraction), path)
    return altered.start_s + (starts_s + FRAME_S) * altered.speed - FRAME_S, values


@dataclass(frozen=True, slots=True)
class GainExtraction:
    """Settings for `extract_at_gain`: the extraction's, and the input gain."""

    extraction: ExtractionSettings
    gain_db: float


def extract_at_gain(path: Path, settings: GainExtraction) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """All frames of a file played at another input gain into a 16-bit sound card, which clips and rounds.

    Returns starts, shape (frames,), and values, shape (frames, n). Raises AudioFileError as `extract_file` does.
    """
    gain = 10.0 ** (settings.gain_db / 20.0)
    blocks = (
        AudioBlock((to_int16(block.samples * gain) / 32768.0).astype(np.float32), block.start_s, block.rate_hz)
        for block in read_blocks(path)
    )
    return stacked(extract_stream(blocks, settings.extraction), path)


def describe_alterations(settings: AlteredExtraction | GainExtraction) -> str:
    """What the features depend on besides the extraction: these settings and the code of this file."""
    return f"{asdict(settings)} {Path(__file__).read_text(encoding='utf-8')}"
