"""A recording as a source."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from functools import partial

import numpy as np

from realtime_mer.recording import RecordingError
from realtime_mer.recording.reader import RecordedSegment, Recording, read_segment
from realtime_mer.sources import Capture, SourceError
from realtime_mer.sources.paced import PacedSource


class RecordingSource(PacedSource):
    """The captures of a recording, in other pieces: the same samples, segments and drops, at the same positions.

    In real time, dropped sound takes its time; the time between two segments is unknown and takes none.
    `read` raises SourceError if the recorded sound is damaged.
    """

    def __init__(self, recording: Recording, *, fast: bool) -> None:
        super().__init__(recording.directory.name, partial(_recorded_captures, recording), fast=fast)


def _recorded_captures(recording: Recording) -> Generator[Capture, None, None]:
    for segment in recording.segments:
        try:
            yield from _segment_captures(segment)
        except RecordingError as error:
            raise SourceError(str(error)) from error


def _segment_captures(segment: RecordedSegment) -> Generator[Capture, None, None]:
    drops = deque(segment.drops)
    position = 0

    def dropped_here() -> int:
        dropped_samples = 0
        while drops and drops[0].at_sample == position:
            dropped_samples += drops.popleft().n_samples
        return dropped_samples

    for block in read_segment(segment):
        rest = block
        while len(rest):
            dropped_samples = dropped_here()
            n_samples = min(len(rest), drops[0].at_sample - position) if drops else len(rest)
            yield Capture(rest[:n_samples], segment.rate_hz, segment.segment, dropped_samples, None)
            position += n_samples
            rest = rest[n_samples:]
    dropped_samples = dropped_here()
    if dropped_samples:
        nothing = np.empty((0, segment.n_channels), dtype=np.float32)
        yield Capture(nothing, segment.rate_hz, segment.segment, dropped_samples, None)
