from __future__ import annotations

from dataclasses import replace

import pytest
from drawing import RUNNING, update
from hypothesis import given
from hypothesis import strategies as st
from predictions import with_prediction

from realtime_mer.osc.status import ControlStatus, NetworkStatus, QueryStatus, TargetState, TargetStatus
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update
from realtime_mer.window.captions import duration, headline, level_text, network_fields, signed, status_fields
from realtime_mer.window.theme import Tone

UP = TargetStatus("lights:8000", TargetState.UP)
MUSIC, SILENCE = update(0, 0.1, 0.2), update(3, 0.1, 0.2, held=True)


def at_level(state: LevelState) -> Status:
    return replace(RUNNING, level=InputLevel(-1.0, -2.0, state), detail="At 8 kHz.")


@pytest.mark.parametrize(
    ("status", "newest", "word", "sentence", "ghost"),
    [
        *(
            (replace(RUNNING, state=state, detail="Because of this."), MUSIC, word, "Because of this.", True)
            for state, word in (
                (SourceState.OPENING, "opening"),
                (SourceState.PAUSED, "paused"),
                (SourceState.LOST, "device lost"),
                (SourceState.ENDED, "ended"),
            )
        ),
        (RUNNING, None, "listening", "The first prediction takes a second of sound.", True),
        (RUNNING, SILENCE, "silence", "The last prediction holds.", True),
        (RUNNING, MUSIC, "", "Following the music.", False),
        (at_level(LevelState.MUSIC), MUSIC, "", "At 8 kHz.", False),
        (at_level(LevelState.QUIET), MUSIC, "too quiet", "Turn the input up.", False),
        (at_level(LevelState.CLIPPING), MUSIC, "clipping", "Turn the input down.", False),
    ],
)
def test_the_headline_shows_the_state_of_the_run(
    status: Status, newest: Update | None, word: str, sentence: str, ghost: bool
) -> None:
    head = headline(status, newest)
    assert (head.word, head.sentence, head.ghost) == (word, sentence, ghost)


def fields(status: Status, newest: Update | None = None) -> dict[str, tuple[str, Tone]]:
    return {field.caption: (field.value, field.tone) for field in status_fields(status, newest)}


def test_the_status_line_if_all_is_well() -> None:
    newest = with_prediction(replace(update(0, 0.0, 0.0), latency_s=0.1874), confidence=0.628)
    assert fields(replace(RUNNING, time_s=3723.9, recording="/sets/friday"), newest) == {
        "state": ("running", Tone.GOOD),
        "source": ("a device", Tone.PLAIN),
        "processed": ("1:02:03", Tone.PLAIN),
        "latency": ("187 ms", Tone.PLAIN),
        "lost sound": ("none", Tone.PLAIN),
        "device lost": ("never", Tone.PLAIN),
        "confidence": ("63 %", Tone.PLAIN),
        "recording": ("friday", Tone.GOOD),
    }


def test_the_status_line_shows_every_loss() -> None:
    lost = {"dropped_blocks": 3, "dropped_s": 0.031, "overflows": 2, "replaced_samples": 5, "losses": 4, "lost_s": 9.96}
    shown = fields(
        replace(RUNNING, state=SourceState.LOST, recording="/a", recording_fault="the disk is full", **lost),  # type: ignore[arg-type]
        update(0, 0.0, 0.0),
    )
    assert shown["state"] == ("lost", Tone.BAD)
    assert shown["latency"] == shown["confidence"] == ("–", Tone.PLAIN)
    assert shown["lost sound"] == ("3 blocks, 0.03 s, 2 overflows, 5 bad samples", Tone.BAD)
    assert shown["device lost"] == ("4 ×, 10.0 s", Tone.WARNING)
    assert shown["recording"] == ("incomplete: the disk is full", Tone.BAD)


def test_every_target_and_server_has_a_field_with_its_state() -> None:
    network: list[NetworkStatus] = [
        UP,
        TargetStatus("127.0.0.1:9000", TargetState.UNDELIVERED, "nothing listens there", n_failed=3),
        TargetStatus("tcp desk:9", TargetState.DOWN, "Connection refused"),
        ControlStatus("[::1]:9001", 2, 1, "no"),
        QueryStatus("127.0.0.1:8080", 2, 0, 0, ""),
    ]
    assert [(field.caption, field.value, field.tone) for field in network_fields(network)] == [
        ("OSC to lights:8000", "sending", Tone.PLAIN),
        ("OSC to 127.0.0.1:9000", "nothing listens there; 3 packets not sent", Tone.WARNING),
        ("OSC to tcp desk:9", "not sending: Connection refused", Tone.WARNING),
        ("commands on [::1]:9001", "2 taken, 1 ignored (the last: no)", Tone.WARNING),
        ("OSCQuery on http://127.0.0.1:8080", "2 listening", Tone.PLAIN),
    ]


@pytest.mark.parametrize(
    ("n_down", "first", "last"),
    [
        (0, "sending", ("5 more", "all well", Tone.PLAIN)),
        (1, "not sending: no", ("5 more", "all well", Tone.PLAIN)),
        (7, "not sending: no", ("5 more", "2 with problems", Tone.WARNING)),
    ],
)
def test_of_many_targets_those_in_trouble_come_first(n_down: int, first: str, last: tuple[str, str, Tone]) -> None:
    shown = network_fields((10 - n_down) * [UP] + n_down * [TargetStatus("desk:1", TargetState.DOWN, "no")])
    assert len(shown) == 6
    assert shown[0].value == first
    assert (shown[-1].caption, shown[-1].value, shown[-1].tone) == last


@given(st.floats(-1.0, 1.0))
def test_a_signed_number_has_its_sign_and_reads_back(value: float) -> None:
    text = signed(value)
    assert text[0] in "+−"
    assert text != "−0.00"
    assert abs(float(text.replace("−", "-")) - value) <= 0.005 + 1e-9


@given(st.integers(0, 10**6))
def test_a_duration_reads_back(seconds: int) -> None:
    hours, minutes, rest = map(int, duration(seconds + 0.5).split(":"))
    assert 3600 * hours + 60 * minutes + rest == seconds
    assert max(minutes, rest) < 60


def test_the_level_in_figures() -> None:
    assert level_text(InputLevel(-3.14, -18.26, LevelState.MUSIC), 2.04) == "−18.3 dBFS · peak −3.1 · gain +2.0 dB"
