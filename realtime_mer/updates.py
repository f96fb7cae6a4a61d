"""What goes out of the live path: predictions, and how the whole thing is. Frozen values, safe between threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from realtime_mer.types import Prediction

# Whether what was asked for was done, and what came of it or why not; called once, now or later, by any thread.
Answer = Callable[[bool, str], None]


class SourceState(StrEnum):
    """What the sound's source is doing."""

    OPENING = "opening"
    RUNNING = "running"
    PAUSED = "paused"
    LOST = "lost"
    ENDED = "ended"


class LevelState(StrEnum):
    """What the input's level says: usable music, or what is wrong with it."""

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
    """How the live path is.

    source: the source's name. state: what it does; detail: why, where that is not plain (a sentence, or nothing).
    time_s: stream time heard so far. level: None before the first sound.
    gain_db: of the level stage; nan where that is not known, as of an older recording.
    dropped_blocks, dropped_s: sound lost because the pipeline could not keep up. overflows: how often the sound card's
        own buffer ran over before we were given its sound (how much was lost then, it does not tell).
    replaced_samples: samples that were no numbers. losses: how often the device was lost; lost_s: for how long in all.
    recording: the folder being recorded into; recording_fault: why the recording is incomplete.
    ignored_packets: what came to the control port and was no command.
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
    """A moment of stream time that somebody marked: its number, and what was said of it, perhaps nothing."""

    time_s: float
    number: int
    text: str = ""


class Sink(Protocol):
    """Where predictions go. Called by the thread that recognises: neither call may wait for anything."""

    def update(self, update: Update) -> None:
        """A new prediction, twice a second."""
        ...

    def status(self, status: Status) -> None:
        """How things are: at every change of state, and ten times a second."""
        ...

    def close(self) -> None:
        """The end; what was taken in has got where it should when this returns."""
        ...


class Board:
    """The sink that displays read, whenever it suits them: the latest status, and the updates and marks since they last
    looked.

    One thread writes, one reads. history: how many of each wait for a reader at most; the oldest go first.
    """

    def __init__(self, source: str, history: int = 240) -> None:
        self.latest_status = Status(source, SourceState.OPENING)
        self._updates: deque[Update] = deque(maxlen=history)
        self._marks: deque[Marked] = deque(maxlen=history)

    def update(self, update: Update) -> None:
        self._updates.append(update)

    def status(self, status: Status) -> None:
        self.latest_status = status

    def mark(self, number: int) -> None:
        """Somebody has marked this moment, as far as the latest status knows the time."""
        self._marks.append(Marked(self.latest_status.time_s, number))

    def close(self) -> None:
        """Nothing: a board holds nothing that has to get anywhere."""

    def take_updates(self) -> list[Update]:
        """The updates that came since the last call, oldest first."""
        return [self._updates.popleft() for _ in range(len(self._updates))]

    def take_marks(self) -> list[Marked]:
        """The marks that came since the last call, oldest first."""
        return [self._marks.popleft() for _ in range(len(self._marks))]
