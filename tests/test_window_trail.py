from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.smoothing import Spring
from realtime_mer.window.trail import Trail

SIGNED = st.floats(-1.0, 1.0)


def live(trail: Trail, goals: list[tuple[float, float]], frames_between: int = 30) -> list[tuple[float, float]]:
    """Predictions twice a second, each followed by the display's frames; where the point was at each frame."""
    points = []
    for i, (valence, arousal) in enumerate(goals):
        trail.follow(1.0 + 0.5 * i, valence, arousal, held=False)
        for _ in range(frames_between):
            trail.advance(0.5 / frames_between)
            assert trail.point is not None
            points.append(trail.point)
    return points


def test_it_starts_at_the_first_prediction_and_again_after_clearing() -> None:
    trail = Trail(30.0)
    assert not trail.advance(1.0)
    for valence in (0.3, -0.3):
        assert (trail.point, trail.at_rest, trail.newest_s) == (None, True, -math.inf)
        assert [len(column) for column in trail.way()] == [0, 0, 0]
        trail.follow(7.0, valence, -0.4, held=False)
        assert (trail.point, trail.at_rest) == ((valence, -0.4), True)
        live(trail, [(0.1, 0.1), (0.5, 0.5)])
        trail.clear()


def test_between_predictions_the_point_moves_as_the_spring_of_the_osc_does() -> None:
    trail = Trail(30.0)
    points = live(trail, [(-0.5, 0.0), (0.5, 0.2), (0.1, 0.2)])
    spring = Spring(-0.5, 1.0)
    expected = []
    for frame in range(90):
        if frame % 30 == 0:
            spring.go((-0.5, 0.5, 0.1)[frame // 30], frame / 60)
        expected.append(spring.at((frame + 1) / 60))
    assert [valence for valence, _ in points] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(SIGNED, SIGNED), min_size=1, max_size=30))
def test_the_trail_is_where_the_point_was(goals: list[tuple[float, float]]) -> None:
    trail = Trail(10.0)
    points = np.array(live(trail, goals, frames_between=12))
    valence, arousal, ages = trail.way()
    assert (valence[-1], arousal[-1]) == trail.point
    assert ages[-1] == 0.0
    assert (np.diff(ages) <= 0.0).all()
    assert ages.max() <= 1.0
    # Each place of the trail lies between two of the frames that were shown; the first is where the point began.
    shown_s = 0.5 / 12 * np.arange(1, len(points) + 1)
    was_s = shown_s[-1] - 10.0 * ages
    for i in np.flatnonzero(was_s >= shown_s[0]):
        nearest = points[np.abs(shown_s - was_s[i]).argmin()]
        assert math.dist(nearest, (valence[i], arousal[i])) < 2.9 * 5.84 / math.e * 0.5 / 12


@given(st.lists(st.tuples(SIGNED, SIGNED, st.floats(0.0, 400.0)), max_size=30), st.floats(0.5, 120.0))
def test_the_trail_is_bounded(moves: list[tuple[float, float, float]], trail_s: float) -> None:
    trail = Trail(trail_s)
    time_s = 0.0
    for valence, arousal, step_s in moves:
        time_s += step_s
        trail.follow(time_s, valence, arousal, held=False)
        trail.advance(step_s)
        columns = np.array(trail.way())
        assert columns.shape[1] <= 242
        assert (np.abs(columns[:2]) <= 1.0).all()
        assert (columns[2] >= 0.0).all()
        assert (columns[2] <= 1.0).all()


def test_many_predictions_at_once_leave_the_same_trail() -> None:
    goals = [(0.6 * math.cos(i / 5), 0.6 * math.sin(i / 5)) for i in range(50)]
    one_by_one, at_once = Trail(20.0), Trail(20.0)
    live(one_by_one, goals)
    for i, (valence, arousal) in enumerate(goals):
        at_once.follow(1.0 + 0.5 * i, valence, arousal, held=False)
    at_once.advance(0.5)
    # At the very end, rounding may decide what is still remembered.
    for ours, theirs in zip(one_by_one.way(), at_once.way(), strict=True):
        assert ours[-230:] == pytest.approx(theirs[-230:], abs=1e-6)


def test_a_leap_in_time_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a recording."""
    trail = Trail(10.0)
    live(trail, [(0.1, 0.1), (0.5, 0.5)])
    n_places = 0
    at = Spring.at

    def counted(self: Spring, now_s: float) -> float:
        nonlocal n_places
        n_places += 1
        return at(self, now_s)

    monkeypatch.setattr(Spring, "at", counted)
    trail.follow(1e6, -0.5, -0.5, held=False)
    assert n_places < 1000
    assert trail.point == pytest.approx((0.5, 0.5))


def test_held_predictions_do_not_move_the_point() -> None:
    trail = Trail(5.0)
    live(trail, [(0.2, 0.1), *5 * [(0.4, 0.1)]])
    before = trail.point
    for i in range(20):
        trail.follow(4.0 + 0.5 * i, -1.0, -1.0, held=True)
        trail.advance(0.5)
    assert trail.point == before
    assert np.ptp(trail.way()[0]) < 1e-3


def test_without_predictions_the_clock_stops_once_the_point_is_at_rest() -> None:
    trail = Trail(30.0)
    live(trail, [(-0.9, 0.9), (0.9, -0.9)])
    for _ in range(600):
        trail.advance(1 / 60)
    assert trail.at_rest
    assert trail.point == (0.9, -0.9)
    before = trail.way()
    assert not trail.advance(60.0)
    assert all((a == b).all() for a, b in zip(before, trail.way(), strict=True))
    assert np.ptp(before[0]) > 1.5, "the trail from before the pause is still there"


def test_after_a_pause_the_point_moves_on_evenly() -> None:
    """Meanwhile the stream's time stood still, the display's did not."""
    trail = Trail(30.0)
    live(trail, [(0.0, 0.0), (0.1, 0.0)])
    trail.advance(100.0)
    places = []
    for i in range(2, 40):
        trail.follow(1.0 + 0.5 * i, 0.02 * i, 0.0, held=False)
        # Each a little late: 0.55 s between two.
        for _ in range(33):
            trail.advance(1 / 60)
            assert trail.point is not None
            places.append(trail.point[0])
    assert np.diff(places)[200:].min() > 0.0, "it never stands still"
