"""What the log tells of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from logged import RUNNING, Clock, log, told

from realtime_mer.log.sink import LogSink, commands_told
from realtime_mer.osc.status import TargetState, TargetStatus
from realtime_mer.types import Prediction
from realtime_mer.updates import Answer, InputLevel, LevelState, SourceState, Update


def test_how_a_run_went(tmp_path: Path) -> None:
    path, clock = tmp_path / "night.log", Clock()
    sink = LogSink(list, clock)
    music, silence = InputLevel(-3.0, -20.0, LevelState.MUSIC), InputLevel(-70.0, -80.0, LevelState.SILENCE)
    with log(path):
        sink.status(replace(RUNNING, level=music))
        sink.status(replace(RUNNING, level=music))
        sink.update(Update(0, Prediction(1.0, 0.1, 0.2), False, 0.15))
        sink.update(Update(1, Prediction(1.5, 0.1, 0.2), False, 0.15))
        sink.update(Update(2, Prediction(2.0, 0.1, 0.2), True, 0.25))
        sink.status(replace(RUNNING, level=silence))
        sink.status(replace(RUNNING, state=SourceState.LOST, detail="No data.", losses=1, lost_s=0.0))
        sink.status(replace(RUNNING, state=SourceState.LOST, detail="No data.", losses=1, lost_s=2.9))
        sink.status(replace(RUNNING, losses=1, lost_s=3.25))
        sink.status(replace(RUNNING, state=SourceState.PAUSED, losses=1, lost_s=3.25))
        sink.status(replace(RUNNING, losses=1, lost_s=3.25))
        sink.status(replace(RUNNING, source="the mixer", losses=1, lost_s=3.25))
        sink.status(replace(RUNNING, source="the mixer", losses=2, lost_s=3.25, state=SourceState.LOST))
        sink.status(replace(RUNNING, source="the mixer", losses=2, lost_s=3.75, level=music, gain_db=4.0))
        sink.status(
            replace(
                RUNNING, source="the mixer", losses=2, lost_s=3.75, level=music, gain_db=4.0, state=SourceState.ENDED
            )
        )
        sink.close()
        sink.close()
    assert told(path) == [
        "the desk is running",
        "music",
        "silence: the prediction holds",
        "the desk is lost: No data.",
        "the desk is running again after 3.2 s",
        "the desk is paused",
        "the desk is running",
        "the mixer is running",
        "the mixer is lost",
        "the mixer is running again after 0.5 s",
        "the mixer has ended",
        "in all: 3 predictions, 0 blocks dropped, device lost 2 times for 3.8 s, latency 250 ms at most, "
        "level -20.0 dBFS, gain +4.0 dB; OSC to nobody",
    ]
    assert told(path, "WARNING") == ["the desk is lost: No data.", "the mixer is lost"]


def test_recordings_begin_end_and_break(tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    sink = LogSink(list)
    with log(path):
        sink.status(replace(RUNNING, recording="one"))
        sink.status(replace(RUNNING, recording="two"))
        sink.status(replace(RUNNING, recording="two", recording_fault="The disk is full."))
        sink.status(replace(RUNNING, recording="two", recording_fault="The disk is full."))
        sink.status(RUNNING)
    assert told(path) == [
        "the desk is running",
        "recording into one",
        "recorded into one",
        "recording into two",
        "the recording is incomplete: The disk is full.",
        "recorded into two",
    ]
    assert told(path, "ERROR") == ["the recording is incomplete: The disk is full."]


def test_what_rises_is_told_every_ten_seconds_at_most_and_at_the_end(tmp_path: Path) -> None:
    path, clock = tmp_path / "night.log", Clock()
    sink = LogSink(list, clock)
    with log(path):
        for n in range(31):
            clock.now_s = 0.5 * n
            sink.status(replace(RUNNING, dropped_blocks=n, dropped_s=n / 100, overflows=2 * (n > 3)))
        sink.close()
    assert [line for line in told(path, "WARNING") if "dropped" in line] == [
        "1 blocks dropped, 0.01 s: this machine cannot keep up",
        "21 blocks dropped, 0.21 s: this machine cannot keep up",
        "30 blocks dropped, 0.30 s: this machine cannot keep up",
    ]
    assert sum("overflows" in line for line in told(path)) == 1


def test_a_wrong_level_is_told_once_a_minute(tmp_path: Path) -> None:
    path, clock = tmp_path / "night.log", Clock()
    sink = LogSink(list, clock)
    with log(path):
        for second in range(70):
            clock.now_s = float(second)
            for state in (LevelState.CLIPPING, LevelState.MUSIC):
                sink.status(replace(RUNNING, level=InputLevel(0.0, -3.0, state)))
        sink.status(replace(RUNNING, level=InputLevel(-40.0, -50.0, LevelState.QUIET)))
    clipping = "the input is clipping (-3.0 dBFS, peak 0.0): turn it down"
    assert told(path, "WARNING") == [clipping, clipping, "the input is too quiet (-50.0 dBFS, peak -40.0): turn it up"]


def test_every_ten_minutes_it_says_how_things_are(tmp_path: Path) -> None:
    path, clock = tmp_path / "night.log", Clock()
    sink = LogSink(lambda: [TargetStatus("a:1", TargetState.UP)], clock)
    with log(path):
        for clock.now_s in (0.0, 599.0, 600.0, 601.0, 1200.0):
            sink.status(RUNNING)
    assert [line.partition(":")[0] for line in told(path) if "predictions" in line] == ["so far", "so far"]


def test_a_target_is_logged_once_its_state_has_lasted_for_two_seconds_whatever_is_counted(tmp_path: Path) -> None:
    path, clock = tmp_path / "night.log", Clock()
    opening = TargetStatus("a:1", TargetState.OPENING)
    up = replace(opening, state=TargetState.UP)
    down = replace(opening, state=TargetState.DOWN, reason="No route")
    states = [opening, *[up] * 4, *[replace(down, n_failed=n) for n in range(6)]]
    states += [replace(up, reason="No route", n_failed=8 + n, n_late=n) for n in range(4)]
    targets = [opening]
    sink = LogSink(lambda: targets, clock)
    with log(path):
        for second, targets[0] in enumerate(states):
            clock.now_s = float(second)
            sink.status(RUNNING)
    assert [line for line in told(path) if line.startswith("OSC")] == [
        *("OSC to a:1", "OSC to a:1 (not sending: No route)", "OSC to a:1"),
    ]
    assert told(path, "WARNING") == ["OSC to a:1 (not sending: No route)"]


def test_commands_are_told_with_what_came_of_them(tmp_path: Path) -> None:
    path = tmp_path / "night.log"
    answers: list[tuple[bool, str]] = []

    def carry_out(name: str, values: Any, answer: Answer) -> None:
        if name == "break":
            raise ValueError("broken")
        answer(name == "mark", f"{name} it is")

    def take(ok: bool, text: str) -> None:
        answers.append((ok, text))

    telling = commands_told(carry_out)
    with log(path):
        telling("mark", ("a\nb",), take)
        telling("rate", (6000.0, 1), take)
        with pytest.raises(ValueError, match="broken"):
            telling("break", (), take)
    assert answers == [(True, "mark it is"), (False, "rate it is")]
    assert told(path) == [
        *(r"command mark a\nb: mark it is", "command rate 6000.0 1: refused: rate it is"),
        "command break: this should not have happened",
    ]
