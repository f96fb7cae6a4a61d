"""The terminal view: the page on a screen of any size, the plain lines, and its handling of a real terminal."""

from __future__ import annotations

import io
import math
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_sockets import GENEROUS_S, eventually
from pseudo_terminal import on_a_terminal
from rich.cells import cell_len
from rich.console import Console
from rich.screen import Screen
from rich.segment import Segment

from realtime_mer.terminal.view import Page, TerminalView
from realtime_mer.types import Prediction
from realtime_mer.updates import Board, InputLevel, LevelState, SourceState, Status, Update

MUSIC = InputLevel(-6.2, -18.3, LevelState.MUSIC)
RUNNING = Status("Monitor of Null Output", SourceState.RUNNING, time_s=754.3, level=MUSIC, gain_db=3.2)


def at(
    valence: float, arousal: float, *, time_s: float = 1.0, latency_s: float | None = 0.1, held: bool = False
) -> Update:
    return Update(0, Prediction(time_s, valence, arousal), held, latency_s)


UPDATES = [
    at(0.5 * math.sin(i / 7), 0.6 * math.cos(i / 9) + 0.1, time_s=1 + i / 2, latency_s=0.140 + 0.001 * (i % 7))
    for i in range(120)
]
ADVICE = "It was unplugged 12 s ago and is tried again every 2 s: plug it in, or choose another with --device."
LOST = replace(RUNNING, state=SourceState.LOST, detail=ADVICE, losses=2, lost_s=12.1)


def page_console(width: int = 80, height: int = 24, encoding: str = "utf-8") -> Console:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=out, width=width, height=height, markup=False, emoji=False, highlight=False)


def screen(
    status: Status = RUNNING,
    updates: Sequence[Update] = UPDATES,
    *,
    osc: Sequence[str] = ("127.0.0.1:9000",),
    encoding: str = "utf-8",
    **size: int,
) -> list[str]:
    """The lines on the terminal, as they are written in its encoding."""
    console = page_console(**size, encoding=encoding)
    console.print(Screen(Page(status, updates, osc, "space pause   q quit")), end="")
    console.file.flush()
    written: bytes = console.file.buffer.getvalue()  # type: ignore[attr-defined]
    return written.decode(encoding).split("\n")


def words(status: Status = RUNNING, updates: Sequence[Update] = UPDATES, **options: object) -> str:
    """The text on the terminal, with every row of spaces as one."""
    return re.sub(r"\s+", " ", " ".join(screen(status, updates, **options)))  # type: ignore[arg-type]


def style_of(word: str, status: Status, width: int = 80) -> str:
    """The style of the first character of `word`."""
    console = page_console(width)
    page = Page(status, UPDATES, [], "q quit")
    segments = list(Segment.simplify(console.render(Screen(page), console.options)))
    offset = "".join(segment.text for segment in segments).index(word)
    for segment in segments:
        if offset < len(segment.text):
            return str(segment.style)
        offset -= len(segment.text)
    raise AssertionError(word)


# --- the page ---


@pytest.mark.parametrize(
    ("valence", "arousal", "corner"), [(-1, 1, "tense"), (1, 1, "happy"), (-1, -1, "sad"), (1, -1, "calm")]
)
def test_the_point_is_in_the_named_corner_and_the_bars_agree(valence: float, arousal: float, corner: str) -> None:
    lines = screen(updates=[at(valence, arousal)], width=60)
    (line,) = (line for line in lines if "●" in line)
    left, right = line.split("│")[1:3]
    assert corner in (left if valence < 0 else right)
    for name, value in (("valence", valence), ("arousal", arousal)):
        (bar,) = (line.split(" ")[-1] for line in lines if line.startswith(name))
        assert [set(half) for half in bar.split("│")] == ([{"█"}, {"─"}] if value < 0 else [{"─"}, {"█"}])
    (line,) = (line for line in screen(updates=[at(valence / 2, 0)]) if "█" in line)
    assert line.split("│")[-1 if valence > 0 else -2].count("█") == 4


def test_the_last_seconds_leave_a_trail() -> None:
    text = words(updates=[at(-0.5, 0.5), at(0.5, 0.5, time_s=20.0), at(0.5, -0.5, time_s=22.0)])
    assert (text.count("·"), text.count("●")) == (1, 1)


def with_level(rms_db: float, state: LevelState) -> Status:
    return replace(RUNNING, level=InputLevel(0.0, rms_db, state))


def test_the_meter_goes_up_to_full_scale() -> None:
    texts = [words(with_level(rms_db, LevelState.MUSIC), width=40) for rms_db in (-120.0, -36.0, 0.0, 3.0)]
    assert [text.count("━") for text in texts] == [0, 15, 30, 30]


NORMAL = (
    " RUNNING Monitor of Null Output 0:12:34|input -18.3 dBFS, peak -6.2| MUSIC |gain +3.2 dB|"
    f"valence {UPDATES[-1].prediction.valence:+.3f}|arousal {UPDATES[-1].prediction.arousal:+.3f}|"
    "latency 140 ms, median 143 ms|dropped 0 blocks (0.0 s)|overflows 0|losses 0 (0.0 s in all)|recording off|"
    "OSC to 127.0.0.1:9000|keys space pause q quit|tense, angry|happy, exuberant|sad, gloomy|calm, tender"
)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    ("status", "updates", "expected"),
    [
        (RUNNING, UPDATES, NORMAL),
        (Status("default", SourceState.OPENING), [], " OPENING default|no prediction yet|latency none yet|no sound"),
        (replace(RUNNING, state=SourceState.PAUSED), UPDATES, " PAUSED |last value (paused)|no sound"),
        (replace(RUNNING, state=SourceState.ENDED), UPDATES, " ENDED |last value"),
        (LOST, UPDATES, f" LOST |{ADVICE}|last value (lost)|no sound|losses 2 (12.1 s in all)|arousal +1|keys"),
        (with_level(-120.0, LevelState.SILENCE), [at(0, 0, held=True)], "held: silence|SILENCE values held|○"),
        (with_level(-50.0, LevelState.QUIET), UPDATES, "TOO QUIET turn it up|●"),
        (with_level(-3.0, LevelState.CLIPPING), UPDATES, "CLIPPING turn it down"),
        (RUNNING, [at(0, 0, latency_s=s) for s in (0.9, 0.1, 0.2, None, 0.3)], "latency 300 ms, median 250 ms"),
        (RUNNING, [at(0, 0, latency_s=None)], "latency not live"),
        (replace(RUNNING, recording="takes/one"), UPDATES, "recording takes/one"),
        (replace(RUNNING, recording_fault="disk full"), UPDATES, "recording INCOMPLETE: disk full"),
    ],
)
def test_every_state_is_shown(status: Status, updates: list[Update], expected: str, width: int) -> None:
    text = words(status, updates, width=width)
    for part in expected.split("|"):
        assert part in text
    assert ("●" in text) == (bool(updates) and not updates[-1].held)


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", ["dropped_blocks", "overflows", "losses", "replaced_samples"])
def test_lost_sound_stands_out(name: str, width: int) -> None:
    assert "41" not in words(width=width)
    assert "yellow" in style_of("41", replace(RUNNING, **{name: 41}), width)  # type: ignore[arg-type]
    assert "yellow" not in style_of("0 blocks", RUNNING, width)
    assert "red" in style_of("LOST", LOST, width)


def test_a_long_name_is_cut_and_the_clock_stays() -> None:
    assert re.fullmatch(r" RUNNING  x+… 0:12:34", screen(replace(RUNNING, source="x" * 200))[0])


def test_a_name_cannot_control_the_terminal() -> None:
    nasty = "a\x1b[2Jb\nc\td\udcffe\x9bf"
    lines = screen(replace(LOST, source=nasty, detail=nasty, recording=nasty, recording_fault=nasty), osc=[nasty])
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith(" LOST  a?[2Jb c d?e?f ")


@given(
    size=st.fixed_dictionaries({"width": st.integers(1, 200), "height": st.integers(1, 70)}),
    name=st.text(),
    detail=st.text(max_size=500),
    state=st.sampled_from(SourceState),
    level=st.none() | st.builds(InputLevel, st.floats(-120, 10), st.floats(-120, 10), st.sampled_from(LevelState)),
    updates=st.lists(st.builds(at, st.floats(-1, 1), st.floats(-1, 1), held=st.booleans()), max_size=5),
    n=st.integers(0, 10**12),
    encoding=st.sampled_from(["utf-8", "ascii", "cp1252"]),
)
def test_it_fits_every_terminal_and_its_encoding(
    size: dict[str, int],
    name: str,
    detail: str,
    state: SourceState,
    level: InputLevel | None,
    updates: list[Update],
    n: int,
    encoding: str,
) -> None:
    status = Status(name, state, detail, float(n), level, 3.0, n, 1.0, n, n, n, 1.0, name, detail)
    lines = screen(status, updates, osc=[name], encoding=encoding, **size)
    assert [cell_len(line) for line in lines] == [size["width"]] * size["height"]


def test_a_terminal_without_unicode_gets_other_characters() -> None:
    text = words(replace(RUNNING, source="Bühne ♫"), encoding="iso8859-1")
    assert "Bühne ?" in text
    assert "@" in text
    assert "#|---" in text


# --- lines ---


def test_lines_if_the_output_is_not_a_terminal() -> None:
    out = io.StringIO()
    board = Board("default")
    late = replace(RUNNING, time_s=2.6)
    full = replace(late, recording_fault="disk full")
    with TerminalView(board, quit_=lambda: None, stream=out) as view:
        view.refresh()
        board.status(replace(RUNNING, time_s=0.5))
        board.update(at(0.0, 0.7))
        board.update(at(0.0714, 0.7, time_s=1.5))
        view.refresh()
        view.refresh()
        board.status(replace(RUNNING, time_s=2.0, level=InputLevel(-90.0, -90.0, LevelState.SILENCE)))
        board.update(at(0.1, 0.7, time_s=2.0, held=True))
        view.refresh()
        board.status(replace(RUNNING, time_s=2.0, level=InputLevel(0.0, -1.0, LevelState.CLIPPING)))
        board.update(at(0.1, -0.2, time_s=2.5))
        view.refresh()
        for status in (replace(late, state=SourceState.LOST, detail="It is\ngone."), full, full):
            board.status(status)
            view.refresh()
        board.status(replace(full, state=SourceState.ENDED))
    view.refresh()
    assert out.getvalue().splitlines() == [
        "0.0 s  source opening: default",
        "0.5 s  source running: Monitor of Null Output",
        "1.0 s  valence +0.000  arousal +0.700  music",
        "1.5 s  valence +0.071  arousal +0.700  music",
        "2.0 s  valence +0.100  arousal +0.700  silence, held",
        "2.5 s  valence +0.100  arousal -0.200  clipping",
        "2.6 s  source lost: Monitor of Null Output: It is gone.",
        "2.6 s  source running: Monitor of Null Output",
        "2.6 s  recording incomplete: disk full",
        "2.6 s  source ended: Monitor of Null Output",
    ]


def test_run_shows_everything_until_it_is_stopped() -> None:
    out = io.StringIO()
    board = Board("a song")
    stop = threading.Event()
    thread = threading.Thread(target=TerminalView(board, quit_=stop.set, stream=out).run, args=(stop,))
    thread.start()
    board.update(UPDATES[0])
    eventually(lambda: "1.0 s  valence" in out.getvalue())
    board.update(UPDATES[1])
    stop.set()
    thread.join(GENEROUS_S)
    assert not thread.is_alive()
    assert [line.split(" ")[0] for line in out.getvalue().splitlines()] == ["0.0", "1.0", "1.5"]


def test_each_line_is_written_at_once_in_the_output_s_encoding() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as reader, os.fdopen(write_end, "w", encoding="ascii") as out:
        TerminalView(Board("Bühne"), quit_=lambda: None, stream=out).refresh()
        assert select.select([reader], [], [], GENEROUS_S)[0]
        assert reader.read(100) == b"0.0 s  source opening: B?hne\n"


def test_a_missing_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with TerminalView(Board("default"), quit_=lambda: None) as view:
        view.refresh()


# --- on a real terminal ---

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


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
if how in ("briefly", "background"):
    threading.Timer(0.5, stop.set).start()
else:
    # Two minutes with different latencies: the median is that of the second one.
    for i in range(240):
        board.update(Update(i, Prediction(i / 2, 0.1, 0.2), False, 0.9 if i < 120 else 0.05))
def toggle():
    print("toggled", file=sys.stderr)
    board.status(replace(board.latest_status, state=SourceState.PAUSED))
def osc():
    if how == "crash" and board.latest_status.state is SourceState.PAUSED:
        raise ZeroDivisionError
    return ["127.0.0.1:9000"]
print("starts", flush=True)
TerminalView(board, quit_=stop.set, toggle_pause=toggle, osc=osc).run(stop)
print("ends", flush=True)
if how == "background":
    other.kill()
"""


@pytest.mark.slow
def test_it_has_the_screen_and_the_keys_until_q() -> None:
    code, wrote = on_a_terminal(PROGRAM, "well", script=[(b"RUNNING", b" "), (b"PAUSED", b"q")])
    assert code == 0
    before, inside = wrote.split(ENTER)
    inside, after = inside.split(LEAVE)
    assert before == b"starts\r\n"
    for expected in (HIDE, b"space pause", b"space go on", b"127.0.0.1:9000", b"50 ms, median 50 ms"):
        assert expected in inside
    page = re.sub(rb"\x1b\[[0-9;?]*[a-z]", b"", inside.rsplit(b"\x1b[H", 1)[1]).decode().split("\r\n")
    assert [cell_len(line) for line in page] == [80] * 24
    assert b"toggled" not in inside
    assert after == b"toggled\r\nends\r\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "key", "code", "error"),
    [("crash", b" ", 1, b"ZeroDivisionError"), ("well", b"\x03", -signal.SIGINT, b"KeyboardInterrupt")],
)
def test_an_error_appears_after_the_terminal_is_restored(how: str, key: bytes, code: int, error: bytes) -> None:
    found, wrote = on_a_terminal(PROGRAM, how, script=[(b"RUNNING", key)])
    assert found == code
    inside, after = wrote.split(LEAVE)
    assert b"Traceback" not in inside
    assert SHOW in inside
    assert error in after


@pytest.mark.slow
@pytest.mark.parametrize(("how", "term"), [("briefly", "dumb"), ("background", "xterm-256color")])
def test_a_dumb_terminal_and_a_background_job_get_lines(how: str, term: str) -> None:
    code, wrote = on_a_terminal(PROGRAM, how, script=[], term=term)
    assert code == 0
    assert wrote.decode().splitlines() == ["starts", "0.0 s  source running: Monitor", "ends"]
