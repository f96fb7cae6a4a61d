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


@given(SAMPLES, st.integers(2, 20).map(lambda half: 2 * half))
def test_an_envelope_keeps_the_extremes_and_the_order_in_bounded_room(
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
    # Nothing is made up.
    assert set(zip(curve.time_s.tolist(), curve.values.tolist(), strict=True)) <= set(zip(times_s, values, strict=True))
    if samples:
        assert curve.values.min() == min(values)
        assert curve.values.max() == max(values)
        assert curve.time_s[-1] == times_s[-1]


@given(SAMPLES)
def test_an_envelope_is_held_only_where_all_of_a_bin_was(samples: list[tuple[float, float, bool]]) -> None:
    envelope = Envelope(8)
    time_s = 0.0
    for step_s, value, held in samples:
        time_s += step_s
        envelope.add(time_s, value, held=held)
    flags = [held for _, _, held in samples]
    if all(flags):
        assert envelope.curve().held.all()
    if not any(flags):
        assert not envelope.curve().held.any()


def test_an_envelope_that_still_has_room_is_exact() -> None:
    envelope = Envelope(400)
    values = [math.sin(i) for i in range(200)]
    for i, value in enumerate(values):
        envelope.add(3.0 + 0.5 * i, value, held=False)
    curve = envelope.curve()
    assert curve.values.tolist() == values
    assert curve.time_s.tolist() == [3.0 + 0.5 * i for i in range(200)]


def test_an_envelope_bin_gives_its_extremes_in_the_order_in_which_they_came() -> None:
    rising, falling = Envelope(4), Envelope(4)
    for i in range(100):
        rising.add(float(i), i / 100, held=False)
        falling.add(float(i), -i / 100, held=False)
    assert (np.diff(rising.curve().values) > 0.0).all()
    assert (np.diff(falling.curve().values) < 0.0).all()


def night() -> list[Update]:
    """Twelve hours, twice a second."""
    walk = 0.7 * np.sin(np.cumsum(np.random.default_rng(1).standard_normal((2, 86_400)) * 0.02, axis=1))
    valence, arousal = walk.tolist()
    return [
        update(i, v, a, quadrant=1 if v > 0.0 < a else 4 if v > 0.0 else 2 if a > 0.0 else 3)
        for i, (v, a) in enumerate(zip(valence, arousal, strict=True))
    ]


def test_of_a_whole_night_the_last_minutes_are_exact_and_the_rest_keeps_its_extremes() -> None:
    updates = night()
    history = History()
    history.extend(updates)
    newest_s = updates[-1].time_s
    recent = history.curve("valence", newest_s - 600.0)
    # And the one before, from which the line comes.
    assert recent.values.tolist() == [u.prediction.valence for u in updates[-1201 - 1 :]]
    for name, values in (
        ("valence", [u.prediction.valence for u in updates]),
        ("arousal", [u.prediction.arousal for u in updates]),
    ):
        whole = history.curve(name, -math.inf)  # type: ignore[arg-type] # both are names
        assert len(whole.values) <= 2049
        assert (whole.values.min(), whole.values.max()) == (min(values), max(values))
        assert whole.time_s[0] - updates[0].time_s < 64.0
        assert whole.time_s[-1] == newest_s


@pytest.mark.slow
def test_memory_is_flat_once_the_history_is_full() -> None:
    updates = night()
    history = History()
    history.extend(updates[:20_000])
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for start in range(20_000, len(updates), 100):
            history.extend(updates[start : start + 100])
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The changes of quadrant that may still be added.
    assert after - before < 300_000


def test_before_anything_a_curve_is_empty() -> None:
    assert len(History().curve("valence", 0.0).values) == 0


def test_the_changes_of_quadrant_are_noted_and_none_before_the_first_music() -> None:
    history = History()
    history.extend([update(i, 0.0, 0.0, quadrant=q) for i, q in enumerate([0, 0, 1, 1, 2, 2, 0, 2, 1])])
    assert list(history.changes) == [Change(2.0, 1), Change(3.0, 2), Change(5.0, 1)]


def test_of_the_changes_of_quadrant_the_latest_are_kept() -> None:
    history = History()
    history.extend([update(i, 0.0, 0.0, quadrant=1 + i % 2) for i in range(10_000)])
    assert len(history.changes) == 4096
    assert history.changes[-1] == Change(1.0 + 0.5 * 9999, 2)


def test_clearing_forgets_everything() -> None:
    history = History()
    history.extend([update(i, 0.5, 0.5, quadrant=1) for i in range(3000)])
    history.clear()
    assert history.newest is None
    assert history.first_s is None
    assert not history.changes
    assert len(history.curve("valence", -math.inf).values) == 0
    history.extend([update(5000, -0.5, 0.5, quadrant=1)])
    assert history.curve("valence", -math.inf).values.tolist() == [-0.5]
    assert [change.quadrant for change in history.changes] == [1]


@given(st.lists(st.tuples(st.floats(0.01, 50.0), st.integers(1, 4)), max_size=60), st.floats(0.0, 60.0))
def test_lasting_changes_are_apart_and_each_is_one(steps: list[tuple[float, int]], least_s: float) -> None:
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
