"""The output of the live path: predictions and its status. Frozen values, safe between threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from realtime_mer.types import Prediction

# Whether a request was carried out, and its result or the reason why not. Called once, now or later, by any thread.
Answer = Callable[[bool, str], None]


class SourceState(StrEnum):
    """The state of the source."""

    OPENING = "opening"
    RUNNING = "running"
    PAUSED = "paused"
    LOST = "lost"
    ENDED = "ended"


class LevelState(StrEnum):
    """The state of the input's level: usable music, or what is wrong with it."""

    MUSIC = "music"
    QUIET = "too quiet"
    CLIPPING = "clipping"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class InputLevel:
    """The input's level over the last moments, dBFS (full-scale square wave 0, never below -120), and its state."""

    peak_db: float
    rms_db: float
    state: LevelState


@dataclass(frozen=True, slots=True)
class Update:
    """One prediction as it goes out.

    index: 0, 1, 2, … since the program began, even if the device was lost meanwhile.
    prediction: at its time, the end of its frame, which never falls.
    held: whether its values are those of the last music (0 before any), because this frame ended in silence. Then it
        has no attention.
    latency_s: from the capture of the frame's last sample to this update; None if the sound is not live.
    quadrant: 1 to 4 as in moods.QUADRANTS, with hysteresis; 0 before any music.
    """

    index: int
    prediction: Prediction
    held: bool
    latency_s: float | None
    quadrant: int = 0

    @property
    def time_s(self) -> float:
        """Stream time of the end of the frame that it is about."""
        return self.prediction.time_s


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the live path.

    source: the source's name. state: its state; detail: the reason, if it needs one (a sentence, or empty).
    time_s: stream time processed so far. level: None before the first sound.
    gain_db: of the gain stage; nan if it is not known, as in an older recording.
    dropped_blocks, dropped_s: sound lost because the pipeline could not keep up. overflows: how often the sound card's
        own buffer overflowed (it does not report how much was lost).
    replaced_samples: samples that were not numbers. losses: how often the device was lost; lost_s: for how long in all.
    recording: the folder of the present recording; recording_fault: why the recording is incomplete.
    ignored_packets: packets to the control port that were not commands.
    """

    source: str
    state: SourceState
    detail: str = ""
    time_s: float = 0.0
    level: InputLevel | None = None
    gain_db: float = 0.0
    dropped_blocks: int = 0
    dropped_s: float = 0.0
    overflows: int = 0
    replaced_samples: int = 0
    losses: int = 0
    lost_s: float = 0.0
    recording: str | None = None
    recording_fault: str = ""
    ignored_packets: int = 0


@dataclass(frozen=True, slots=True)
class Marked:
    """A marked moment of stream time, with its number and its text, which may be empty."""

    time_s: float
    number: int
    text: str = ""


class Sink(Protocol):
    """Where predictions go. Called by the recognition thread: no call may wait for anything."""

    def update(self, update: Update) -> None:
        """A new prediction."""
        ...

    def status(self, status: Status) -> None:
        """The status, at every change of state and ten times a second."""
        ...

    def close(self) -> None:
        """The end. Returns when everything has been delivered."""
        ...


class Board:
    """The sink that displays poll: the latest status, and the updates and marks since the last poll.

    One thread writes, one reads. history: how many updates and marks wait at most; the oldest are dropped first.
    """

    def __init__(self, source: str, history: int = 2_400) -> None:
        self.latest_status = Status(source, SourceState.OPENING)
        self._updates: deque[Update] = deque(maxlen=history)
        self._marks: deque[Marked] = deque(maxlen=history)

    def update(self, update: Update) -> None:
        self._updates.append(update)

    def status(self, status: Status) -> None:
        self.latest_status = status

    def mark(self, number: int) -> None:
        """Adds a mark at the time of the latest status."""
        self._marks.append(Marked(self.latest_status.time_s, number))

    def close(self) -> None:
        """Nothing to do."""

    def take_updates(self) -> list[Update]:
        """The updates since the last call, oldest first."""
        return [self._updates.popleft() for _ in range(len(self._updates))]

    def take_marks(self) -> list[Marked]:
        """The marks since the last call, oldest first."""
        return [self._marks.popleft() for _ in range(len(self._marks))]
