"""The smoothing between predictions: against closed forms, against the equations solved by scipy, and in range."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from realtime_mer.config.osc import SMOOTHINGS
from realtime_mer.smoothing import Home, Path, Smoothing, smoothing

VALUES = st.floats(-1, 1)

# Twice a second, with the arrival times' spread.
STAIRCASE = [(0.0, 0.4), (0.51, -0.7), (0.98, -0.6), (1.55, 0.9), (2.02, 0.9), (2.49, -1.0)]


def follow(smoothed: Smoothing, goals: Sequence[tuple[float, float]], moments_s: Sequence[float]) -> list[float]:
    """Where it is at these moments, with the goals given when they are due; both rise."""
    rest = list(goals)
    found = []
    for moment_s in moments_s:
        while rest and rest[0][0] <= moment_s:
            smoothed.go(rest[0][1], rest.pop(0)[0])
        found.append(smoothed.at(moment_s))
    return found


def assert_solved(
    smoothed: Smoothing,
    slope: Callable[[float, np.ndarray, float], list[float]],
    jump: Callable[[np.ndarray, float], np.ndarray],
) -> None:
    """Solves the equation from goal to goal, from rest at 0. jump: what a step of the goal does to the state."""
    moments_s = [0.013 * i for i in range(1, 260)]
    expected: list[float] = []
    state, goal = np.zeros(2), 0.0
    for (begin_s, next_goal), (end_s, _) in zip(STAIRCASE, [*STAIRCASE[1:], (moments_s[-1] + 1.0, 0.0)], strict=True):
        state = jump(state, next_goal - goal)
        goal = next_goal
        times_s = [*(moment_s for moment_s in moments_s if begin_s <= moment_s < end_s), end_s]
        solution = solve_ivp(slope, (begin_s, end_s), state, args=(goal,), rtol=1e-10, atol=1e-12, t_eval=times_s)
        expected += list(solution.y[0][:-1])
        state = solution.y[:, -1]
    found = follow(smoothed, STAIRCASE, moments_s)
    # It arrives where it is closer than 1e-4.
    assert found == pytest.approx(expected, abs=1.1e-4)
    assert np.median(np.abs(np.subtract(found, expected))) < 1e-7


@pytest.mark.parametrize(
    ("kind", "settle_s", "start", "goals", "expected"),
    [
        ("none", None, 0.2, [(1.0, -0.5)], {0.5: 0.2, 1.0: -0.5, 1.1: -0.5}),
        ("linear", 0.4, 0.0, [(1.0, 0.8)], {0.5: 0.0, 1.0: 0.0, 1.1: 0.2, 1.2: 0.4, 1.4: 0.8, 9.0: 0.8}),
        ("linear", 1.0, 0.0, [(0.0, 1.0), (0.5, -0.5)], {0.5: 0.5, 1.0: 0.0, 1.5: -0.5}),
        # By default as long as the goal before lasted, and half a second at first.
        ("linear", None, 0.0, [(0.0, 1.0)], {0.25: 0.5, 0.5: 1.0}),
        (
            "linear",
            None,
            0.0,
            [(0.0, 1.0), (0.1, 0.8), (0.2, 0.0)],
            {0.05: 0.1, 0.15: 0.5, 0.2: 0.8, 0.25: 0.4, 0.3: 0.0},
        ),
        ("linear", None, 0.0, [(0.0, 1.0), (0.5, 0.0), (0.5, 0.5)], {0.5: 1.0, 0.525: 0.75, 0.55: 0.5}),
    ],
)
def test_none_jumps_and_linear_takes_its_time(
    kind: str, settle_s: float | None, start: float, goals: list[tuple[float, float]], expected: dict[float, float]
) -> None:
    found = follow(smoothing(kind, settle_s, 1.0, start), goals, list(expected))
    assert found == pytest.approx(list(expected.values()))


@pytest.mark.parametrize("settle_s", [0.05, 7.0])
def test_a_spring_follows_its_closed_form_and_settles_in_its_time(settle_s: float) -> None:
    w = 5.833922 / settle_s
    moments_s = [settle_s * share for share in (0.1, 0.5, 0.9, 0.99, 1.0)]
    found = follow(smoothing("spring", settle_s, 1.0, 0.0), [(0.0, 1.0)], moments_s)
    assert found == pytest.approx([1.0 - (1.0 + w * t) * math.exp(-w * t) for t in moments_s], rel=1e-12)
    assert found[-2] < 0.98 == pytest.approx(found[-1], abs=1e-6)


@pytest.mark.parametrize("settle_s", [0.3, 4.0])
def test_a_spring_solves_its_equation(settle_s: float) -> None:
    w = 5.833922 / settle_s

    def slope(_t: float, state: np.ndarray, goal: float) -> list[float]:
        return [state[1], w * w * (goal - state[0]) - 2.0 * w * state[1]]

    assert_solved(smoothing("spring", settle_s, 1.0, 0.0), slope, lambda state, _step: state)


@pytest.mark.parametrize(("settle_s", "speed"), [(2.0, 0.0), (2.0, 1.0), (6.0, 4.0)])
def test_one_euro_solves_its_equation(settle_s: float, speed: float) -> None:
    """Its authors' filter at an infinite rate."""
    f_min_hz = -math.log(0.02) / (math.tau * settle_s)

    def slope(_t: float, state: np.ndarray, goal: float) -> list[float]:
        cutoff_hz = f_min_hz + speed * abs(state[1])
        return [math.tau * cutoff_hz * (goal - state[0]), -math.tau * state[1]]

    def jump(state: np.ndarray, step: float) -> np.ndarray:
        return np.array([state[0], state[1] + math.tau * step])

    assert_solved(smoothing("one-euro", settle_s, speed, 0.0), slope, jump)


@given(step=st.floats(0.01, 2.0), settle_s=st.floats(0.05, 60), speed=st.floats(0, 10))
def test_one_euro_settles_in_its_time_at_the_latest(step: float, settle_s: float, speed: float) -> None:
    smoothed = smoothing("one-euro", settle_s, speed, -1.0)
    smoothed.go(step - 1.0, 0.0)
    assert step - 1.0 - smoothed.at(settle_s) <= 0.02 * step + 1e-4


@pytest.mark.parametrize("kind", SMOOTHINGS)
@given(
    start=VALUES,
    steps=st.lists(st.tuples(st.floats(0.0, 2.0), VALUES), min_size=1, max_size=12),
    more_s=st.lists(st.floats(0, 12), max_size=20),
    settle_s=st.floats(0.05, 10),
    speed=st.floats(0, 10),
)
def test_a_value_does_not_depend_on_when_else_it_is_read_and_stays_between_the_goals(
    kind: str, start: float, steps: list[tuple[float, float]], more_s: list[float], settle_s: float, speed: float
) -> None:
    times_s = np.cumsum([gap_s for gap_s, _ in steps])
    goals = [(float(time_s), goal) for time_s, (_, goal) in zip(times_s, steps, strict=True)]
    asked_s = [0.37 * i for i in range(40)]
    seldom = dict(zip(asked_s, follow(smoothing(kind, settle_s, speed, start), goals, asked_s), strict=True))
    often_s = sorted({*asked_s, *more_s})
    often = dict(zip(often_s, follow(smoothing(kind, settle_s, speed, start), goals, often_s), strict=True))
    assert [often[moment_s] for moment_s in asked_s] == [seldom[moment_s] for moment_s in asked_s]
    for moment_s, value in often.items():
        known = [start, *(goal for time_s, goal in goals if time_s <= moment_s)]
        assert min(known) - 1e-12 <= value <= max(known) + 1e-12


@pytest.mark.parametrize("kind", SMOOTHINGS)
@given(start=VALUES, goal=VALUES)
def test_it_comes_to_rest_at_its_goal(kind: str, start: float, goal: float) -> None:
    smoothed = smoothing(kind, 1.0, 1.0, start)
    smoothed.go(goal, 5.0)
    # A time before the last goal counts as that of the goal.
    assert smoothed.at(4.9) == smoothed.at(5.0) == pytest.approx(goal if kind == "none" else start, abs=1e-4)
    assert smoothed.at(30.0) == goal


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'cubic'"):
        smoothing("cubic", None, 1.0, 0.0)


HOME = Home(0.0, -1.0, after_s=2.0, glide_s=3.0)


def test_a_path_goes_home_when_there_is_no_music_and_comes_back() -> None:
    path = Path("none", None, 1.0, HOME)
    assert path.at(0.0) == (0.0, -1.0)
    path.go(0.8, 0.6, 10.0)
    assert path.at(11.99) == (0.8, 0.6)
    w = 5.833922 / 3.0
    left = (1.0 + w * 1.5) * math.exp(-w * 1.5)
    assert path.at(12.0) == pytest.approx((0.8, 0.6))
    assert path.at(13.5) == pytest.approx((0.8 * left, -1.0 + 1.6 * left))
    assert path.at(60.0) == (0.0, -1.0)
    path.go(-0.3, 0.2, 61.0)
    assert path.at(61.0) == (-0.3, 0.2)
    without_home = Path("spring", 1.0, 1.0, None)
    without_home.go(0.5, -0.5, 0.0)
    assert without_home.at(100.0) == without_home.at(10_000.0) == (0.5, -0.5)


@pytest.mark.parametrize("kind", SMOOTHINGS)
@given(
    steps=st.lists(st.tuples(st.floats(0.0, 8.0), st.none() | VALUES, st.sampled_from(SMOOTHINGS)), max_size=8),
    more_s=st.lists(st.floats(0, 60), max_size=20),
)
def test_a_path_with_a_home_does_not_depend_on_when_else_it_is_read_and_stays_in_the_plane(
    kind: str, steps: list[tuple[float, float | None, str]], more_s: list[float]
) -> None:
    seldom, often = (Path(kind, None, 1.0, HOME) for _ in range(2))
    now_s = 0.0
    for gap_s, goal, other in steps:
        for moment_s in sorted(s for s in more_s if now_s <= s <= now_s + gap_s):
            assert all(abs(value) <= 1.0 + 1e-12 for value in often.at(moment_s))
        now_s += gap_s
        for path in (seldom, often):
            if goal is None:
                path.change(other, None, now_s)
            else:
                path.go(goal, -goal, now_s)
    assert seldom.at(now_s + 0.3) == pytest.approx(often.at(now_s + 0.3), abs=2e-4)


@pytest.mark.parametrize("kind", SMOOTHINGS)
def test_a_change_of_smoothing_goes_on_from_the_present_value(kind: str) -> None:
    path = Path("spring", 1.0, 1.0, None)
    path.change("linear", 1.0, 0.0)
    assert path.at(0.0) == (0.0, 0.0), "before any music"
    path.go(1.0, -1.0, 0.0)
    path.change(kind, 2.0, 0.25)
    assert path.at(0.25) == ((1.0, -1.0) if kind == "none" else pytest.approx((0.25, -0.25)))
    assert path.at(60.0) == (1.0, -1.0)


@pytest.mark.parametrize("is_read", [False, True])
def test_a_change_of_smoothing_on_the_way_home_waits_for_music(is_read: bool) -> None:
    path, unchanged = (Path("linear", 1.0, 1.0, HOME) for _ in range(2))
    for one in (path, unchanged):
        one.go(0.8, 0.6, 0.0)
    if is_read:
        path.at(2.5)
    path.change("none", None, 3.0)
    assert path.at(3.0) == unchanged.at(3.0) != (0.0, -1.0)
    assert path.at(60.0) == (0.0, -1.0)
    path.go(0.5, 0.5, 61.0)
    assert path.at(61.0) == (0.5, 0.5)
