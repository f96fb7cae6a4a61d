"""Where sound comes from: a sound card, a file, standard input, a recording, the built-in piece. One interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from realtime_mer.errors import RealtimeMerError
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

# FLAC's own limit, so that all input can be recorded.
MAX_CHANNELS = 8


class SourceError(RealtimeMerError, RuntimeError):
    """A source that cannot be opened, or that broke off before its end."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Some consecutive samples of a source.

    samples: float32, shape (n_samples, n_channels), full scale at -1 and 1, on the 24-bit grid (sources/grid.py).
    rate_hz: samples per second and channel; constant within a segment.
    segment: 0, 1, 2, …: a change means that the sound was interrupted (a device was lost and found, paused, or replaced
        by another), and a new stream begins.
    dropped_samples: how many samples per channel were lost to overload right before these, in the same segment.
    captured_s: time.monotonic() when the last of them came in; None if the sound is not live.
    """

    samples: FloatArray
    rate_hz: int
    segment: int
    dropped_samples: int
    captured_s: float | None


class Source(Protocol):
    """Where sound comes from. One thread calls the methods; any thread may read the properties.

    name: for people. state, detail: as in Status. overflows, dropped_blocks, replaced_samples: as in Status, so far.
    interrupted_by_pause: whether the sound goes on during a pause, so that another segment begins after it.
    """

    @property
    def interrupted_by_pause(self) -> bool: ...

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> SourceState: ...

    @property
    def detail(self) -> str: ...

    @property
    def overflows(self) -> int: ...

    @property
    def dropped_blocks(self) -> int: ...

    @property
    def replaced_samples(self) -> int: ...

    def start(self) -> None:
        """Opens it. Raises SourceError with a sentence and the remedy if that is impossible."""
        ...

    def read(self) -> Capture | None:
        """The sound since the last call, or None. Never waits for sound.

        Raises SourceError if the source breaks. After the end, `state` is ENDED and there is no more sound.
        """
        ...

    def close(self) -> None:
        """Frees everything, within a second. Can be called twice."""
        ...
