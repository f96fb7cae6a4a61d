from __future__ import annotations

import io
import math
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictions import with_prediction
from pseudo_terminal import on_a_terminal
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from realtime_mer.terminal.view import TerminalView, render, source_line, update_line
from realtime_mer.types import Prediction
from realtime_mer.updates import Board, InputLevel, LevelState, SourceState, Status, Update

ROOT = Path(__file__).resolve().parents[1]
GENEROUS_S = 30.0

MUSIC = InputLevel(-6.2, -18.3, LevelState.MUSIC)
RUNNING = Status("Monitor of Null Output", SourceState.RUNNING, time_s=754.3, level=MUSIC, gain_db=3.2)
UPDATES = [
    Update(i, Prediction(1 + i / 2, 0.5 * math.sin(i / 7), 0.6 * math.cos(i / 9) + 0.1), False, 0.140 + 0.001 * (i % 7))
    for i in range(120)
]
ADVICE = "It was unplugged 12 s ago and is tried again every 2 s: plug it in, or choose another with --device."
LOST = replace(RUNNING, state=SourceState.LOST, detail=ADVICE, losses=2, lost_s=12.1)


def picture(
    status: Status = RUNNING,
    updates: Sequence[Update] = UPDATES,
    *,
    osc: Sequence[str] = ("127.0.0.1:9000",),
    keys: str = "space pause   q quit",
    width: int = 80,
    height: int = 24,
    encoding: str = "utf-8",
) -> Text:
    return render(status, updates, osc=osc, keys=keys, width=width, height=height, encoding=encoding)


def words(text: Text) -> str:
    """What stands there, with a wrapped sentence in one piece again."""
    return re.sub(r"\s+", " ", text.plain)


def at(valence: float, arousal: float, *, held: bool = False) -> Update:
    return Update(0, Prediction(1.0, valence, arousal), held, 0.1)


# --- the picture ---


def test_a_run_that_goes_well() -> None:
    text = picture()
    assert text.plain.splitlines()[0] == " RUNNING  Monitor of Null Output" + " " * 41 + "0:12:34"
    for expected in (
        f"valence {UPDATES[-1].prediction.valence:+.3f}",
        f"arousal {UPDATES[-1].prediction.arousal:+.3f}",
        "input -18.3 dBFS, peak -6.2",
        " MUSIC ",
        "gain +3.2 dB",
        "latency 140 ms, median 143 ms",
        "dropped 0 blocks (0.0 s)",
        "overflows 0",
        "losses 0 (0.0 s in all)",
        "recording off",
        "OSC to 127.0.0.1:9000",
        "keys space pause q quit",
        "tense, angry",
        "happy, exuberant",
        "sad, gloomy",
        "calm, tender",
    ):
        assert expected in words(text), expected
    assert "held" not in text.plain


def test_before_the_first_prediction() -> None:
    text = words(picture(Status("default", SourceState.OPENING), []))
    assert text.startswith(" OPENING default")
    assert "no prediction yet" in text
    assert "latency none yet" in text
    assert "input no sound" in text
    assert "●" not in text


def test_the_bars_and_the_point_stand_where_the_values_are() -> None:
    lines = picture(updates=[at(0.5, -1.0)]).plain.splitlines()
    valence, arousal = (line for line in lines if line.endswith(" +1"))
    assert valence.split("  ")[-1] == "-1 ──────────────│███████─────── +1"
    assert arousal.split("  ")[-1] == "-1 ██████████████│────────────── +1"
    (row,) = (i for i, line in enumerate(lines) if "●" in line)
    assert lines[row + 1].startswith("└")
    # Three quarters of the plane's 41 columns, after its frame.
    assert lines[row].index("●") == 1 + 30


@pytest.mark.parametrize(
    ("update", "corner"), [(at(-1, 1), "tense"), (at(1, 1), "happy"), (at(-1, -1), "sad"), (at(1, -1), "calm")]
)
def test_the_corners_are_named_after_their_quadrants(update: Update, corner: str) -> None:
    """The point of an extreme mood stands in its corner, beside that corner's word."""
    (line,) = (line for line in picture(updates=[update]).plain.splitlines() if "●" in line)
    left, right = line.split("│")[1:3]
    assert corner in (left if update.prediction.valence < 0 else right)
    assert line.index("●") == (1 if update.prediction.valence < 0 else 41)


def test_the_last_seconds_leave_a_trail() -> None:
    far_behind, behind = with_prediction(at(-0.5, 0.5), time_s=1.0), with_prediction(at(0.5, 0.5), time_s=20.0)
    text = picture(updates=[far_behind, behind, with_prediction(at(0.5, -0.5), time_s=22.0)]).plain
    assert text.count("·") == 1
    assert text.count("●") == 1


def test_silence_says_that_the_prediction_holds() -> None:
    silent = replace(RUNNING, level=InputLevel(-120.0, -120.0, LevelState.SILENCE))
    text = picture(silent, [replace(UPDATES[-1], held=True)])
    assert "held: silence" in text.plain
    assert "SILENCE  the prediction holds" in text.plain
    assert "○" in text.plain
    assert "●" not in text.plain


@pytest.mark.parametrize(
    ("state", "advice"),
    [(LevelState.QUIET, "TOO QUIET  turn the input up"), (LevelState.CLIPPING, "CLIPPING  turn the input down")],
)
@pytest.mark.parametrize("width", [40, 80])
def test_a_bad_level_is_a_word_and_a_cure(state: LevelState, advice: str, width: int) -> None:
    assert advice in picture(replace(RUNNING, level=InputLevel(-0.0, -3.0, state)), width=width).plain


def test_the_meter_goes_up_to_full_scale() -> None:
    def cells(rms_db: float, peak_db: float) -> str:
        level = InputLevel(peak_db, rms_db, LevelState.MUSIC)
        lines = picture(replace(RUNNING, level=level), width=40).plain.splitlines()
        return lines[next(i for i, line in enumerate(lines) if line.startswith("input")) + 1]

    assert cells(-120.0, -120.0) == "─" * 40
    assert cells(-36.0, -18.0) == "█" * 20 + "─" * 9 + "┃" + "─" * 10
    assert cells(0.0, 0.0) == cells(3.0, 6.0) == "█" * 40


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_lost_source_is_told_with_all_of_its_advice(width: int) -> None:
    text = picture(LOST, width=width)
    assert text.plain.startswith(" LOST  Monitor of Null Output")
    assert ADVICE in words(text)
    assert "the last one: the source is lost" in text.plain
    assert "no sound" in text.plain
    assert re.search(r"losses +2", text.plain)
    assert "red" in str(text.get_style_at_offset(Console(), 1))


def test_a_paused_source_is_told() -> None:
    text = picture(replace(RUNNING, state=SourceState.PAUSED), keys="space go on   q quit")
    assert text.plain.startswith(" PAUSED ")
    assert "the last one: the source is paused" in text.plain


@pytest.mark.parametrize("width", [40, 80])
def test_losses_of_sound_stand_out(width: int) -> None:
    console = Console()
    for name in ("dropped_blocks", "overflows", "losses"):
        good, bad = picture(width=width), picture(replace(RUNNING, **{name: 41}), width=width)  # type: ignore[arg-type]
        assert "41" in bad.plain
        assert "41" not in good.plain
        assert "yellow" in str(bad.get_style_at_offset(console, bad.plain.index("41")))
        assert "yellow" not in str(good.get_style_at_offset(console, good.plain.index("dropped") + 11))
    assert "replaced   7 samples" in picture(replace(RUNNING, replaced_samples=7)).plain


def test_only_the_frames_and_labels_are_dim() -> None:
    text = picture(replace(RUNNING, level=replace(MUSIC, state=LevelState.CLIPPING)))
    dim = {word: text.get_style_at_offset(Console(), text.plain.index(word)).dim for word in ("┌", "latency", "gain")}
    assert dim == dict.fromkeys(dim, True)
    for word in ("Monitor", "CLIPPING", "turn the input down", "140 ms", "+3.2 dB", "tense", "●", "█"):
        assert not text.get_style_at_offset(Console(), text.plain.index(word)).dim, word


def test_latency_is_the_last_and_the_median() -> None:
    updates = [replace(at(0, 0), latency_s=latency_s) for latency_s in (0.9, 0.1, 0.2, None, 0.3)]
    assert "latency    300 ms, median 250 ms" in picture(updates=updates).plain
    assert "latency    not live" in picture(updates=[replace(at(0, 0), latency_s=None)]).plain


@pytest.mark.parametrize("width", [40, 80])
def test_where_it_all_goes(width: int) -> None:
    assert "recording  takes/one" in picture(replace(RUNNING, recording="takes/one"), width=width).plain
    broken = replace(RUNNING, recording="takes/one", recording_fault="disk full")
    assert "recording  INCOMPLETE: disk full" in picture(broken, width=width).plain
    assert "OSC to     a:1, b:2" in picture(osc=["a:1", "b:2"], width=width).plain
    assert "OSC to     nobody" in picture(osc=[], width=width).plain


def test_a_long_name_is_cut_and_the_clock_stays() -> None:
    first, *_ = picture(replace(RUNNING, source="x" * 200)).plain.splitlines()
    assert first.endswith("x… 0:12:34")
    assert len(first) == 80


def test_no_name_can_write_on_the_terminal() -> None:
    nasty = "a\x1b[2Jb\nc\td\udcffe\x9bf"
    status = replace(LOST, source=nasty, detail=nasty, recording=nasty, recording_fault=nasty)
    text = picture(status, osc=[nasty])
    assert all(line.isprintable() for line in text.plain.split("\n"))
    assert text.plain.startswith(" LOST  a?[2Jb c d?e?f ")
    assert source_line(status).endswith(nasty)


def test_a_terminal_without_unicode_gets_none() -> None:
    status = replace(LOST, source="Bühne ♫", detail="Café weg. " * 40)
    assert picture(status, width=40, encoding="ascii", osc=["bühne:9000"]).plain.isascii()
    assert picture(status, encoding="ascii").plain.isascii()
    assert "Bühne ?" in picture(status, encoding="iso8859-1").plain
    assert "@" in picture(encoding="ascii").plain


@pytest.mark.parametrize("state", SourceState)
def test_without_colour_every_state_is_still_a_word(state: SourceState) -> None:
    out = io.StringIO()
    Console(file=out, width=80, no_color=True, force_terminal=True).print(picture(replace(RUNNING, state=state)))
    assert state.upper() in out.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*\b3[0-7]\b", out.getvalue())


def test_a_full_screen_shows_everything_down_to_the_keys() -> None:
    for width in (40, 80):
        for status in (RUNNING, LOST, replace(LOST, detail=ADVICE * 5, replaced_samples=3)):
            lines = picture(status, width=width).plain.splitlines()
            assert len(lines) <= 24
            assert lines[-1].startswith("keys")
            assert any("losses" in line for line in lines)
            assert any("arousal +1" in line for line in lines)


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 70),
    name=st.text(),
    detail=st.text(max_size=500),
    state=st.sampled_from(SourceState),
    level=st.none() | st.builds(InputLevel, st.floats(-120, 10), st.floats(-120, 10), st.sampled_from(LevelState)),
    values=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.booleans()), max_size=5),
    numbers=st.integers(0, 10**12),
    encoding=st.sampled_from(["utf-8", "ascii", "cp1252"]),
)
def test_it_fits_every_terminal(
    width: int,
    height: int,
    name: str,
    detail: str,
    state: SourceState,
    level: InputLevel | None,
    values: list[tuple[float, float, bool]],
    numbers: int,
    encoding: str,
) -> None:
    status = Status(
        name, state, detail, float(numbers), level, 3.0, numbers, 1.0, numbers, numbers, numbers, 1.0, name, detail
    )
    updates = [Update(i, Prediction(1 + i / 2, v, a), held, None) for i, (v, a, held) in enumerate(values)]
    text = picture(status, updates, osc=[name], width=width, height=height, encoding=encoding)
    lines = text.plain.split("\n")
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert text.plain.encode(encoding)


# --- lines ---


def test_lines_where_the_output_is_no_terminal() -> None:
    out = io.StringIO()
    board = Board("default")
    with TerminalView(board, quit_=lambda: None, stream=out) as view:
        view.refresh()
        board.status(replace(RUNNING, time_s=0.5))
        for update in UPDATES[:2]:
            board.update(update)
        view.refresh()
        view.refresh()
        board.status(replace(RUNNING, time_s=2.0, level=InputLevel(-90.0, -90.0, LevelState.SILENCE)))
        board.update(replace(UPDATES[2], held=True))
        view.refresh()
        board.update(with_prediction(UPDATES[3], valence=0.1, arousal=-0.2))
        board.status(replace(RUNNING, state=SourceState.LOST, detail="It is\ngone.", time_s=2.6))
        view.refresh()
        board.status(replace(RUNNING, time_s=2.6, recording_fault="disk full"))
        view.refresh()
        view.refresh()
        board.status(replace(RUNNING, state=SourceState.ENDED, time_s=2.6, recording_fault="disk full"))
    view.refresh()
    assert out.getvalue().splitlines() == [
        "0.0 s  source opening: default",
        "0.5 s  source running: Monitor of Null Output",
        "1.0 s  valence +0.000  arousal +0.700  music",
        "1.5 s  valence +0.071  arousal +0.696  music",
        "2.0 s  valence +0.141  arousal +0.685  silence, held",
        "2.5 s  valence +0.100  arousal -0.200  music",
        "2.6 s  source lost: Monitor of Null Output: It is gone.",
        "2.6 s  source running: Monitor of Null Output",
        "2.6 s  recording incomplete: disk full",
        "2.6 s  source ended: Monitor of Null Output",
    ]


def test_a_line_says_what_the_input_is() -> None:
    update = Update(23, Prediction(12.5, 0.123, -0.301), False, None)
    assert update_line(update, RUNNING) == "12.5 s  valence +0.123  arousal -0.301  music"
    assert update_line(update, replace(RUNNING, level=None)).endswith("  music")
    clipping = replace(RUNNING, level=InputLevel(0.0, -1.0, LevelState.CLIPPING))
    assert update_line(update, clipping).endswith("  clipping")


def test_running_shows_all_until_it_is_stopped_and_what_came_last() -> None:
    out = io.StringIO()
    board = Board("a song")
    stop = threading.Event()
    thread = threading.Thread(target=TerminalView(board, quit_=stop.set, stream=out).run, args=(stop,))
    thread.start()
    give_up_at = time.monotonic() + GENEROUS_S
    for update in UPDATES[:5]:
        board.update(update)
        while f"{update.time_s:.1f} s  valence" not in out.getvalue() and time.monotonic() < give_up_at:
            time.sleep(0.01)
    board.update(UPDATES[5])
    stop.set()
    thread.join(GENEROUS_S)
    assert not thread.is_alive()
    assert [line.split(" ")[0] for line in out.getvalue().splitlines()] == [
        "0.0",
        *(f"{update.time_s:.1f}" for update in UPDATES[:6]),
    ]


def test_a_reader_that_has_gone_away_is_told_to_the_caller() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    out = os.fdopen(write_end, "w")
    view = TerminalView(Board("default"), quit_=lambda: None, stream=out)
    with pytest.raises(BrokenPipeError), view:
        view.refresh()
    with pytest.raises(BrokenPipeError):
        out.close()


def test_each_line_is_out_at_once() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as reader, os.fdopen(write_end, "w") as out:
        TerminalView(Board("default"), quit_=lambda: None, stream=out).refresh()
        assert select.select([reader], [], [], GENEROUS_S)[0]
        assert reader.read(100) == b"0.0 s  source opening: default\n"


def test_an_output_without_unicode_gets_question_marks(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("w", encoding="ascii") as out:
        TerminalView(Board("Bühne"), quit_=lambda: None, stream=out).refresh()
    assert path.read_bytes() == b"0.0 s  source opening: B?hne\n"


def test_a_missing_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with TerminalView(Board("default"), quit_=lambda: None) as view:
        view.refresh()


# --- on a real terminal ---

PROGRAM = """
import fcntl, os, subprocess, sys, termios, threading
from dataclasses import replace
from realtime_mer.types import Prediction
from realtime_mer.updates import *
from realtime_mer.terminal.view import TerminalView
how = sys.argv[1]
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if how == "background":
    other = subprocess.Popen(["sleep", "60"], process_group=0)
    os.tcsetpgrp(0, other.pid)
board, stop = Board("Monitor"), threading.Event()
board.status(Status("Monitor", SourceState.RUNNING, level=InputLevel(-6, -18, LevelState.MUSIC)))
if how == "long":
    for i in range(240):
        board.update(Update(i, Prediction(1 + i / 2, 0.1, 0.2), False, 0.9 if i < 120 else 0.05))
else:
    board.update(Update(0, Prediction(1.0, 0.1, 0.2), False, 0.15))
if how in ("briefly", "background"):
    threading.Timer(0.5, stop.set).start()
def toggle():
    print("toggled", file=sys.stderr)
    board.status(replace(board.latest_status, state=SourceState.PAUSED))
def osc():
    if how == "crash" and board.latest_status.state is SourceState.PAUSED:
        raise ZeroDivisionError
    return ["127.0.0.1:9000"]
print(sys.stdin.isatty(), "starts", flush=True)
TerminalView(board, quit_=stop.set, toggle_pause=toggle, osc=osc).run(stop)
print("ends", flush=True)
if how == "background":
    other.kill()
"""
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def test_on_a_terminal_it_has_the_screen_and_the_keys_until_q() -> None:
    code, wrote = on_a_terminal(PROGRAM, "well", script=[(b"RUNNING", b" "), (b"PAUSED", b"q")])
    assert code == 0
    before, inside = wrote.split(ENTER)
    inside, after = inside.split(LEAVE)
    assert before == b"True starts\r\n"
    assert HIDE in inside
    assert b"space pause" in inside
    assert b"space go on" in inside
    assert b"127.0.0.1:9000" in inside
    assert b"toggled" not in inside
    assert after == SHOW + b"toggled\r\nends\r\n"


def test_every_picture_begins_at_the_top_and_fills_the_screen() -> None:
    _, wrote = on_a_terminal(PROGRAM, "well", script=[(b"RUNNING", b""), (b"RUNNING", b"q")])
    # Where the cursor goes home: once with the screen, then for each picture.
    first, *pictures = wrote.split(ENTER)[1].split(LEAVE)[0].split(b"\x1b[H")[1:]
    assert first.replace(HIDE, b"") == b""
    assert len(pictures) >= 2
    for shown in pictures:
        lines = re.sub(rb"\x1b\[[0-9;?]*[a-z]", b"", shown).decode().split("\r\n")
        assert [cell_len(line) for line in lines] == [80] * 24


def test_a_crash_gives_the_terminal_back_before_it_is_told() -> None:
    code, wrote = on_a_terminal(PROGRAM, "crash", script=[(b"RUNNING", b" ")])
    assert code == 1
    inside, after = wrote.split(LEAVE)
    assert b"Traceback" not in inside
    assert after.startswith(SHOW + b"toggled\r\nTraceback")
    assert b"ZeroDivisionError" in after


def test_ctrl_c_gives_the_terminal_back() -> None:
    code, wrote = on_a_terminal(PROGRAM, "well", script=[(b"RUNNING", b"\x03")])
    assert code == -signal.SIGINT
    inside, after = wrote.split(LEAVE)
    assert b"KeyboardInterrupt" not in inside
    assert b"KeyboardInterrupt" in after


@pytest.mark.parametrize(("how", "term"), [("briefly", "dumb"), ("background", "xterm-256color")])
def test_a_terminal_that_can_do_no_more_or_is_not_ours_gets_lines(how: str, term: str) -> None:
    code, wrote = on_a_terminal(PROGRAM, how, script=[], term=term)
    assert code == 0
    assert wrote.decode().splitlines() == [
        "True starts",
        "0.0 s  source running: Monitor",
        "1.0 s  valence +0.100  arousal +0.200  music",
        "ends",
    ]


def test_the_median_is_that_of_the_last_minute() -> None:
    """The program has heard two minutes: one with a latency of 900 ms, and one of 50 ms."""
    _, wrote = on_a_terminal(PROGRAM, "long", script=[(b"median", b"q")])
    assert b"50 ms, median 50 ms" in wrote
