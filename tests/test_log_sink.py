"""The events of a run in the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from logged import LINE, RUNNING, Clock, log, logged

from realtime_mer.log.sink import LogSink, log_commands
from realtime_mer.osc.status import TargetState, TargetStatus
from realtime_mer.types import Prediction
from realtime_mer.updates import Answer, InputLevel, LevelState, SourceState, Update

ROOT = Path(__file__).resolve().parents[1]
MUSIC = InputLevel(-3.0, -20.0, LevelState.MUSIC)
SILENCE = InputLevel(-70.0, -80.0, LevelState.SILENCE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "night.log"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_run(path: Path, clock: Clock) -> None:
    sink = LogSink(list, clock)
    prediction = Prediction(1.0, 0.1, 0.2)
    music, silence = replace(RUNNING, level=MUSIC), replace(RUNNING, level=SILENCE)
    lost = replace(silence, state=SourceState.LOST, detail="No data.", losses=1)
    found = replace(RUNNING, losses=1, lost_s=3.25)
    mixer = replace(found, source="the mixer")
    back = replace(mixer, losses=2, lost_s=3.75, level=MUSIC, gain_db=4.0)
    with log(path, "debug"):
        for status in (music, music):
            sink.status(status)
        for index, (held, latency_s) in enumerate(((False, 0.15), (False, None), (True, 0.25))):
            sink.update(Update(index, prediction, held, latency_s))
        for status in (
            *(silence, lost, replace(lost, lost_s=2.9), found, replace(found, state=SourceState.PAUSED), found),
            *(mixer, replace(mixer, losses=2, state=SourceState.LOST), back, replace(back, state=SourceState.ENDED)),
        ):
            sink.status(status)
        sink.close()
        sink.close()
    lines = logged(path)
    assert [line for line in lines if line.startswith(("prediction", "the input"))] == [
        "the input is music: -20.0 dBFS, peak -3.0",
        "prediction 0: valence +0.100, arousal +0.200, latency 150 ms",
        "prediction 1: valence +0.100, arousal +0.200",
        "prediction 2: valence +0.100, arousal +0.200, latency 250 ms",
        "the input is silence: -80.0 dBFS, peak -70.0",
        "the input is music: -20.0 dBFS, peak -3.0",
    ]
    assert [line for line in lines if not line.startswith(("prediction", "the input"))] == [
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
        "level -20.0 dBFS, gain +4.0 dB; OSC to no target",
    ]
    assert logged(path, "WARNING") == ["the desk is lost: No data.", "the mixer is lost"]


def test_the_lines_in_the_documentation(path: Path, clock: Clock) -> None:
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    documented = [line for line in map(LINE.fullmatch, map(str.strip, page.splitlines())) if line]
    lost, found = (line["message"] for line in documented)
    source, detail = lost.split(" is lost: ")
    assert detail in (ROOT / "realtime_mer" / "sources" / "device.py").read_text(encoding="utf-8")
    running = replace(RUNNING, source=source)
    sink = LogSink(list, clock)
    with log(path):
        sink.status(running)
        sink.status(replace(running, state=SourceState.LOST, detail=detail, losses=1))
        sink.status(replace(running, losses=1, lost_s=float(found.split(" ")[-2])))
    assert logged(path)[1:] == [lost, found]
    assert (logged(path, "WARNING"), [line["level"] for line in documented]) == ([lost], ["WARNING", "INFO"])


def test_recordings(path: Path) -> None:
    sink = LogSink(list)
    with log(path):
        one, two = (replace(RUNNING, recording=name) for name in ("one", "two"))
        full = replace(two, recording_fault="The disk is full.")
        for status in (one, two, full, full, RUNNING):
            sink.status(status)
    assert logged(path) == [
        "the desk is running",
        "recording into one",
        "recorded into one",
        "recording into two",
        "the recording is incomplete: The disk is full.",
        "recorded into two",
    ]
    assert logged(path, "ERROR") == ["the recording is incomplete: The disk is full."]


def test_rising_counts_are_logged_every_ten_seconds_at_most_and_at_the_end(path: Path, clock: Clock) -> None:
    sink = LogSink(list, clock)
    with log(path):
        for n in range(31):
            clock.now_s = 0.5 * n
            sink.status(replace(RUNNING, dropped_blocks=n, dropped_s=n / 100, overflows=2 * (n > 3)))
        sink.close()
    lines = logged(path, "WARNING")
    assert [line for line in lines if "dropped" in line] == [
        "1 blocks dropped, 0.01 s: this machine cannot keep up",
        "21 blocks dropped, 0.21 s: this machine cannot keep up",
        "30 blocks dropped, 0.30 s: this machine cannot keep up",
    ]
    assert sum("overflows" in line for line in lines) == 1


def test_a_wrong_level_is_logged_once_a_minute(path: Path, clock: Clock) -> None:
    sink = LogSink(list, clock)
    with log(path):
        for second in range(70):
            clock.now_s = float(second)
            for state in (LevelState.CLIPPING, LevelState.MUSIC):
                sink.status(replace(RUNNING, level=InputLevel(0.0, -3.0, state)))
        sink.status(replace(RUNNING, level=InputLevel(-40.0, -50.0, LevelState.QUIET)))
    assert logged(path, "WARNING") == [
        *2 * ["the input is clipping (-3.0 dBFS, peak 0.0): turn it down"],
        "the input is too quiet (-50.0 dBFS, peak -40.0): turn it up",
    ]


def test_a_summary_is_logged_every_ten_minutes(path: Path, clock: Clock) -> None:
    sink = LogSink(lambda: [TargetStatus("a:1", TargetState.UP)], clock)
    with log(path):
        for clock.now_s in (0.0, 599.0, 600.0, 601.0, 1200.0):
            sink.status(RUNNING)
    assert [line.partition(":")[0] for line in logged(path) if "predictions" in line] == ["so far", "so far"]


def test_a_target_s_state_is_logged_once_it_has_lasted_for_two_seconds(path: Path, clock: Clock) -> None:
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
    assert [line for line in logged(path) if line.startswith("OSC")] == [
        *("OSC to a:1", "OSC to a:1 (not sending: No route)", "OSC to a:1"),
    ]
    assert logged(path, "WARNING") == ["OSC to a:1 (not sending: No route)"]


def test_commands_are_logged_with_their_answers(path: Path) -> None:
    answers: list[tuple[bool, str]] = []

    def carry_out(name: str, values: Any, answer: Answer) -> None:
        if name == "break":
            raise ValueError("broken")
        answer(name == "mark", f"{name} it is")

    def command(name: str, *values: Any) -> None:
        log_commands(carry_out)(name, values, lambda ok, text: answers.append((ok, text)))

    with log(path):
        command("mark", "a\nb")
        command("rate", 6000.0, 1)
        with pytest.raises(ValueError, match="broken"):
            command("break")
    assert answers == [(True, "mark it is"), (False, "rate it is")]
    assert logged(path) == [
        r"command mark a\nb: mark it is",
        "command rate 6000.0 1: refused: rate it is",
        "command break: this should not have happened",
    ]
