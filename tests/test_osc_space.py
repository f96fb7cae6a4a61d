"""The address space: its tables, the values it makes of updates and statuses, and its page in docs/."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_examples import LEVELS, STATUSES, UPDATES, decode

from realtime_mer.config.space import COMMANDS, SPACE, Address, Command, Values, When, matching
from realtime_mer.osc.messages import Message, packet
from realtime_mer.osc.values import frame_values, level_values, mood_values, status_values
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

ROOT = Path(__file__).resolve().parents[1]
ADDRESSES = {address.name: address for address in SPACE}
LARGEST_INT = 2**31 - 1
UPDATE = Update(7, Prediction(4.5, 0.25, -0.5), True, 0.14)


def names(*whens: When) -> set[str]:
    return {address.name for address in SPACE if address.when in whens}


# --- the tables ---


@pytest.mark.parametrize("table", [SPACE, COMMANDS], ids=["addresses", "commands"])
def test_names_are_unique_and_each_is_a_leaf(table: tuple[Address, ...]) -> None:
    all_names = [entry.name for entry in table]
    assert len(set(all_names)) == len(all_names)
    for name in all_names:
        assert re.fullmatch(r"[a-z]+(/[a-z]+)*", name)
        assert not [other for other in all_names if other.startswith(f"{name}/")], "no address contains another"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", set(ADDRESSES)),
        ("valence", {"valence"}),
        ("*valence", {f"{group}{kind}valence" for group in ("", "smooth/") for kind in ("", "unipolar/")}),
        ("smooth/*", names(When.SMOOTH)),
        ("smooth", set()),
        ("/valence", set()),
        # On every system, even if its file names ignore case or have backslashes.
        ("Valence", set()),
        ("smooth\\valence", set()),
    ],
)
def test_a_pattern_matches_names(pattern: str, expected: set[str]) -> None:
    assert matching(pattern) == expected


# --- the values ---


def check(values: Mapping[str, Values], expected_names: set[str]) -> None:
    """Checks the names, and that the values arrive, of the types and within the ranges of the table."""
    assert values.keys() == expected_names
    sent = [Message(f"/mer/{name}", ADDRESSES[name].types, numbers) for name, numbers in values.items()]
    for (_, types, arrived), (name, numbers) in zip(decode(packet(sent)), values.items(), strict=True):
        address = ADDRESSES[name]
        for letter, came, value in zip(types, arrived, numbers, strict=True):
            if isinstance(came, str):
                assert came == value
                continue
            assert isinstance(came, float | int)
            assert isinstance(came, int) == (letter == "i")
            assert came == pytest.approx(value, rel=2**-24, abs=1e-40)
            assert address.low is not None
            assert address.low <= came <= (math.inf if address.high is None else address.high)


@given(UPDATES, STATUSES, LEVELS, st.integers(0, LARGEST_INT))
def test_all_values_are_within_the_table(update: Update, status: Status, level: InputLevel, heartbeat: int) -> None:
    valence, arousal = update.prediction.valence, update.prediction.arousal
    unknown = {"confidence": update.prediction.confidence, "latency": update.latency_s}
    check(frame_values(update), names(When.FRAME) - {name for name, known in unknown.items() if known is None})
    check(mood_values(valence, arousal, "smooth/"), names(When.SMOOTH))
    check(level_values(level), names(When.LEVEL))
    check(status_values(status, heartbeat, update.latency_s), names(When.STATUS))


@pytest.mark.parametrize(("index", "frame"), [(7, 7), (2**40, LARGEST_INT)])
def test_the_number_of_a_prediction_stays_at_the_largest_int32(index: int, frame: int) -> None:
    assert frame_values(replace(UPDATE, index=index))["frame"] == (frame,)


@pytest.mark.parametrize(
    ("valence", "arousal", "angle", "intensity", "weights"),
    [
        (1, 0, 0, 1, (0.5, 0, 0, 0.5)),
        (0, -1, 270, 1, (0, 0, 0.5, 0.5)),
        (-0.5, 0.5, 135, math.sqrt(0.5), (0.1875, 0.5625, 0.1875, 0.0625)),
        (0.3, 0.4, 53.13010235, 0.5, (0.455, 0.245, 0.105, 0.195)),
        # In the corners, beyond the unit circle.
        (-1, -1, 225, 1, (0, 0, 1, 0)),
        (0, 0, 0, 0, (0.25, 0.25, 0.25, 0.25)),
    ],
)
@pytest.mark.parametrize("group", ["", "smooth/"])
def test_points_of_the_plane(
    valence: float, arousal: float, angle: float, intensity: float, weights: tuple[float, ...], group: str
) -> None:
    values = mood_values(valence, arousal, group)
    assert {name: values.pop(f"{group}{name}") for name in ("valence", "arousal", "va")} == {
        **{"valence": (valence,), "arousal": (arousal,), "va": (valence, arousal)}
    }
    others = {
        **{"unipolar/valence": (valence + 1) / 2, "unipolar/arousal": (arousal + 1) / 2},
        **{"polar/angle": angle, "polar/turn": angle / 360, "polar/intensity": intensity},
        **dict(zip((f"weight/{word}" for word in ("happy", "tense", "sad", "calm")), weights, strict=True)),
    }
    assert values == {f"{group}{name}": pytest.approx((value,)) for name, value in others.items()}


@pytest.mark.parametrize(("rms_db", "meter"), [(0, 1), (-30, 0.5), (-15, 0.75), (-60, 0), (-60.5, 0), (-120, 0)])
def test_the_meter_goes_from_60_db_below_to_full_scale(rms_db: float, meter: float) -> None:
    assert level_values(InputLevel(-3.0, rms_db, LevelState.MUSIC)) == {
        "level/rms": (rms_db,),
        "level/peak": (-3.0,),
        "level/meter": (pytest.approx(meter),),
    }


def test_a_status_in_full() -> None:
    status = Status(
        "Bühne 音",
        SourceState.LOST,
        level=InputLevel(-6.0, -18.0, LevelState.QUIET),
        dropped_blocks=3,
        losses=2,
        recording="takes/1",
        ignored_packets=2**31,
    )
    assert status_values(status, 41, 0.14) == {
        "status/heartbeat": (41,),
        "status/source": ("lost",),
        "status/input": ("too quiet",),
        "status/drops": (3,),
        "status/losses": (2,),
        "status/latency": (pytest.approx(140.0),),
        "status/recording": (1,),
        "status/ignored": (LARGEST_INT,),
    }
    fresh = status_values(Status("a file", SourceState.OPENING), 0, None)
    assert (fresh["status/input"], fresh["status/latency"], fresh["status/recording"]) == (("none",), (0.0,), (0,))
    faulty = Status("", SourceState.RUNNING, recording="takes/1", recording_fault="The disk is full.")
    assert status_values(faulty, 0, None)["status/recording"] == (0,)


@pytest.mark.parametrize(("quadrant", "mood"), [(0, None), (1, "happy"), (2, "tense"), (3, "sad"), (4, "calm")])
def test_each_quadrant_has_a_switch(quadrant: int, mood: str | None) -> None:
    values = frame_values(Update(0, Prediction(1.0, 0.5, 0.5), False, None, quadrant))
    on = {name: value for name, value in values.items() if name.startswith("mood/")}
    assert on == {f"mood/{word}": (int(word == mood),) for word in ("happy", "tense", "sad", "calm")}


# --- the page ---

TYPES = {"f": "float32", "i": "int32", "s": "string"}


def address_row(address: Address) -> tuple[str, ...]:
    types, unit = TYPES[address.types[0]], f" {address.unit}" if address.unit else ""
    bounds = ""
    if address.low is not None:
        no_high = address.high is None
        bounds = f"{address.low:g}{unit} or more" if no_high else f"{address.low:g} to {address.high:g}{unit}"
    types = types if len(address.types) == 1 else f"{len(address.types)} × {types}"
    return f"`/mer/{address.name}`", types, bounds, address.when.value, address.meaning


def command_row(command: Command) -> tuple[str, ...]:
    values = [TYPES[letter] for letter in command.types] + [f"[{TYPES[letter]}]" for letter in command.optional]
    return f"`/mer/control/{command.name}`", ", ".join(values), command.meaning


@pytest.mark.parametrize("rows", [[*map(address_row, SPACE)], [*map(command_row, COMMANDS)]], ids=["sent", "commands"])
def test_the_page_has_the_table(rows: list[tuple[str, ...]]) -> None:
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    page = (ROOT / "docs" / "osc" / "addresses.md").read_text(encoding="utf-8")
    assert f"---{' | ---' * (len(rows[0]) - 1)} |\n{table}\n\n" in f"{page}\n", f"Put these rows there:\n{table}"
