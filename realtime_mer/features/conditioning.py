"""From a source's samples to the engine's: one channel at 44.1 kHz, finite numbers only.

The output is the same, bit for bit, however the input is cut into blocks. Use new objects for a new stream.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import soxr

from realtime_mer.features.engine import ENGINE_RATE_HZ
from realtime_mer.sources.grid import with_numbers_only
from realtime_mer.types import FloatArray

# HQ passes 20.5 kHz of 48 kHz input within 0.1 dB, its images and aliases lie below -120 dB, and its phase is linear.
# LQ would halve the latency but loses 16 dB at 19.5 kHz; MQ has the same latency, VHQ twice as much, without any gain
# in 16 bits. soxr's variable-rate mode has 5 ms, but it is experimental, its phase is not linear, and it changes the
# features a third more.
_QUALITY = "HQ"
# Length of the filter's response above -120 dB of its peak, in samples of the lower of the two rates.
_FILTER_LENGTH_SAMPLES = 200


class MonoMix:
    """The mean of the channels, as DEAM's audio was mixed: (left + right) / 2, not ffmpeg's 3 dB more.

    Unusable samples (`with_numbers_only`) become 0 before the mix: a NaN would never leave the recursive filters after
    it.

    rate_hz: samples per second and channel, in and out. Raises ValueError if it is not positive.
    """

    latency_s = 0.0

    def __init__(self, rate_hz: int) -> None:
        if rate_hz <= 0:
            raise ValueError(f"Sample rates must be positive, not {rate_hz} Hz.")
        self.rate_hz = float(rate_hz)
        self.receptive_field_s = 1.0 / rate_hz

    def step(self, samples: FloatArray) -> FloatArray:
        """samples: float32, shape (n_samples, n_channels) or (n_samples,). Returns float32, shape (n_samples,).

        Raises ValueError for another shape, no channel, or samples that are not float32.
        """
        if samples.dtype != np.float32:
            raise ValueError(f"Audio: expected float32 with full scale at -1 and 1, got {samples.dtype}.")
        channels = samples[:, np.newaxis] if samples.ndim == 1 else samples
        if channels.ndim != 2 or channels.shape[1] == 0:
            raise ValueError(f"Audio: expected shape (samples, channels) with 1 channel or more, got {samples.shape}.")
        channels, _ = with_numbers_only(channels)
        # Channel by channel: the order in which numpy sums over an axis may depend on the block's shape.
        total = channels[:, 0].astype(np.float64)
        for channel in range(1, channels.shape[1]):
            total += channels[:, channel]
        mono: FloatArray = (total / channels.shape[1]).astype(np.float32)
        return mono

    def flush(self) -> FloatArray:
        """Nothing: the mix has no delay."""
        return np.empty(0, dtype=np.float32)


class Resampler:
    """One channel from one sample rate to another, by soxr; equal rates pass through untouched.

    The output's first sample is at the time of the input's first (the filter's delay is removed), and a stream of n
    samples becomes n · rate_out / rate_in, rounded (an exact half either way). Output comes in bursts: soxr filters
    blocks in the frequency domain. From 48 kHz a sample waits for 2 to 19 ms, 11 in the mean; from 16 kHz, 7 to 58.

    rate_hz: the output's. latency_s: the longest wait of a sample.
    receptive_field_s: how much input around its own time an output sample depends on.

    Raises ValueError for a rate that is not positive.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int = ENGINE_RATE_HZ) -> None:
        if rate_in_hz <= 0 or rate_out_hz <= 0:
            raise ValueError(f"Sample rates must be positive, not {rate_in_hz} Hz in and {rate_out_hz} Hz out.")
        self.rate_hz = float(rate_out_hz)
        self._rates_hz = (rate_in_hz, rate_out_hz)
        self._stream = None if rate_in_hz == rate_out_hz else _new_stream(rate_in_hz, rate_out_hz)
        self.receptive_field_s = (
            1.0 / rate_in_hz if self._stream is None else _FILTER_LENGTH_SAMPLES / min(rate_in_hz, rate_out_hz)
        )
        self._flushed = False

    @property
    def latency_s(self) -> float:
        """The longest that a sample waits inside, in seconds."""
        return 0.0 if self._stream is None else _longest_wait_s(*self._rates_hz)

    def step(self, samples: FloatArray) -> FloatArray:
        """samples: the stream's next, float32, shape (n_samples,). Returns what is ready, float32, shape (n,).

        Raises ValueError for another shape or type, and after `flush`.
        """
        if self._flushed:
            raise ValueError("This resampler's stream has ended; a new stream needs a new Resampler.")
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"Expected one channel of float32, shape (samples,), got {samples.dtype} {samples.shape}.")
        if self._stream is None:
            return samples
        resampled: FloatArray = self._stream.resample_chunk(samples)
        return resampled

    def flush(self) -> FloatArray:
        """Ends the stream and returns its last samples, float32, shape (n,). A second call returns none."""
        nothing = np.empty(0, dtype=np.float32)
        if self._flushed or self._stream is None:
            self._flushed = True
            return nothing
        self._flushed = True
        rest: FloatArray = self._stream.resample_chunk(nothing, last=True)
        return rest


def _new_stream(rate_in_hz: int, rate_out_hz: int) -> Any:
    return soxr.ResampleStream(rate_in_hz, rate_out_hz, num_channels=1, dtype="float32", quality=_QUALITY)


@cache
def _longest_wait_s(rate_in_hz: int, rate_out_hz: int) -> float:
    # Measured, since soxr does not report it: ten seconds of silence, a millisecond at a time (20 ms of work, once).
    stream = _new_stream(rate_in_hz, rate_out_hz)
    piece = np.zeros(max(rate_in_hz // 1000, 1), dtype=np.float32)
    longest_s, sent, received = 0.0, 0, 0
    while sent < 10 * rate_in_hz:
        sent += len(piece)
        received += len(stream.resample_chunk(piece))
        longest_s = max(longest_s, sent / rate_in_hz - received / rate_out_hz)
    return longest_s + len(piece) / rate_in_hz
