from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import QuadrantSettings
from realtime_mer.live.quadrant import QuadrantTracker
from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS

AT_ONCE = (0.0, 0.0)
DEFAULT = (QuadrantSettings().hysteresis, QuadrantSettings().dwell_s)
INSIDE = {1: (0.5, 0.5), 2: (-0.5, 0.5), 3: (-0.5, -0.5), 4: (0.5, -0.5)}
PREDICTIONS = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), max_size=60)


def test_each_quadrant_has_its_number_and_its_words() -> None:
    assert {number: QUADRANT_WORDS[signs][0] for number, signs in QUADRANTS.items()} == {
        1: "happy",
        2: "tense",
        3: "sad",
        4: "calm",
    }


def test_before_any_music_there_is_none() -> None:
    assert QuadrantTracker(*DEFAULT).quadrant == 0


def test_the_first_is_where_the_music_is() -> None:
    for number, (valence, arousal) in INSIDE.items():
        tracker = QuadrantTracker(*DEFAULT)
        assert tracker.step(0.01 * valence, 0.01 * arousal, 1.0) == number
        assert tracker.quadrant == number


def test_every_change_is_seen_where_nothing_holds_it_back() -> None:
    tracker = QuadrantTracker(*AT_ONCE)
    way = [1, 3, 2, 4, 1, 2]
    assert [tracker.step(*INSIDE[number], float(i)) for i, number in enumerate(way)] == way


def test_a_side_changes_only_past_the_hysteresis() -> None:
    tracker = QuadrantTracker(hysteresis=0.1, dwell_s=0.0)
    values = [0.05, -0.09, -0.1, -0.11, 0.09, 0.1, 0.11]
    assert [tracker.step(value, 0.5, float(i)) for i, value in enumerate(values)] == [1, 1, 1, 2, 2, 2, 1]


def test_a_quadrant_lasts_for_its_dwell_time_and_then_follows() -> None:
    tracker = QuadrantTracker(hysteresis=0.0, dwell_s=2.0)
    assert tracker.step(*INSIDE[1], 10.0) == 1
    assert tracker.step(*INSIDE[3], 11.5) == 1
    assert tracker.step(*INSIDE[3], 12.0) == 3
    assert tracker.step(*INSIDE[1], 13.5) == 3
    assert tracker.step(*INSIDE[1], 14.0) == 1


@given(PREDICTIONS, st.floats(0, 0.5), st.floats(0.1, 5))
def test_changes_are_never_closer_than_the_dwell_time(
    predictions: list[tuple[float, float]], hysteresis: float, dwell_s: float
) -> None:
    tracker = QuadrantTracker(hysteresis, dwell_s)
    seen = [(tracker.step(valence, arousal, 0.5 * i), 0.5 * i) for i, (valence, arousal) in enumerate(predictions)]
    changes_s = [time_s for (before, _), (now, time_s) in itertools.pairwise(seen) if before != now]
    assert all(b - a >= dwell_s for a, b in itertools.pairwise(changes_s))


@given(st.lists(st.floats(-0.2, 0.2), max_size=60))
def test_what_stays_within_the_hysteresis_never_flickers(values: list[float]) -> None:
    tracker = QuadrantTracker(hysteresis=0.2, dwell_s=0.0)
    assert len({tracker.step(value, -value, 0.5 * i) for i, value in enumerate(values)}) <= 1
