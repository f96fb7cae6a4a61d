"""Moments of a take."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictions import with_prediction

from realtime_mer.config import LevelMeterSettings, QuadrantSettings
from realtime_mer.live.quadrant import QuadrantTracker
from realtime_mer.types import Prediction
from realtime_mer.updates import SourceState, Update
from realtime_mer.viewer.moments import Loss, Moments, Take, with_quadrants

VALUE = st.floats(-1.0, 1.0)


def take_of(updates: list[Update], *, start_s: float = 0.0, end_s: float = 1_000.0, **more: object) -> Take:
    meter = LevelMeterSettings()
    return Take("a song", start_s, end_s, tuple(updates), (), meter, 30.0, **more)  # type: ignore[arg-type]


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    steps = draw(st.lists(st.tuples(st.integers(0, 20), VALUE, VALUE, st.booleans()), max_size=40))
    made: list[Update] = []
    time_s = 1.0
    for index, (step, valence, arousal, held) in enumerate(steps):
        time_s += step / 10
        made.append(Update(index, Prediction(time_s, valence, arousal), held, None))
    return made


@given(updates(), st.floats(-10.0, 100.0))
def test_an_update_is_known_from_its_time_on(given: list[Update], time_s: float) -> None:
    moments = Moments(take_of(given))
    n = moments.n_known(time_s)
    assert all(update.time_s <= time_s + 1e-6 for update in given[:n])
    assert all(update.time_s > time_s for update in given[n:])


@given(updates())
def test_stepping_goes_through_every_prediction_and_back(given: list[Update]) -> None:
    moments = Moments(take_of(given))
    times_s = sorted({update.time_s for update in given})
    forth, now_s = [], 0.0
    for _ in range(len(times_s) + 1):
        now_s = moments.next_s(now_s)
        forth.append(now_s)
    assert forth == pytest.approx([*times_s, 1_000.0])
    back = []
    for _ in range(len(times_s) + 1):
        now_s = moments.previous_s(now_s)
        back.append(now_s)
    assert back == pytest.approx([*reversed(times_s), 0.0])


@given(updates())
def test_runs_cover_everything_from_the_first_update_on(given: list[Update]) -> None:
    known = list(with_quadrants(given, QuadrantSettings()))
    moments = Moments(take_of(known))
    runs = moments.runs()
    assert bool(runs) == bool(known)
    if runs:
        assert (runs[0].start_s, runs[-1].end_s) == (known[0].time_s, 1_000.0)
    for one, other in pairwise(runs):
        assert one.end_s == other.start_s
        assert (one.quadrant, one.held) != (other.quadrant, other.held)
    for update, following in pairwise(known):
        if update.time_s < following.time_s:
            (run,) = [run for run in runs if run.start_s <= update.time_s < run.end_s]
            assert (run.quadrant, run.held) == (update.quadrant, update.held)


@given(updates(), st.sampled_from([2.0, 4.0, 10.0, 20.0]))
def test_quadrants_are_those_that_were_sent_which_change_at_half_seconds(given: list[Update], rate_hz: float) -> None:
    given = [with_prediction(update, time_s=1.0 + i / rate_hz) for i, update in enumerate(given)]
    tracker = QuadrantTracker(QuadrantSettings().hysteresis, QuadrantSettings().dwell_s)
    for i, (update, known) in enumerate(zip(given, with_quadrants(given, QuadrantSettings()), strict=True)):
        if i % (rate_hz / 2.0) == 0.0 and not update.held:
            tracker.step(update.prediction.valence, update.prediction.arousal, update.time_s)
        assert known.quadrant == tracker.quadrant


def test_a_status_has_the_losses_until_then_and_does_not_claim_to_record() -> None:
    moments = Moments(
        take_of(
            [],
            fault="The disk was full.",
            drops=(Loss(3.0, 0.25), Loss(7.0, 0.5)),
            losses=(Loss(5.0, 4.0),),
        )
    )
    early, late = moments.status(4.0, None), moments.status(8.0, None)
    assert (early.dropped_blocks, early.dropped_s, early.losses, early.lost_s) == (1, 0.25, 0, 0.0)
    assert (late.dropped_blocks, late.dropped_s, late.losses, late.lost_s) == (2, 0.75, 1, 4.0)
    assert (late.state, late.source, late.time_s) == (SourceState.RUNNING, "a song", 8.0)
    assert (late.recording, late.recording_fault) == (None, "The disk was full.")
