from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from drawing import RUNNING, require_qt, settle, show, update
from hypothesis import given
from hypothesis import strategies as st
from predictions import with_prediction

from realtime_mer.osc.status import ControlStatus, NetworkStatus, TargetState, TargetStatus
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update
from realtime_mer.window.captions import Field, duration, headline, level_text, signed, status_fields
from realtime_mer.window.theme import DARK, Theme, Tone, scaled

if TYPE_CHECKING:
    from realtime_mer.window.statusline import StatusLine

HERE, LIGHTS = (TargetStatus(name, TargetState.UP) for name in ("127.0.0.1:9000", "lights:8000"))


@pytest.mark.parametrize("state", [s for s in SourceState if s is not SourceState.RUNNING])
def test_a_source_that_is_not_running_leaves_a_ghost_with_the_reason(state: SourceState) -> None:
    head = headline(replace(RUNNING, state=state, detail="Because of this."), update(0, 0.1, 0.2))
    assert head.ghost
    assert state.value in head.word
    assert head.sentence == "Because of this."


def test_before_the_first_prediction_and_in_silence_there_is_a_ghost() -> None:
    assert (headline(RUNNING, None).word, headline(RUNNING, None).ghost) == ("listening", True)
    silent = headline(RUNNING, update(3, 0.1, 0.2, held=True))
    assert (silent.word, silent.ghost) == ("silence", True)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (LevelState.MUSIC, ""),
        (LevelState.QUIET, "too quiet"),
        (LevelState.CLIPPING, "clipping"),
        (LevelState.SILENCE, ""),
    ],
)
def test_while_the_music_is_followed_the_level_and_the_sources_detail_are_shown(state: LevelState, word: str) -> None:
    head = headline(replace(RUNNING, level=InputLevel(-1.0, -2.0, state), detail="At 8 kHz."), update(0, 0.1, 0.2))
    assert (head.word, head.ghost) == (word, False)
    assert word or head.sentence == "At 8 kHz."


def fields(
    status: Status, newest: Update | None = None, osc: Sequence[NetworkStatus] = ()
) -> dict[str, tuple[str, Tone]]:
    return {field.caption: (field.value, field.tone) for field in status_fields(status, newest, osc)}


def test_the_status_line_if_all_is_well() -> None:
    shown = fields(
        replace(RUNNING, time_s=3723.9),
        with_prediction(replace(update(0, 0.0, 0.0), latency_s=0.1874), confidence=0.628),
        [HERE, LIGHTS, ControlStatus("127.0.0.1:9001", 12, 0, "")],
    )
    assert shown == {
        "state": ("running", Tone.GOOD),
        "source": ("a device", Tone.PLAIN),
        "heard": ("1:02:03", Tone.PLAIN),
        "latency": ("187 ms", Tone.PLAIN),
        "lost sound": ("none", Tone.PLAIN),
        "device lost": ("never", Tone.PLAIN),
        "confidence": ("63 %", Tone.PLAIN),
        "recording": ("off", Tone.PLAIN),
        "OSC": ("127.0.0.1:9000, lights:8000", Tone.PLAIN),
        "commands": ("12 taken on 127.0.0.1:9001", Tone.PLAIN),
    }


def test_the_status_line_shows_every_loss() -> None:
    shown = fields(
        replace(
            RUNNING,
            state=SourceState.LOST,
            dropped_blocks=3,
            dropped_s=0.031,
            overflows=2,
            replaced_samples=5,
            losses=4,
            lost_s=9.96,
            recording="/sets/friday",
            recording_fault="the disk is full",
        ),
        update(0, 0.0, 0.0),
        [LIGHTS, replace(HERE, n_failed=3), ControlStatus("[::1]:9001", 2, 1, "no")],
    )
    assert shown["state"] == ("lost", Tone.BAD)
    assert shown["latency"] == ("–", Tone.PLAIN)
    assert shown["lost sound"] == ("3 blocks, 0.03 s, 2 overflows, 5 bad samples", Tone.BAD)
    assert shown["device lost"] == ("4 ×, 10.0 s", Tone.WARNING)
    assert shown["recording"] == ("incomplete: the disk is full", Tone.BAD)
    assert shown["OSC"] == ("127.0.0.1:9000 (3 packets not sent), lights:8000", Tone.WARNING), "trouble first"
    assert shown["commands"] == ("2 taken, 1 ignored (the last: no) on [::1]:9001", Tone.WARNING)
    assert fields(replace(RUNNING, recording="/sets/friday"))["recording"] == ("friday", Tone.GOOD)


def test_without_confidence_osc_and_commands_the_status_line_says_so() -> None:
    shown = fields(RUNNING)
    assert [shown[name][0] for name in ("confidence", "OSC", "commands")] == ["–", "off", "off"]


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
    assert level_text(None, 0.0) == "–"


# The widget


def line_of(fields_: Sequence[Field], width_px: int, theme: Theme = DARK) -> StatusLine:
    from realtime_mer.window.statusline import StatusLine

    require_qt()
    line = StatusLine(theme)
    line.show_fields(fields_)
    show(line, width_px, line.sizeHint().height())
    return line


@pytest.mark.parametrize("theme", [DARK, scaled(DARK, 3.0)], ids=["hd", "4k"])
def test_usual_texts_are_not_cut_off(theme: Theme) -> None:
    newest = with_prediction(update(0, 0.0, 0.0), confidence=0.63)
    line = line_of(
        status_fields(replace(RUNNING, source="USB Audio CODEC"), newest, [HERE]),
        round(1256 * theme.scale),
        theme,
    )
    cut = {caption for caption, value in line._values.items() if "…" in value.text()}
    assert cut == set()


def test_long_texts_do_not_move_the_fields() -> None:
    line = line_of(status_fields(RUNNING, update(0, 0.0, 0.0), [HERE]), 1256)
    before = {caption: value.geometry().getRect() for caption, value in line._values.items()}
    lost = replace(RUNNING, source="never ending " * 30, overflows=10**9, losses=100)
    line.show_fields(status_fields(lost, None, [replace(LIGHTS, n_failed=99999)] * 9))
    settle()
    assert {caption: value.geometry().getRect() for caption, value in line._values.items()} == before
    assert line._values["source"].text().endswith("…")
    assert line._values["source"].toolTip() == "never ending " * 30
