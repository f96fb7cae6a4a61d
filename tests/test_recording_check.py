"""Comparing a replay with its recording: the smallest difference counts, the latency does not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from predictions import with_prediction
from recordings import good_recording, update

from realtime_mer.recording.check import ReplayCheck
from realtime_mer.recording.reader import Recording, read_recording
from realtime_mer.updates import SourceState, Status, Update


@pytest.fixture
def good(tmp_path: Path) -> Recording:
    return read_recording(good_recording(tmp_path / "recording"))


def checked(of: Recording, updates: list[Update]) -> ReplayCheck:
    check = ReplayCheck(of)
    for one in updates:
        check.update(one)
    check.status(Status("recording", SourceState.ENDED))
    check.close()
    return check


def test_values_that_are_not_recorded_do_not_count(good: Recording) -> None:
    again = [
        update(0),
        update(1),
        replace(with_prediction(update(2, held=True), confidence=0.5), latency_s=None, quadrant=2),
    ]
    assert checked(good, again).identical


@pytest.mark.parametrize(
    "other",
    [
        update(1, math.nextafter(0.25, 1.0)),
        update(1, arousal=math.nextafter(-0.5, 0.0)),
        update(1, held=True),
        replace(update(1), index=2),
        with_prediction(update(1), time_s=math.nextafter(1.5, 2.0)),
    ],
)
def test_the_smallest_difference_is_reported(good: Recording, other: Update) -> None:
    check = checked(good, [update(0), other, update(2, 0.5, held=True)])
    assert not check.identical
    held = ", held" if other.held else ""
    values = f"{other.prediction.valence!r}, {other.prediction.arousal!r}"
    assert check.verdict() == (
        "2 of 3 predictions differ from the recorded ones, by 0.25 at most. The first: index 1 at 1.5 s: 0.25, -0.5 "
        f"then, index {other.index} at {other.time_s!r} s: {values}{held} now."
    )


@pytest.mark.parametrize("n_updates", [2, 4])
def test_another_number_is_a_difference_unless_the_end_is_missing_or_open(good: Recording, n_updates: int) -> None:
    again = [update(0), update(1), update(2, held=True), update(3)][:n_updates]
    for recorded, identical in (
        (good, False),
        (replace(good, fault="The recording was cut off."), True),
        (replace(good, open_end=True), n_updates > 3),
    ):
        check = checked(recorded, again)
        assert check.identical == identical
        assert check.verdict() == (
            f"All {min(n_updates, 3)} predictions that were compared are identical to the recorded ones. "
            f"3 were recorded, {n_updates} replayed."
        )
