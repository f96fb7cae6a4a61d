"""A clock for sources that play in real time: only the test moves it."""

from __future__ import annotations

import numpy as np
import pytest

from realtime_mer.sources import Capture, Source, paced
from realtime_mer.types import FloatArray


class FakeClock:
    """Takes the place of the module `time` in realtime_mer.sources.paced."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


def install_clock(patch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    patch.setattr(paced, "time", clock)
    return clock


def read_all(source: Source) -> list[Capture]:
    """All captures that are ready now."""
    captures = []
    while (capture := source.read()) is not None:
        captures.append(capture)
    return captures


def sound_of(captures: list[Capture]) -> FloatArray:
    return np.concatenate([capture.samples for capture in captures])
