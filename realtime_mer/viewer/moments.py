"""A recording by stream time: what was known, and how things were, at any moment of it. Pure; no Qt, no files opened.

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

# Two moments that differ by less are one: what a sum of many durations may be off by.
_SAME_S = 1e-6


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound in a file, without a gap in it.

    first_sample, n_samples: per channel, which part of the file at `path` it is. start_s: of its first sample.
    """

    path: Path
    rate_hz: int
    first_sample: int
    n_samples: int
    start_s: float

    @property
    def end_s(self) -> float:
        """The end of its last sample."""
        return self.start_s + self.n_samples / self.rate_hz


@dataclass(frozen=True, slots=True)
class Loss:
    """Sound that is not there. For dropped sound, duration_s lies before time_s; while the device was lost, stream time
    stood still."""

    time_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """From start_s to end_s: music in a quadrant, 1 to 4, or, where held, silence, in which the quadrant is that of
    before; 0 is none."""

    start_s: float
    end_s: float
    quadrant: int
    held: bool


@dataclass(frozen=True, slots=True)
class Take:
    """What there is to be seen and heard, from start_s to end_s.

    name: the sound's source, for people. updates: rising in time. pieces: rising in time, gaps in between are silent.
    folder: of the recording, None for an audio file. fault: why it is not whole, or nothing.
    breaks: where the sound was interrupted. drops: sound lost to overload. losses: of the device.
    trail_s: for how long the point's trail was to be seen. gains_db: of the level stage, one for each update, None
    where it is not known; none at all where none is. tells_errors: whether one without an expected error had none.
    """

    name: str
    start_s: float
    end_s: float
    updates: tuple[Update, ...]
    pieces: tuple[Piece, ...]
    meter: LevelMeterSettings
    trail_s: float
    folder: Path | None = None
    fault: str = ""
    marks: tuple[Marked, ...] = ()
    breaks: tuple[float, ...] = ()
    drops: tuple[Loss, ...] = ()
    losses: tuple[Loss, ...] = ()
    gains_db: tuple[float | None, ...] = ()
    tells_errors: bool = True

    @property
    def length_s(self) -> float:
        """From its start to its end."""
        return self.end_s - self.start_s


class Moments:
    """Looks up what was known at a moment of a take: at an update's time, that update is."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self._times_s = [update.time_s for update in take.updates]

    def clamped(self, time_s: float) -> float:
        """The moment, or the end of the take that it lies beyond."""
        return min(max(time_s, self.take.start_s), self.take.end_s)

    def n_known(self, time_s: float) -> int:
        """How many updates had come by then."""
        return bisect_right(self._times_s, time_s + _SAME_S)

    def next_s(self, time_s: float) -> float:
        """When the next update came; the end where none did."""
        index = self.n_known(time_s)
        return self._times_s[index] if index < len(self._times_s) else self.take.end_s

    def previous_s(self, time_s: float) -> float:
        """When the last update before this moment came; the start where none did."""
        index = bisect_left(self._times_s, time_s - _SAME_S)
        return self._times_s[index - 1] if index else self.take.start_s

    def status(self, time_s: float, level: InputLevel | None) -> Status:
        """How things were; level: of the sound then."""
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
            recording=None if take.folder is None else str(take.folder),
            recording_fault=take.fault,
        )

    def runs(self) -> list[Run]:
        """The whole take from its first update on, in as few runs as it has."""
        updates = self.take.updates
        runs = []
        kinds = itertools.groupby(updates, key=lambda update: (update.quadrant, update.held))
        starts = [(next(group).time_s, *kind) for kind, group in kinds]
        for (start_s, quadrant, held), following in itertools.zip_longest(starts, starts[1:]):
            runs.append(Run(start_s, self.take.end_s if following is None else following[0], quadrant, held))
        return runs


def with_quadrants(updates: Iterable[Update], settings: QuadrantSettings) -> Iterator[Update]:
    """The updates, each with the quadrant that went out with it; a recording has none."""
    tracker = QuadrantTracker(settings.hysteresis, settings.dwell_s)
    for update in updates:
        if not update.held:
            tracker.step(update.prediction.valence, update.prediction.arousal, update.time_s)
        yield replace(update, quadrant=tracker.quadrant)
