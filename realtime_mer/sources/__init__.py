"""Where sound comes from: a sound card, a file, standard input, a recording, the built-in piece. One interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from realtime_mer.errors import RealtimeMerError
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

# FLAC's own limit: what is heard live can be recorded.
MAX_CHANNELS = 8


class SourceError(RealtimeMerError, RuntimeError):
    """A source that cannot be opened, or that ended in another way than by its end."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Some consecutive samples of a source.

    samples: float32, shape (n_samples, n_channels), full scale at -1 and 1, on the 24-bit grid (sources/grid.py).
    rate_hz: samples per second and channel; constant within a segment.
    segment: 0, 1, 2, …: where it changes, sound was interrupted (a device lost and found, paused, or exchanged for
        another), and a new stream begins.
    dropped_samples: how many samples per channel were lost right before these, in the same segment, by overload.
    captured_s: time.monotonic() when the last of them came in; None where the sound is not live.
    """

    samples: FloatArray
    rate_hz: int
    segment: int
    dropped_samples: int
    captured_s: float | None


class Source(Protocol):
    """Where sound comes from. One thread calls all of this; `state` and what else is read-only may be read by any.

    name: for people. state, detail: what it is doing, and why (a sentence, or nothing). overflows: as in Status.
    dropped_blocks: whole blocks lost by overload so far. replaced_samples: samples that were no numbers so far.
    interrupted_by_pause: whether sound goes on meanwhile, so that what comes after a pause is another segment.
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
        """Opens it. Raises SourceError, in a sentence with the cure, where that is impossible."""
        ...

    def read(self) -> Capture | None:
        """What has come in since the last call; None when nothing has. Never waits for sound.

        Raises SourceError where the source breaks. After the end, `state` is ENDED and nothing comes any more.
        """
        ...

    def close(self) -> None:
        """Gives everything back, within a second. Harmless when called twice."""
        ...
