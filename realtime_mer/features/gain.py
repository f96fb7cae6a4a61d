"""The gain stage: brings music of any input gain to one level, causally, from the first hop on.

Live input does not have the level of the mastered files that the model was trained on. The gain follows the music's own
mean square, so a constant input gain has no effect; it follows slowly, so a song keeps its dynamics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from realtime_mer.types import FloatArray

# A hop's mean square counts as at most +6 dBFS, or 13 dB above the momentary level: a few bad samples must not hold the
# gain down for minutes, but a file of floats may be far above full scale throughout.
_LOUDEST = 4.0
_LARGEST_JUMP = 20.0
_LARGEST_DB = 200.0


@dataclass(frozen=True, slots=True)
class GainSettings:
    """The settings of the gain stage. They belong to the model, which was trained behind it.

    target_db: RMS that the long-term level is brought to, dBFS.
    memory_s: time constant of the long-term level; until it has passed, the level is the plain mean so far.
    headroom_db: how far the momentary level (over momentary_s) may exceed the target. If it would exceed it further, as
        in a loud entry after a quiet start, the gain is reduced at once.
    gate_db: hops below this input level, dBFS, are not music and leave the gain as it is.
    max_gain_db: the gain's limit, in both directions.
    """

    target_db: float = -20.0
    memory_s: float = 20.0
    momentary_s: float = 0.4
    headroom_db: float = 9.0
    gate_db: float = -70.0
    max_gain_db: float = 50.0

    def __post_init__(self) -> None:
        for name in ("target_db", "memory_s", "momentary_s", "headroom_db", "gate_db", "max_gain_db"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ValueError(f"The gain stage's {name} must be a finite number, not {value}.")
            if name.endswith("_db") and abs(value) > _LARGEST_DB:
                raise ValueError(f"The gain stage's {name} must lie within ±{_LARGEST_DB:g} dB, not at {value}.")
        for name in ("memory_s", "momentary_s", "max_gain_db"):
            if getattr(self, name) <= 0:
                raise ValueError(f"The gain stage's {name} must be positive, not {getattr(self, name)}.")


class GainStage:
    """A causal, slow automatic gain, linear within hops of 10 ms.

    `step` takes mono samples, float32 (n_samples,), and returns the levelled samples of the completed hops; `flush`
    returns the rest. Use a new stage for a new stream.

    The long-term mean square m is a leaky mean over hops whose window grows until memory_s is reached,
    m[n] = m[n-1] + (x[n] - m[n-1]) · max(1/n, 1 - exp(-hop/memory)); the gain is sqrt(target / max(m, momentary /
    headroom)). Except for the gate and the limits, all of it scales with the input, so a constant gain has no effect.
    """

    def __init__(self, settings: GainSettings, rate_hz: int) -> None:
        self.settings = settings
        self.rate_hz = float(rate_hz)
        self._hop_samples = rate_hz // 100
        self.latency_s = self._hop_samples / rate_hz
        self.receptive_field_s = math.inf
        hop_s = self._hop_samples / rate_hz
        self._long_weight = 1.0 - math.exp(-hop_s / settings.memory_s)
        self._momentary_weight = 1.0 - math.exp(-hop_s / settings.momentary_s)
        self._target: float = 10.0 ** (settings.target_db / 10.0)
        self._headroom: float = 10.0 ** (settings.headroom_db / 10.0)
        self._gate: float = 10.0 ** (settings.gate_db / 10.0)
        self._max_gain: float = 10.0 ** (settings.max_gain_db / 20.0)
        self._pending: FloatArray = np.empty(0, dtype=np.float32)
        self._music_hops = 0
        self._long = 0.0
        self._momentary = 0.0
        self._gain: float | None = None

    @property
    def gain_db(self) -> float:
        """The present gain, in dB; 0 before any music."""
        return 0.0 if self._gain is None else 20.0 * math.log10(self._gain)

    def step(self, samples: FloatArray) -> FloatArray:
        """The levelled samples of every hop that `samples` completes, float32, shape (n,)."""
        self._pending = np.concatenate([self._pending, samples])
        n_hops = len(self._pending) // self._hop_samples
        whole = self._pending[: n_hops * self._hop_samples].reshape(n_hops, self._hop_samples)
        self._pending = self._pending[n_hops * self._hop_samples :]
        return self._level(whole).reshape(-1)

    def flush(self) -> FloatArray:
        """The levelled samples of the last, incomplete hop."""
        rest, self._pending = self._pending[np.newaxis], self._pending[:0]
        return self._level(rest).reshape(-1) if rest.size else rest.reshape(-1)

    def _level(self, hops: FloatArray) -> FloatArray:
        mean_squares = np.mean(np.square(hops, dtype=np.float64), axis=1)
        ramp = np.arange(1, hops.shape[1] + 1) / max(hops.shape[1], 1)
        levelled = np.empty_like(hops)
        for i, mean_square in enumerate(mean_squares):
            after = self._gain_after(float(mean_square))
            before = after if self._gain is None else self._gain
            levelled[i] = hops[i] * (before + (after - before) * ramp)
            if self._music_hops:
                self._gain = after
        return levelled

    def _gain_after(self, mean_square: float) -> float:
        if mean_square < self._gate:
            return 1.0 if self._gain is None else self._gain
        if self._music_hops:
            mean_square = min(mean_square, max(_LOUDEST, _LARGEST_JUMP * self._momentary))
        self._music_hops += 1
        self._long += (mean_square - self._long) * max(1.0 / self._music_hops, self._long_weight)
        self._momentary += (mean_square - self._momentary) * max(1.0 / self._music_hops, self._momentary_weight)
        level = max(self._long, self._momentary / self._headroom)
        gain = math.sqrt(self._target / level)
        return min(max(gain, 1.0 / self._max_gain), self._max_gain)
