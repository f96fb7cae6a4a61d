from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from drawing import update
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.updates import Update
from realtime_mer.window.history import Change, Envelope, History, lasting

SIGNED = st.floats(-1.0, 1.0)
# Seconds to the next value, the value, and whether it is held.
SAMPLES = st.lists(st.tuples(st.floats(0.0, 300.0), SIGNED, st.booleans()), max_size=200)


@given(st.lists(st.tuples(SIGNED, SIGNED, st.booleans()), max_size=40), st.integers(1, 15))
def test_the_history_is_the_latest_updates_in_their_order(
    points: list[tuple[float, float, bool]], capacity: int
) -> None:
    history = History(capacity)
    updates = [update(i, v, a, held=held) for i, (v, a, held) in enumerate(points)]
    for start in range(0, len(updates), 3):
        history.extend(updates[start : start + 3])
    kept = updates[-capacity:]
    assert history.newest == (kept[-1] if kept else None)
    assert history.time_s.tolist() == [u.time_s for u in kept]
    assert history.valence.tolist() == [u.prediction.valence for u in kept]
    assert history.arousal.tolist() == [u.prediction.arousal for u in kept]
    assert history.held.tolist() == [u.held for u in kept]
    assert history.first_s == (updates[0].time_s if updates else None)
    assert history.since(3.0) == [u for u in kept if u.time_s > 3.0]


@given(SAMPLES, st.integers(1, 10).map(lambda quarter: 4 * quarter))
def test_an_envelope_keeps_the_extremes_and_the_order_in_a_bounded_number_of_points(
    samples: list[tuple[float, float, bool]], points: int
) -> None:
    envelope = Envelope(points)
    times_s = list(itertools.accumulate(step_s for step_s, _, _ in samples))
    values = [value for _, value, _ in samples]
    for time_s, (_, value, held) in zip(times_s, samples, strict=True):
        envelope.add(time_s, value, held=held)
    curve = envelope.curve()
    assert len(curve.time_s) == len(curve.values) == len(curve.held) <= points + 2
    assert (np.diff(curve.time_s) >= 0.0).all()
    assert set(zip(curve.time_s.tolist(), curve.values.tolist(), strict=True)) <= set(zip(times_s, values, strict=True))
    if samples:
        assert (curve.values.min(), curve.values.max()) == (min(values), max(values))
        assert curve.time_s[-1] == times_s[-1]
    flags = [held for _, _, held in samples]
    assert curve.held.all() or not all(flags)
    assert any(flags) or not curve.held.any()


def test_an_envelope_that_still_has_room_is_exact() -> None:
    envelope = Envelope(400)
    values = [math.sin(i) for i in range(200)]
    for i, value in enumerate(values):
        envelope.add(3.0 + 0.5 * i, value, held=False)
    curve = envelope.curve()
    assert curve.values.tolist() == values
    assert curve.time_s.tolist() == [3.0 + 0.5 * i for i in range(200)]


@pytest.fixture(scope="module")
def night() -> list[Update]:
    """Twelve hours, twice a second."""
    walk = 0.7 * np.sin(np.cumsum(np.random.default_rng(1).standard_normal((2, 86_400)) * 0.02, axis=1))
    valence, arousal = walk.tolist()
    return [
        update(i, v, a, quadrant=1 if v > 0.0 < a else 4 if v > 0.0 else 2 if a > 0.0 else 3)
        for i, (v, a) in enumerate(zip(valence, arousal, strict=True))
    ]


def test_of_a_whole_night_the_last_minutes_are_exact_and_the_rest_keeps_its_extremes(night: list[Update]) -> None:
    history = History()
    history.extend(night)
    newest_s = night[-1].time_s
    # And the one before, where the line comes from.
    exact = [u.prediction.valence for u in night[-1201 - 1 :]]
    assert history.curve("valence", newest_s - 600.0).values.tolist() == exact
    for whole, values in (
        (history.curve("valence", -math.inf), [u.prediction.valence for u in night]),
        (history.curve("arousal", -math.inf), [u.prediction.arousal for u in night]),
    ):
        assert len(whole.values) <= 2050
        assert (whole.values.min(), whole.values.max()) == (min(values), max(values))
        assert whole.time_s[0] - night[0].time_s < 64.0
        assert whole.time_s[-1] == newest_s
    part = history.curve("valence", newest_s - 7200.0)
    assert part.time_s[0] < newest_s - 7200.0 <= part.time_s[1]


@pytest.mark.slow
def test_memory_is_flat_once_the_history_is_full(night: list[Update]) -> None:
    tracemalloc.start()
    try:
        history = History()
        history.extend(night[:20_000])
        before, _ = tracemalloc.get_traced_memory()
        for start in range(20_000, 60_000, 200):
            history.extend(night[start : start + 200])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The changes of quadrant that may still be added, and the points of two curves.
    assert after - before < 500_000


def test_the_latest_changes_of_quadrant_are_kept_and_none_before_the_first_music() -> None:
    history = History()
    history.extend([update(i, 0.0, 0.0, quadrant=q) for i, q in enumerate([0, 0, 1, 1, 2, 2, 0, 2, 1])])
    assert list(history.changes) == [Change(2.0, 1), Change(3.0, 2), Change(5.0, 1)]
    history.extend([update(i, 0.0, 0.0, quadrant=1 + i % 2) for i in range(9, 10_000)])
    assert len(history.changes) == 4096
    assert history.changes[-1] == Change(1.0 + 0.5 * 9999, 2)


def test_clearing_forgets_everything() -> None:
    history = History()
    history.extend([update(i, 0.5, 0.5, quadrant=1) for i in range(3000)])
    history.clear()
    assert (history.newest, history.first_s, len(history.changes)) == (None, None, 0)
    assert len(history.curve("valence", -math.inf).values) == 0
    history.extend([update(5000, -0.5, 0.5, quadrant=1)])
    assert history.curve("valence", -math.inf).values.tolist() == [-0.5]
    assert [change.quadrant for change in history.changes] == [1]


@given(st.lists(st.tuples(st.floats(0.01, 50.0), st.integers(1, 4)), max_size=60), st.floats(0.0, 60.0))
def test_lasting_changes_are_apart_and_each_is_a_change(steps: list[tuple[float, int]], least_s: float) -> None:
    times_s = itertools.accumulate(step_s for step_s, _ in steps)
    changes = [Change(time_s, quadrant) for time_s, (_, quadrant) in zip(times_s, steps, strict=True)]
    kept = lasting(changes, least_s)
    assert [change for change in changes if change in kept] == kept
    assert all(a.quadrant != b.quadrant for a, b in itertools.pairwise(kept))
    assert all(b.time_s - a.time_s >= least_s - 1e-9 for a, b in itertools.pairwise(kept))
    if changes:
        assert kept[-1].quadrant == changes[-1].quadrant


def test_a_short_visit_leaves_no_mark() -> None:
    changes = [Change(0.0, 1), Change(30.0, 2), Change(31.0, 1), Change(60.0, 3), Change(90.0, 4)]
    assert lasting(changes, 5.0) == [Change(0.0, 1), Change(60.0, 3), Change(90.0, 4)]
    assert lasting(changes, 0.0) == changes
