"""Sources of existing sound, in real time or as fast as possible; they can be paused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace

from realtime_mer.sources import Capture, SourceError
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FloatArray
from realtime_mer.updates import SourceState

# As from a sound card.
_BLOCK_S = 0.01
# After a longer stall (a busy machine, a suspended process), the rest of the sound comes that much later.
_MOST_BEHIND_S = 0.5


class PacedSource:
    """A source whose sound comes from a generator of captures.

    In real time, `read` returns the sound that is due by the clock since `start`, without the pauses, in pieces of at
    least 10 ms; `captured_s` is the time at which the last of it was due. Dropped sound takes its time too. A late
    reader gets at most half a second; beyond that, the schedule moves: nothing is lost or piled up.
    When fast, `read` returns the generator's next piece, and `captured_s` is None.

    open_captures: starts the generator. Its pieces should be at most half a second; they are put on the 24-bit grid
    here. It may raise SourceError, and so may its pieces.
    Any thread may call `pause` and `resume`.
    """

    overflows = 0
    interrupted_by_pause = False
    dropped_blocks = 0
    detail = ""

    def __init__(self, name: str, open_captures: Callable[[], Generator[Capture, None, None]], *, fast: bool) -> None:
        self._name = name
        self._open_captures = open_captures
        self._fast = fast
        self._lock = threading.Lock()
        self._captures: Generator[Capture, None, None] | None = None
        self._piece: Capture | None = None
        self._given_samples = 0
        self._next_due_s = 0.0
        self._paused_s: float | None = None
        self._ended = False
        self._replaced_samples = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def state(self) -> SourceState:
        if self._ended:
            return SourceState.ENDED
        if self._captures is None:
            return SourceState.OPENING
        return SourceState.RUNNING if self._paused_s is None else SourceState.PAUSED

    @property
    def replaced_samples(self) -> int:
        return self._replaced_samples

    def start(self) -> None:
        with self._lock:
            self._captures = self._open_captures()
            self._advance()
            now_s = time.monotonic()
            self._next_due_s += now_s
            if self._paused_s is not None:
                self._paused_s = now_s

    def read(self) -> Capture | None:
        with self._lock:
            if self.state is not SourceState.RUNNING:
                return None
            if self._piece is None:
                self._advance()
            piece = self._piece
            if piece is None:
                return None
            if self._fast:
                return self._take(len(piece.samples), None)
            now_s = time.monotonic()
            # At very low rates, one sample is longer than that.
            self._next_due_s = max(self._next_due_s, now_s - max(_MOST_BEHIND_S, 2.0 / piece.rate_hz))
            remaining_samples = len(piece.samples) - self._given_samples
            n_samples = min(int((now_s - self._next_due_s) * piece.rate_hz), remaining_samples)
            if n_samples < min(int(_BLOCK_S * piece.rate_hz) or 1, remaining_samples):
                return None
            self._next_due_s += n_samples / piece.rate_hz
            return self._take(n_samples, self._next_due_s)

    def pause(self) -> None:
        """Stops the sound and the clock until `resume`. Can be called twice."""
        with self._lock:
            if self._paused_s is None:
                self._paused_s = time.monotonic()

    def resume(self) -> None:
        """Goes on where `pause` stopped it. Has no effect otherwise."""
        with self._lock:
            if self._paused_s is not None:
                self._next_due_s += time.monotonic() - self._paused_s
                self._paused_s = None

    def close(self) -> None:
        with self._lock:
            self._end()

    def _advance(self) -> None:
        """Gets the next piece, or ends."""
        assert self._captures is not None
        try:
            piece = next(self._captures, None)
        except SourceError:
            self._end()
            raise
        if piece is None:
            self._end()
            return
        samples, n_replaced = on_grid(piece.samples)
        self._replaced_samples += n_replaced
        self._piece, self._given_samples = replace(piece, samples=samples), 0
        self._next_due_s += piece.dropped_samples / piece.rate_hz

    def _take(self, n_samples: int, captured_s: float | None) -> Capture:
        """The piece's next samples."""
        piece, first = self._piece, self._given_samples
        assert piece is not None
        samples: FloatArray = piece.samples[first : first + n_samples]
        self._given_samples += n_samples
        if self._given_samples == len(piece.samples):
            self._piece = None
        dropped_samples = piece.dropped_samples if first == 0 else 0
        return Capture(samples, piece.rate_hz, piece.segment, dropped_samples, captured_s)

    def _end(self) -> None:
        self._ended = True
        self._piece = None
        if self._captures is not None:
            self._captures.close()
