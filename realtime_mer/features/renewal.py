"""A feature engine for streams of any length: music without a pause gets a new engine every few hours.

openSMILE counts samples and frames in C longs, which have 32 bits on Windows and would overflow after 13.5 hours. So a
second engine begins at a frame's start and runs beside the first until its output has settled. Then it takes over
between two frames: no frame is lost or doubled, and indices and times go on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from realtime_mer.features.engine import (
    ENGINE_RATE_HZ,
    FRAME_S,
    HOP_S,
    MAX_POLLS,
    POLL_S,
    FeatureEngine,
    FeatureEngineError,
)
from realtime_mer.types import FeatureFrame, FloatArray

_HOP_SAMPLES = round(HOP_S * ENGINE_RATE_HZ)
# What the first engine needs past the warm-up for its last frame, rounded up to a hop.
_HANDOVER_S = FRAME_S + HOP_S
# Just below 2**31 samples.
_LONGEST_LIFE_S = 13 * 3600.0


@dataclass(frozen=True, slots=True)
class RenewalSettings:
    """When engines are renewed, in seconds of sound, multiples of a hop (0.5 s).

    period_s: from one engine's first sample to the next one's.
    warm_up_s: for how long a new engine's frames are not used. After 5 s, 248 of its 260 values equal the old engine's
        bit for bit. The 12 deltas of the voice (F0, voicing, jitter, shimmer, HNR) never do: openSMILE divides them by
        a count of all voiced frames since its start (cDeltaRegression with onlyInSegments), so they shrink with its
        age. A takeover after two minutes moved the shipped model's predictions by .0041 at most; from one to the next
        they move by .016 in the mean (results/renewal.md).

    Raises ValueError if no takeover is possible, or an engine would run for more than 13 hours.
    """

    period_s: float = 6 * 3600.0
    warm_up_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("period_s", "warm_up_s"):
            value = getattr(self, name)
            if not (value > 0.0 and (value / HOP_S).is_integer()):
                raise ValueError(f"{name} must be a positive multiple of {HOP_S} s, not {value}.")
        if self.period_s < self.warm_up_s + _HANDOVER_S:
            raise ValueError(
                f"An engine's period must be at least {_HANDOVER_S} s longer than the warm-up of {self.warm_up_s} s, "
                f"not {self.period_s} s."
            )
        if self.period_s + self.warm_up_s + _HANDOVER_S > _LONGEST_LIFE_S:
            raise ValueError(
                f"An engine runs for at most {_LONGEST_LIFE_S:g} s, period and warm-up together, not for "
                f"{self.period_s:g} and {self.warm_up_s:g} s."
            )


@dataclass(slots=True)
class _Successor:
    """The engine that is warming up. begins_frame: the stream's index of its first frame; takes_over_frame: that of the
    first frame that it delivers."""

    engine: FeatureEngine
    begins_frame: int
    takes_over_frame: int


class RenewingEngine:
    """A FeatureEngine for a stream of any length: the same methods and, until the first renewal, the same frames, bit
    for bit. When engines are renewed depends only on the number of samples, not on how they are cut.

    n_renewals: how often a new engine has taken over so far. Raises what FeatureEngine raises.
    """

    def __init__(self, settings: RenewalSettings | None = None) -> None:
        settings = settings or RenewalSettings()
        self._period_samples = round(settings.period_s * ENGINE_RATE_HZ)
        self._warm_up_frames = round(settings.warm_up_s / HOP_S)
        self._engine = FeatureEngine()
        self._first_frame = 0  # the stream's frame that is the engine's first
        self._successor: _Successor | None = None
        self._ending: FeatureEngine | None = None
        self._ready: deque[FeatureFrame] = deque()
        self._written_samples = 0
        self._next_index = 0
        self.n_renewals = 0

    def write(self, samples: FloatArray) -> None:
        """As FeatureEngine.write."""
        start = 0
        while True:
            to_renewal = self._period_samples - self._written_samples % self._period_samples
            piece = samples[start : start + min(to_renewal, ENGINE_RATE_HZ)]
            self._engine.write(piece)
            if self._successor is not None:
                self._successor.engine.write(piece)
            start += len(piece)
            self._written_samples += len(piece)
            self._collect()
            if len(piece) == to_renewal:
                self._begin_successor()
            if start >= len(samples):
                return

    def frames(self) -> list[FeatureFrame]:
        """The frames since the last call; possibly none."""
        self._collect()
        if self._ending is not None and self._ending.has_ended:
            self._ending.close()
            self._ending = None
        return self._taken()

    def wait(self, timeout_s: float) -> None:
        """Returns when a frame is ready, or after `timeout_s`."""
        if not self._ready:
            self._engine.wait(timeout_s)

    def finish(self) -> list[FeatureFrame]:
        """Ends the stream and returns its remaining frames. The engine takes no more samples."""
        self._keep(self._engine.finish())
        if (successor := self._its_turn()) is not None:
            self._take_over(successor)
            self._keep(self._engine.finish())
        self.close()
        return self._taken()

    def close(self) -> None:
        """Stops all engines at once. Can be called twice."""
        self._engine.close()
        if self._successor is not None:
            self._successor.engine.close()
            self._successor = None
        if self._ending is not None:
            self._ending.close()
            self._ending = None

    def _taken(self) -> list[FeatureFrame]:
        taken = list(self._ready)
        self._ready.clear()
        return taken

    def _begin_successor(self) -> None:
        # If openSMILE is far behind, the last successor is still waiting.
        polls = 0
        while self._successor is not None:
            self._engine.wait(POLL_S)
            self._collect()
            polls += 1
            if polls > MAX_POLLS:
                raise FeatureEngineError("openSMILE is stuck: it no longer delivers frames.")
        begins_frame = self._written_samples // _HOP_SAMPLES
        self._successor = _Successor(FeatureEngine(), begins_frame, begins_frame + self._warm_up_frames)

    def _collect(self) -> None:
        """Takes the engine's frames; the successor takes over when its turn has come."""
        self._keep(self._engine.frames())
        if (successor := self._its_turn()) is not None:
            if self._ending is not None:
                self._ending.close()
            self._ending = self._engine
            # Its thread needs up to 60 ms to stop; don't wait for it.
            self._ending.end()
            self._take_over(successor)
            self._keep(self._engine.frames())

    def _its_turn(self) -> _Successor | None:
        successor = self._successor
        return successor if successor is not None and self._next_index == successor.takes_over_frame else None

    def _take_over(self, successor: _Successor) -> None:
        self._engine, self._first_frame = successor.engine, successor.begins_frame
        self._successor = None
        self.n_renewals += 1

    def _keep(self, frames: list[FeatureFrame]) -> None:
        """Keeps the engine's next frames, with the stream's indices and times."""
        last = None if self._successor is None else self._successor.takes_over_frame
        for frame in frames:
            index = self._first_frame + frame.index
            if index == self._next_index and index != last:
                self._ready.append(FeatureFrame(index, index * HOP_S, index * HOP_S + FRAME_S, frame.values))
                self._next_index += 1
