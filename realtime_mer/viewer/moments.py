"""A recording by stream time: the predictions and the status at any moment. No Qt, no files opened.

All times are seconds of stream time, as in a recording's tables.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from realtime_mer.config import LevelMeterSettings, QuadrantSettings
from realtime_mer.live.quadrant import QuadrantTracker
from realtime_mer.updates import InputLevel, Marked, SourceState, Status, Update

# Moments that differ by less are the same: a sum of many durations may be off by this.
_SAME_S = 1e-6
_QUADRANT_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a sound file without a gap: n_samples per channel from first_sample on. start_s: of its first
    sample."""

    path: Path
    rate_hz: int
    first_sample: int
    n_samples: int
    start_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.n_samples / self.rate_hz


@dataclass(frozen=True, slots=True)
class Loss:
    """Missing sound. For dropped sound, duration_s is before time_s; while the device was lost, stream time stood
    still."""

    time_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch in one quadrant, 1 to 4 (0: none). held: silence, in which the quadrant stays that of before."""

    start_s: float
    end_s: float
    quadrant: int
    held: bool


@dataclass(frozen=True, slots=True)
class Take:
    """Everything to show and play, from start_s to end_s.

    name: the sound's source, as text. updates: rising in time. pieces: rising in time; gaps in between are silent.
    fault: why it is incomplete, or empty.
    breaks: where the sound was interrupted. drops: sound lost to overload. losses: of the device.
    trail_s: how long the point's trail takes to fade. gains_db: the gain stage's, one for each update (None: unknown);
    empty if all are unknown.
    """

    name: str
    start_s: float
    end_s: float
    updates: tuple[Update, ...]
    pieces: tuple[Piece, ...]
    meter: LevelMeterSettings
    trail_s: float
    fault: str = ""
    marks: tuple[Marked, ...] = ()
    breaks: tuple[float, ...] = ()
    drops: tuple[Loss, ...] = ()
    losses: tuple[Loss, ...] = ()
    gains_db: tuple[float | None, ...] = ()

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


class Moments:
    """Looks up what was known at a moment of a take. At an update's time, that update is known."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self._times_s = [update.time_s for update in take.updates]

    def clamped(self, time_s: float) -> float:
        return min(max(time_s, self.take.start_s), self.take.end_s)

    def n_known(self, time_s: float) -> int:
        """How many updates had come by then."""
        return bisect_right(self._times_s, time_s + _SAME_S)

    def next_s(self, time_s: float) -> float:
        """The time of the next update; the end if there is none."""
        index = self.n_known(time_s)
        return self._times_s[index] if index < len(self._times_s) else self.take.end_s

    def previous_s(self, time_s: float) -> float:
        """The time of the last update before this moment; the start if there is none."""
        index = bisect_left(self._times_s, time_s - _SAME_S)
        return self._times_s[index - 1] if index else self.take.start_s

    def status(self, time_s: float, level: InputLevel | None) -> Status:
        """The status at that time; level: of the sound then."""
        take = self.take
        dropped = [drop for drop in take.drops if drop.time_s <= time_s + _SAME_S]
        lost = [loss for loss in take.losses if loss.time_s <= time_s + _SAME_S]
        n_known = self.n_known(time_s)
        gain_db = take.gains_db[n_known - 1] if n_known and take.gains_db else None
        return Status(
            source=take.name,
            state=SourceState.RUNNING,
            time_s=time_s,
            level=level,
            gain_db=math.nan if gain_db is None else gain_db,
            dropped_blocks=len(dropped),
            dropped_s=math.fsum(drop.duration_s for drop in dropped),
            losses=len(lost),
            lost_s=math.fsum(loss.duration_s for loss in lost),
            recording_fault=take.fault,
        )

    def runs(self) -> list[Run]:
        """The whole take from its first update on."""
        kinds = itertools.groupby(self.take.updates, key=lambda update: (update.quadrant, update.held))
        starts = [(next(group).time_s, *kind) for kind, group in kinds]
        ends_s = [*(start_s for start_s, _, _ in starts[1:]), self.take.end_s]
        return [Run(start_s, end_s, *kind) for (start_s, *kind), end_s in zip(starts, ends_s, strict=False)]


def with_quadrants(updates: Iterable[Update], settings: QuadrantSettings) -> Iterator[Update]:
    """The updates, each with the quadrant that was sent with it; a recording does not hold it."""
    tracker = QuadrantTracker(settings.hysteresis, settings.dwell_s)
    next_s = -math.inf
    for update in updates:
        # As in a session: at half seconds only, at any rate.
        if update.time_s > next_s - _SAME_S:
            next_s = update.time_s + _QUADRANT_STEP_S
            if not update.held:
                tracker.step(update.prediction.valence, update.prediction.arousal, update.time_s)
        yield replace(update, quadrant=tracker.quadrant)
