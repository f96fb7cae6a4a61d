"""The messages for a target: its choice of values, at its addresses, in its ranges, and only changes if it wants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_examples import LEVELS, Decoded, decode
from predictions import with_prediction

from realtime_mer.config import MappedValue, TargetSettings
from realtime_mer.config.osc import SMOOTHINGS
from realtime_mer.config.space import SPACE, When, matching
from realtime_mer.osc.composing import Composer, Event, mapped
from realtime_mer.osc.messages import Message, packet
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

LARGEST_INT = 2**31 - 1
BY_WHEN = {when: {address.name for address in SPACE if address.when is when} for when in When}
EVENTS = BY_WHEN[When.EVENT] | BY_WHEN[When.ANSWER]
MUSIC = Update(7, Prediction(4.5, 0.25, -0.5, confidence=0.75), False, 0.14, quadrant=4)
SILENCE = replace(MUSIC, held=True)
LEVEL = InputLevel(-6.0, -30.0, LevelState.MUSIC)
STATUS = Status("a source", SourceState.RUNNING, level=LEVEL)


def by_address(messages: Iterable[Message]) -> dict[str, tuple[object, ...]]:
    """Values by address, each of which is there once."""
    messages = list(messages)
    found = {message.address: message.values for message in messages}
    assert len(found) == len(messages)
    return found


def under(prefix: str, names: Iterable[str]) -> set[str]:
    return {f"{prefix}/{name}" for name in names}


# --- which values ---


@pytest.mark.parametrize("prefix", ["/mer", "", "/a/b"])
def test_without_a_choice_everything_is_sent_when_it_is_due(prefix: str) -> None:
    composer = Composer(TargetSettings(prefix=prefix))
    first = BY_WHEN[When.FRAME] | {"event/quadrant", "event/music"}
    in_table_order = [f"{prefix}/{address.name}" for address in SPACE if address.name in first]
    assert [message.address for message in composer.update(MUSIC, 1.0)] == in_table_order
    assert by_address(composer.update(MUSIC, 1.5)).keys() == under(prefix, BY_WHEN[When.FRAME])
    assert by_address(composer.smooth(1.6)).keys() == under(prefix, BY_WHEN[When.SMOOTH])
    status = by_address(composer.status(STATUS, 1.6))
    assert status.keys() == under(prefix, BY_WHEN[When.LEVEL] | BY_WHEN[When.STATUS])
    assert composer.event(Event("status/ack", ("ping", "pong"))) == [
        Message(f"{prefix}/status/ack", "ss", ("ping", "pong"))
    ]


PATTERNS = st.sampled_from(["*", "smooth/*", "*valence", "status/*", "event/*", "polar/*", *(a.name for a in SPACE)])


@given(st.lists(PATTERNS, max_size=4))
def test_only_what_was_chosen_is_sent(patterns: list[str]) -> None:
    full, chosen = Composer(TargetSettings()), Composer(TargetSettings(send=tuple(patterns)))

    def everything(composer: Composer) -> list[Message]:
        return [
            *composer.update(MUSIC, 1.0),
            *composer.smooth(1.1),
            *composer.status(STATUS, 1.1),
            *composer.event(Event("event/mark", (3,))),
        ]

    names = {name for pattern in patterns for name in matching(pattern)}
    assert everything(chosen) == [one for one in everything(full) if one.address.removeprefix("/mer/") in names]


@pytest.mark.parametrize(
    ("send", "maps", "is_smooth"),
    [
        (("smooth/polar/turn",), [], True),
        (("frame", "level/*"), ["valence"], False),
        ((), ["valence", "smooth/valence"], True),
    ],
)
def test_whether_there_are_smooth_values_to_send(send: tuple[str, ...], maps: list[str], is_smooth: bool) -> None:
    target = TargetSettings(send=send, map=tuple(MappedValue(name, f"/{n}") for n, name in enumerate(maps)))
    composer = Composer(target)
    composer.update(MUSIC, 1.0)
    assert composer.is_smooth is is_smooth
    assert bool(composer.smooth(1.5)) is is_smooth


# --- mapped values ---


@pytest.mark.parametrize(
    ("x", "how", "expected"),
    [
        (0.25, {}, 0.25),
        (0.25, {"scale": -1.0, "offset": 1.0}, 0.75),
        # The curve keeps the sign.
        (-0.25, {"curve": 0.5}, -0.5),
        (0.5, {"curve": 3.0, "scale": 8.0, "offset": -2.0}, -1.0),
        (0.0, {"curve": 0.1, "scale": 100.0}, 0.0),
        (-0.9, {"low": -0.5}, -0.5),
        # The bounds apply after scale and offset.
        (0.5, {"scale": 10.0, "high": 1.0}, 1.0),
    ],
)
def test_a_mapped_value_is_what_its_formula_gives(x: float, how: dict[str, Any], expected: float) -> None:
    settings = replace(MappedValue("valence", "/1"), **how)
    assert mapped(x, settings) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("unipolar", "scale", "expected"),
    [(0.001, 255.0, 0), (0.5, 255.0, 128), (0.999, 255.0, 255), (1, 1e12, LARGEST_INT), (1, -1e12, -LARGEST_INT)],
)
def test_a_desk_gets_whole_numbers(unipolar: float, scale: float, expected: int) -> None:
    dimmer = MappedValue("unipolar/arousal", "/dmx/1", scale=scale, type="int")
    composer = Composer(TargetSettings(send=(), map=(dimmer,)))
    (message,) = composer.update(with_prediction(MUSIC, arousal=2 * unipolar - 1), 1.0)
    assert decode(packet([message])) == [("/dmx/1", "i", (expected,))]


def test_a_value_goes_to_each_of_its_addresses_independent_of_the_prefix() -> None:
    target = TargetSettings(
        prefix="/show",
        send=("valence",),
        map=(
            MappedValue("valence", "/hue", scale=0.5, offset=0.5),
            MappedValue("valence", "/show/saturation", type="int", scale=100.0),
            MappedValue("smooth/polar/turn", "/turn"),
            MappedValue("event/quadrant", "/cue", type="int", offset=100.0),
            MappedValue("level/meter", "/meter"),
        ),
    )
    composer = Composer(target)
    assert composer.update(MUSIC, 1.0) == [
        Message("/show/valence", "f", (0.25,)),
        Message("/hue", "f", (0.625,)),
        Message("/show/saturation", "i", (25,)),
        Message("/cue", "i", (104,)),
    ]
    assert [message.address for message in composer.smooth(1.1)] == ["/turn"]
    assert composer.status(STATUS, 1.1) == [Message("/meter", "f", (0.5,))]


# --- events ---


def test_a_new_quadrant_and_the_begin_or_end_of_music_are_events() -> None:
    composer = Composer(TargetSettings(send=("event/*",)))
    updates = [
        *(replace(SILENCE, quadrant=0), SILENCE, MUSIC, replace(MUSIC, quadrant=2), replace(MUSIC, quadrant=0)),
        *(replace(MUSIC, quadrant=2), replace(SILENCE, quadrant=2), MUSIC),
    ]
    sent = [by_address(composer.update(update, float(n))) for n, update in enumerate(updates)]
    events = [{name.removeprefix("/mer/event/"): values[0] for name, values in one.items()} for one in sent]
    assert events == [
        *({}, {"quadrant": 4}, {"music": 1}, {"quadrant": 2}, {}),
        *({}, {"music": 0}, {"quadrant": 4, "music": 1}),
    ]


# --- status ---


def test_the_heartbeat_is_sent_once_a_second_and_the_level_each_time() -> None:
    composer = Composer(TargetSettings(send=("status/heartbeat", "level/meter")))
    composer._heartbeat = LARGEST_INT - 5
    beats, meters = [], []
    for tick in range(80):
        sent = by_address(composer.status(STATUS, 1000.0 + tick / 8))
        meters.append(sent.pop("/mer/level/meter"))
        beats.append([number for (number,) in sent.values()])
    # It starts again at 0 after the largest int32.
    numbers = [*range(LARGEST_INT - 5, LARGEST_INT + 1), *range(4)]
    assert beats == [[numbers[tick // 8]] if tick % 8 == 0 else [] for tick in range(80)]
    assert meters == [(0.5,)] * 80


@pytest.mark.parametrize("state", list(SourceState))
def test_the_level_is_the_lowest_unless_the_source_runs(state: SourceState) -> None:
    composer = Composer(TargetSettings(send=("level/*",)))
    level = by_address(composer.status(STATUS, 1.0))
    assert level == {"/mer/level/rms": (-30.0,), "/mer/level/peak": (-6.0,), "/mer/level/meter": (0.5,)}
    lowest = {"/mer/level/rms": (-120.0,), "/mer/level/peak": (-120.0,), "/mer/level/meter": (0.0,)}
    now = by_address(composer.status(replace(STATUS, state=state), 1.1))
    assert now == (level if state is SourceState.RUNNING else lowest)


def test_a_change_is_sent_at_once() -> None:
    composer = Composer(TargetSettings(send=("status/*",)))
    changes: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"time_s": 0.1, "dropped_blocks": 7, "ignored_packets": 9}, False),
        ({"state": SourceState.LOST}, True),
        ({"losses": 1}, False),
        ({"state": SourceState.RUNNING}, True),
        ({"level": replace(LEVEL, state=LevelState.SILENCE)}, True),
        ({"level": replace(LEVEL, rms_db=-31.0, state=LevelState.SILENCE)}, False),
        ({"level": None}, True),
        ({"recording": "takes/1"}, True),
        ({"recording_fault": "The disk is full."}, True),
        ({}, False),
    ]
    status = STATUS
    for n, (change, is_sent) in enumerate(changes):
        status = replace(status, **change)
        sent = by_address(composer.status(status, 1000.0 + n / 100))
        assert sent.keys() == (under("/mer", BY_WHEN[When.STATUS]) if is_sent else set())
    # Other changes are sent with the next one, as is the latency of the last prediction.
    later = by_address(composer.status(status, 1002.0))
    assert (later["/mer/status/drops"], later["/mer/status/losses"]) == ((7,), (1,))
    assert later["/mer/status/latency"] == (0.0,)
    composer.update(MUSIC, 1002.5)
    assert by_address(composer.status(status, 1003.0))["/mer/status/latency"] == (pytest.approx(140.0),)
    composer.update(replace(MUSIC, latency_s=None), 1003.5)
    assert by_address(composer.status(status, 1004.0))["/mer/status/latency"] == (0.0,)


# --- smooth values ---


def smooth_at(target: TargetSettings, at_s: float, *updates: tuple[float, Update]) -> tuple[object, ...]:
    composer = Composer(replace(target, send=("smooth/va",)))
    for now_s, update in updates:
        composer.update(update, now_s)
    return by_address(composer.smooth(at_s))["/mer/smooth/va"]


def test_the_smooth_values_follow_the_music_as_the_target_wants() -> None:
    # At home until there is music.
    assert smooth_at(TargetSettings(), 5.0) == (0.0, 0.0)
    homely = TargetSettings(smoothing="none", home_after_s=5.0, home=(-1.0, 1.0), glide_s=2.0)
    assert smooth_at(homely, 5.0) == (-1.0, 1.0)
    music, silence = (10.0, MUSIC), (11.0, with_prediction(SILENCE, valence=0.9))
    assert smooth_at(TargetSettings(smoothing="none"), 100.0, music, silence) == (0.25, -0.5)
    linear = TargetSettings(smoothing="linear", settle_s=2.0)
    assert smooth_at(linear, 10.5, music) == pytest.approx((0.0625, -0.125))
    slow, fast = (TargetSettings(smoothing="one-euro", speed=speed) for speed in (0.0, 1.0))
    assert smooth_at(slow, 10.5, music)[:1] < smooth_at(fast, 10.5, music)[:1] < (0.25,)
    # Silence holds, and then goes home if there is one, within 2 % after the time to glide.
    assert smooth_at(homely, 14.9, music, silence) == (0.25, -0.5)
    assert smooth_at(homely, 17.0, music, silence) == pytest.approx((-1.0 + 0.02 * 1.25, 1.0 - 0.02 * 1.5), abs=1e-3)


# --- only what has changed ---


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_smooth_values_that_rest_are_not_sent_with_on_change(smoothing: str) -> None:
    quiet = Composer(TargetSettings(on_change=True, smoothing=smoothing))
    quiet.update(MUSIC, 10.0)
    moving = [len(quiet.smooth(10.0 + n / 60)) for n in range(600)]
    assert moving[0] == len(BY_WHEN[When.SMOOTH])
    first_rest = moving.index(0)
    assert moving[first_rest:] == [0] * (600 - first_rest)
    assert (first_rest > 20) == (smoothing != "none")
    quiet.update(with_prediction(MUSIC, valence=0.5), 20.0)
    assert quiet.smooth(20.2) != []
    quiet.smooth(60.0)
    assert quiet.smooth(61.0) == []
    # After a failure everything is sent again, except events.
    again = with_prediction(MUSIC, valence=0.6)
    assert by_address(quiet.update(again, 62.0)).keys() < under("/mer", BY_WHEN[When.FRAME])
    quiet.forget()
    assert by_address(quiet.update(again, 63.0)).keys() == under("/mer", BY_WHEN[When.FRAME])
    assert by_address(quiet.smooth(64.0)).keys() == under("/mer", BY_WHEN[When.SMOOTH])


# Few values, so that some are repeated, and some that are equal as float32.
NEARLY = st.sampled_from([0.0, 0.5, 0.5 + 1e-9, -1.0])
STEPS = st.lists(
    st.one_of(
        st.builds(
            Update,
            index=st.sampled_from([1, 2, 2**33, 2**34]),
            prediction=st.builds(Prediction, NEARLY, NEARLY, NEARLY),
            held=st.booleans(),
            latency_s=st.none() | NEARLY.map(abs),
            quadrant=st.integers(0, 4),
        ),
        st.builds(Status, st.just(""), st.sampled_from(list(SourceState)), level=st.none() | LEVELS),
        st.builds(Event, st.just("event/mark"), st.sampled_from([(1,), (2,)])),
        st.none(),
    ),
    max_size=30,
)


def messages_for(composer: Composer, step: Update | Status | Event | None, now_s: float) -> list[Message]:
    if isinstance(step, Update):
        return composer.update(step, now_s)
    if isinstance(step, Status):
        return composer.status(step, now_s)
    return composer.smooth(now_s) if step is None else composer.event(step)


def received(messages: list[Message]) -> list[Decoded]:
    return decode(packet(messages)) if messages else []


MAPS = tuple(
    MappedValue(name, f"/{number}", scale=3.0, type=kind)
    for number, (name, kind) in enumerate(
        [("valence", "int"), ("valence", "float"), ("smooth/arousal", "int"), ("event/quadrant", "int")]
    )
)


@given(STEPS, st.sampled_from(SMOOTHINGS))
def test_with_on_change_nothing_is_missing_and_nothing_is_sent_twice(
    steps: list[Update | Status | Event | None], smoothing: str
) -> None:
    everything = TargetSettings(smoothing=smoothing, map=MAPS)
    full, sparing = Composer(everything), Composer(replace(everything, on_change=True))
    events = under("/mer", EVENTS) | {"/3"}
    expected: dict[str, object] = {}
    known: dict[str, object] = {}
    for n, step in enumerate(steps):
        everything_sent = received(messages_for(full, step, n / 8))
        news = received(messages_for(sparing, step, n / 8))
        # Events are sent each time.
        assert [one for one in news if one[0] in events] == [one for one in everything_sent if one[0] in events]
        for address, _, values in news:
            assert address in events or known.get(address) != values
            known[address] = values
        expected |= {address: values for address, _, values in everything_sent}
        assert known == expected
