"""Mixes a movement: notes at their times, positions between left and right, one room, one limiter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import fft

from realtime_mer.demo.instruments import room, samples_in
from realtime_mer.types import FloatArray

# Peaks stay below the ceiling (-1.1 dBFS); samples below the knee are not changed.
_CEILING = 0.88
_KNEE = 0.5


class Mix:
    """One movement as it is mixed. length_s: its length, with the ringing of the last notes."""

    def __init__(self, length_s: float) -> None:
        self._dry: FloatArray = np.zeros((2, samples_in(length_s)), dtype=np.float32)
        self._send: FloatArray = np.zeros(samples_in(length_s), dtype=np.float32)
        self._played: dict[tuple[Any, ...], FloatArray] = {}

    def play(
        self,
        start_s: float,
        instrument: Callable[..., FloatArray],
        *arguments: Any,
        level_db: float,
        pan: float = 0.0,
        wet: float = 0.0,
        **settings: Any,
    ) -> None:
        """Adds one note, drum or line: the sound that `instrument` returns for these arguments, which is cached.

        level_db: relative to the sound's own level. pan: -1 left to 1 right, at constant power. wet: amplitude sent to
        the room. Sound beyond the movement's end is cut off.
        """
        key = (instrument, *arguments, *sorted(settings.items()))
        sound = self._played.get(key)
        if sound is None:
            sound = self._played[key] = instrument(*arguments, **settings)
        start = samples_in(start_s)
        kept = sound[: max(self._send.size - start, 0)]
        stop = start + kept.size
        level = 10.0 ** (level_db / 20.0)
        angle = (pan + 1.0) * math.pi / 4.0
        self._dry[0, start:stop] += np.float32(level * math.cos(angle)) * kept
        self._dry[1, start:stop] += np.float32(level * math.sin(angle)) * kept
        if wet > 0.0:
            self._send[start:stop] += np.float32(level * wet) * kept

    def finish(self, room_s: float, level_db: float, fade_s: float) -> FloatArray:
        """The mix in a room whose sound decays in room_s, at an RMS of level_db (dBFS), faded out over its last fade_s.

        Returns float32, shape (n_samples, 2), before the limiter.
        """
        response = room(room_s)
        n_samples = self._send.size
        n = fft.next_fast_len(n_samples + response.shape[1], real=True)
        wet = fft.irfft(fft.rfft(self._send, n) * fft.rfft(response, n), n)[:, :n_samples]
        mixed = self._dry + wet
        mixed *= np.float32(10.0 ** (level_db / 20.0) / math.sqrt(float(np.mean(mixed**2))))
        n_fade = samples_in(fade_s)
        mixed[:, n_samples - n_fade :] *= np.linspace(1.0, 0.0, n_fade, dtype=np.float32) ** 2
        return np.ascontiguousarray(mixed.T, dtype=np.float32)


def limited(samples: FloatArray) -> FloatArray:
    """The samples with their peaks bent, smoothly, below the ceiling of -1.1 dBFS."""
    span = np.float32(_CEILING - _KNEE)
    size = np.abs(samples)
    bent = _KNEE + span * np.tanh(np.maximum(size - _KNEE, 0.0) / span)
    return np.where(size <= _KNEE, samples, np.copysign(bent, samples)).astype(np.float32)
