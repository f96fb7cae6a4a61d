from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osc_corpus import BAD, PING, STRANGE
from osc_sockets import GENEROUS_S, free_port, sender_to
from pseudo_terminal import on_a_terminal
from pythonosc import slip
from rich.cells import cell_len
from rich.console import Console

from realtime_mer.config.space import SPACE
from realtime_mer.errors import OutputError
from realtime_mer.osc import OscError
from realtime_mer.osc.messages import Message, packet
from realtime_mer.osc_monitor import command as listening
from realtime_mer.osc_monitor.command import Monitor, render, run, summary, table
from realtime_mer.osc_monitor.receiving import Listener, Where
from realtime_mer.osc_monitor.traffic import MOST_ADDRESSES, WINDOW_S, Picture, Traffic

ROOT = Path(__file__).resolve().parents[1]
WHERE = Where("127.0.0.1", 9000)
SENDER = "127.0.0.1:53211"


def traffic() -> Traffic:
    """10 s of the whole address space, at 16 Hz."""
    made = Traffic(0.0)
    values = {"f": 0.125, "i": 7, "s": "lost"}
    messages = [Message(f"/mer/{one.name}", one.types, tuple(values[letter] for letter in one.types)) for one in SPACE]
    for k in range(161):
        made.heard(k / 16, SENDER, messages)
    return made


def view(picture: Picture, width: int = 80, height: int = 24, encoding: str = "utf-8") -> str:
    return render(picture, WHERE, width=width, height=height, encoding=encoding).plain


# --- the table ---


def test_the_screen_says_what_came_how_often_and_from_whom() -> None:
    lines = view(traffic().picture(10.25, most=17)).split("\n")
    assert lines[0] == " LISTENING  127.0.0.1:9000" + " " * 47 + "0:00:10"
    assert lines[1] == f"161 packets, {161 * len(SPACE)} messages"
    assert lines[2] == "from 127.0.0.1:53211 (161)"
    assert lines[4].split() == ["address", "count", "Hz", "jitter", "gap", "age", "s", "values"]
    assert len(lines) == 24
    assert lines[5].split() == ["/mer/arousal", "161", "16.00", "0.0", "62.5", "0.2", "f", "0.125"]
    assert lines[-2] == "jitter: the intervals' standard deviation, gap: the longest, ms; last 5 s"
    assert lines[-1] == f"q quit   space more (1 to 17 of {len(SPACE)})"
    # Every one of them is somewhere.
    everything = view(traffic().picture(10.25), width=120, height=100)
    assert all(f"/mer/{one.name} " in everything for one in SPACE)
    assert everything.endswith("\nq quit")


def test_what_is_wrong_stands_out() -> None:
    made = traffic()
    good = render(made.picture(10.25), WHERE, width=80, height=24)
    made.refused(10.0, "10.0.0.7:1", "A string does not end.")
    made.dropped(3)
    bad = render(made.picture(12.0), WHERE, width=200, height=24)
    assert ", 1 malformed, 3 dropped here, too many at once\n" in bad.plain
    assert "\nmalformed, 2 s ago, from 10.0.0.7:1: A string does not end.\n" in bad.plain
    console = Console()
    for word in ("packets", "malformed,"):
        assert "yellow" in str(bad.get_style_at_offset(console, bad.plain.index(word)))
    assert "yellow" not in str(good.get_style_at_offset(console, good.plain.index("packets")))


def test_what_has_stopped_is_dim() -> None:
    made = traffic()
    made.heard(30.0, SENDER, [Message("/mer/zzz", "", ())])
    text = render(made.picture(30.0), WHERE, width=80, height=100)
    console = Console()
    assert text.get_style_at_offset(console, text.plain.index("/mer/arousal")).dim
    assert not text.get_style_at_offset(console, text.plain.index("/mer/zzz")).dim


def test_more_addresses_and_senders_than_are_shown() -> None:
    made = Traffic(0.0)
    for k in range(MOST_ADDRESSES + 9):
        made.heard(k, f"10.0.0.1:{k % 7}", [Message(f"/{k}", "", ())])
    shown = view(made.picture(600.0), width=200)
    assert ", 9 messages of more than 500 addresses not shown\n" in shown
    assert "\nfrom 10.0.0.1:0 (73), 10.0.0.1:1 (73), 10.0.0.1:2 (73), " in shown
    assert " and 2 more\n" in shown


@pytest.mark.parametrize("width", [40, 80])
def test_before_anything_came_there_are_hints(width: int) -> None:
    shown = view(Traffic(0.0).picture(3.0), width=width)
    words = re.sub(r"\s+", " ", shown)
    assert "nothing has arrived yet on 127.0.0.1:9000" in words
    for hint in WHERE.hints():
        assert hint in words
    assert "address" not in words
    assert shown.endswith("\nq quit")


def test_nothing_but_malformed_packets_is_not_nothing() -> None:
    made = Traffic(0.0)
    made.refused(1.0, SENDER, "A string does not end.")
    shown = view(made.picture(1.0))
    assert "nothing but what is malformed (1) has arrived yet on 127.0.0.1:9000" in shown
    assert f"malformed, 0 s ago, from {SENDER}: A string does not end." in shown


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (100, "count Hz jitter gap age s"),
        (80, "count Hz jitter gap age s"),
        (60, "count Hz jitter age s"),
        (50, "count Hz age s"),
        (44, "Hz age s"),
        (40, "Hz"),
        (30, ""),
    ],
)
def test_a_narrow_table_keeps_what_matters_most(width: int, columns: str) -> None:
    rows = traffic().picture(10.0).rows
    header, *lines = table(rows, [row.recent for row in rows], ("count", "Hz", "jitter", "gap", "age s"), width)
    assert " ".join(header.split()) == f"address {columns} values".replace("  ", " ")
    assert max(map(len, lines)) <= width
    assert all("0.125" in line or "7" in line or "lost" in line for line in lines)


def test_of_a_long_address_the_end_is_seen() -> None:
    made = Traffic(0.0)
    made.heard(0.0, SENDER, [Message("/some/program/" + "x" * 60 + "/level", "f", (0.5,))])
    (_, line) = table(made.picture(0.0).rows, [row.recent for row in made.picture(0.0).rows], ("Hz",), 60)
    assert re.fullmatch(r"\.\.x+/level +-  f 0\.5", line)


def test_large_numbers_keep_their_columns() -> None:
    assert listening._number(None, 1) == "-"
    assert listening._number(30.04, 2) == "30.04"
    assert listening._number(999.994, 2) == "999.99"
    assert listening._number(1234.567, 2) == "1234.6"
    assert listening._number(123_456, 0) == "123456"
    assert listening._number(1_234_567, 0) == "1e+06"
    for value in (0.0, 0.004, 99.999, 99_999.96, 999_999.4, 999_999.6, 1e7, 1e12):
        assert len(listening._number(value, 2)) <= 6
        assert float(listening._number(value, 2)) == pytest.approx(value, rel=0.05, abs=0.005)


def test_no_string_can_write_on_the_terminal() -> None:
    made = Traffic(0.0)
    nasty = "a\x1b[2J\n\x9b\x07\u202e\udcff"
    made.heard(0.0, SENDER, [Message("/a", "s", (nasty,)), Message("/b", "S", (nasty,))])
    made.refused(0.0, SENDER, nasty)
    shown = view(made.picture(1.0))
    assert all(line.isprintable() for line in shown.split("\n"))
    out = io.StringIO()
    listening._write(out, summary(made.picture(1.0), WHERE, 0, width=80))
    assert all(line.isprintable() for line in out.getvalue().split("\n"))
    assert shown.count("\\u001b[2J") == 2


def test_a_terminal_without_unicode_gets_none() -> None:
    made = Traffic(0.0)
    made.heard(0.0, SENDER, [Message("/a", "s", ("Bühne ♫",))])
    assert view(made.picture(1.0), encoding="ascii").isascii()
    assert "Bühne ?" in view(made.picture(1.0), encoding="iso8859-1")


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 60),
    texts=st.lists(st.text(max_size=40), max_size=9),
    n=st.integers(0, 10**9),
    encoding=st.sampled_from(["utf-8", "ascii", "cp1252"]),
)
def test_it_fits_every_terminal(width: int, height: int, texts: list[str], n: int, encoding: str) -> None:
    made = Traffic(0.0)
    for k, text in enumerate(texts):
        made.heard(k * n / 1e6, f"{k}:1", [Message(f"/{k}" * k, "si", (text, n))])
        made.refused(k * n / 1e6, text, text)
        made.dropped(n)
    picture = made.picture(len(texts) * n / 1e6, most=max(height - 7, 1))
    lines = view(picture, width, height, encoding).split("\n")
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    assert "\n".join(lines).encode(encoding)


def test_the_summary_is_of_the_whole_time() -> None:
    made = traffic()
    made.refused(10.0, SENDER, "A string does not end.")
    lines = summary(made.picture(10.0 + 2 * WINDOW_S), WHERE, 4, width=100)
    assert lines[0] == f"20.0 s on 127.0.0.1:9000: 161 packets, {161 * len(SPACE)} messages, 1 malformed"
    assert lines[1] == "from 127.0.0.1:53211 (161)"
    assert lines[2] == "malformed, 10 s ago, from 127.0.0.1:53211: A string does not end."
    assert lines[3] == "4 lines left out above: the output was read too slowly"
    assert lines[5].split() == ["address", "count", "Hz", "jitter", "gap", "values"]
    assert lines[6].split() == ["/mer/arousal", "161", "16.00", "0.0", "62.5", "f", "0.125"]
    assert len(lines) == 6 + len(SPACE) + 1
    assert summary(Traffic(0.0).picture(1.0), WHERE, 0, width=80) == [
        "nothing has arrived yet on 127.0.0.1:9000",
        *WHERE.hints(),
    ]


# --- lines ---


def test_lines_wait_in_bounded_memory() -> None:
    monitor = Monitor(0.0, keep_lines=True)
    for _ in range(12_000):
        monitor.packet(1.0, SENDER, PING)
    assert monitor.lines_left_out == 2000
    assert monitor.picture().packets == 12_000
    assert monitor.lines(0.0) == [f"1.000 {SENDER} /mer/control/ping"] * 10_000
    assert monitor.lines(0.01) == []


def test_what_came_last_is_written_before_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    monitor, stop = Monitor(0.0, keep_lines=True), threading.Event()
    monitor.packet(1.0, SENDER, PING)
    stop.set()
    listening._show_lines(monitor, WHERE, stop, math.inf)
    assert capsys.readouterr() == (
        f"1.000 {SENDER} /mer/control/ping\n\n",
        "realtime-mer: listening on 127.0.0.1:9000; Ctrl-C ends it\n",
    )


def test_after_a_while_without_anything_there_are_hints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listening, "_HINTS_AFTER_S", 0.0)
    monitor = Monitor(0.0, keep_lines=True)
    listening._show_lines(monitor, WHERE, threading.Event(), time.monotonic() + 0.5)
    told = capsys.readouterr().err.splitlines()[1:]
    assert told == [
        "realtime-mer: nothing has arrived yet on 127.0.0.1:9000",
        *(f"realtime-mer: {hint}" for hint in WHERE.hints()),
    ]


def test_every_packet_of_the_corpus_is_counted() -> None:
    monitor = Monitor(0.0, keep_lines=True)
    for data in (*BAD.values(), *STRANGE.values()):
        monitor.packet(1.0, SENDER, data)
    picture = monitor.picture()
    assert (picture.malformed, picture.packets) == (len(BAD), len(STRANGE))
    for text in monitor.lines(0.0):
        assert len(text) < 400
    assert len(view(picture).split("\n")) == 24


# --- the command ---

PROGRAM = """
import fcntl, os, sys, termios
if sys.argv[1] == "terminal":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from realtime_mer.osc_monitor.command import run
port, tcp, plain, seconds = int(sys.argv[2]), "tcp" in sys.argv, "plain" in sys.argv, None
if "seconds" in sys.argv:
    seconds = 0.7
run("127.0.0.1", port, multicast=None, tcp=tcp, plain=plain, seconds=seconds)
print("ends", flush=True)
"""


@contextlib.contextmanager
def started(port: int, *how: str) -> Iterator[subprocess.Popen[str]]:
    """The monitor without a terminal, once it listens."""
    command = [sys.executable, "-c", PROGRAM, "pipe", str(port), *how]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True, bufsize=1) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("realtime-mer: listening on 127.0.0.1:")
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    output, errors = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0, errors
    return output, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_gets_a_line_for_each_message_and_a_summary(number: int) -> None:
    port = free_port()
    with started(port) as process, sender_to(port) as sender:
        assert process.stdout is not None
        sender.send(packet([Message("/mer/valence", "f", (0.123,)), Message("/mer/status/source", "s", ("lost",))]))
        sender.send(b"no packet")
        first = [process.stdout.readline() for _ in range(3)]
        output, errors = ended(process, number)
    pattern = r"\d+\.\d{3} 127\.0\.0\.1:\d+ "
    assert re.fullmatch(pattern + r"/mer/valence f 0\.123\n", first[0])
    assert re.fullmatch(pattern + r'/mer/status/source s "lost"\n', first[1])
    assert re.fullmatch(pattern + r"malformed: The packet has 9 bytes; OSC's have a multiple of 4\.\n", first[2])
    lines = output.splitlines()
    assert lines[0] == ""
    assert re.fullmatch(rf"\d+\.\d s on 127\.0\.0\.1:{port}: 1 packet, 2 messages, 1 malformed", lines[1])
    assert any(line.startswith("/mer/valence ") and line.endswith("  f 0.123") for line in lines)
    assert lines[-1] == "ends"
    assert errors == ""


def test_it_ends_by_itself() -> None:
    port = free_port()
    with started(port, "seconds") as process:
        output, errors = process.communicate(timeout=GENEROUS_S)
    assert process.returncode == 0
    assert output.splitlines() == [
        "",
        f"nothing has arrived yet on 127.0.0.1:{port}",
        *Where("127.0.0.1", port).hints(),
        "ends",
    ]
    assert errors == ""


def test_tcp_gets_lines_too() -> None:
    port = free_port(tcp=True)
    with started(port, "tcp") as process, sender_to(port, tcp=True) as sender:
        assert process.stdout is not None
        sender.sendall(slip.encode(packet([Message("/a", "i", (1,))])) * 2)
        assert process.stdout.readline().endswith(" /a i 1\n")
        assert process.stdout.readline().endswith(" /a i 1\n")
        ended(process)


def test_liblos_oscsend_is_shown() -> None:
    if shutil.which("oscsend") is None:
        pytest.skip("no oscsend on this machine (Debian's liblo-tools)")
    port = free_port()
    with started(port) as process:
        assert process.stdout is not None
        subprocess.run(["oscsend", "127.0.0.1", str(port), "/desk/go", "ifsTN", "3", "0.5", "now"], check=True)
        assert process.stdout.readline().endswith(' /desk/go ifsTN 3 0.5 "now" true nil\n')
        ended(process)


def test_a_flood_of_anything_leaves_it_healthy() -> None:
    port = free_port()
    with started(port) as process, sender_to(port) as sender:
        assert process.stdout is not None
        output: list[str] = []
        reader = threading.Thread(target=output.extend, args=(process.stdout,))
        reader.start()
        packets = [data for data in (*BAD.values(), *STRANGE.values()) if len(data) <= 65_507]
        for _ in range(20):
            for data in packets:
                sender.send(data)
        give_up_at = time.monotonic() + GENEROUS_S
        while not any(line.endswith(" /the/end\n") for line in output) and time.monotonic() < give_up_at:
            sender.send(packet([Message("/the/end", "", ())]))
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        reader.join(GENEROUS_S)
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(GENEROUS_S) == 0
    assert output[-1] == "ends\n"
    assert any(re.search(r"\d+ malformed", line) for line in output if " s on 127.0.0.1:" in line)


def test_a_reader_that_has_gone_away_is_told_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    out = os.fdopen(write_end, "w")
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(BrokenPipeError):
        run("127.0.0.1", free_port(), multicast=None, tcp=False, plain=False, seconds=0.0)
    with pytest.raises(BrokenPipeError):
        out.close()
    assert "osc monitor" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # What could not be written is tried once more when it is closed.
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(OutputError, match="The output cannot be written: No space left on device"):
            run("127.0.0.1", free_port(), multicast=None, tcp=False, plain=True, seconds=0.0)


def test_a_missing_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    run("127.0.0.1", free_port(), multicast=None, tcp=False, plain=True, seconds=0.0)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(OscError, match="has this port"):
            run("127.0.0.1", other.getsockname()[1], multicast=None, tcp=False, plain=True, seconds=None)


def test_a_thread_that_fails_ends_it_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(*_: object) -> None:
        raise OSError(100, "Network is down")

    monkeypatch.setattr(Listener, "_take_datagrams", lose)
    port = free_port()

    def send() -> None:
        with sender_to(port) as sender:
            sender.send(PING)

    sending = threading.Timer(0.1, send)
    sending.start()
    with pytest.raises(OscError, match=f"127.0.0.1:{port} cannot be listened on any more: Network is down"):
        run("127.0.0.1", port, multicast=None, tcp=False, plain=True, seconds=None)
    sending.join()


# --- on a real terminal ---

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


def sends(port: int, n_addresses: int) -> Callable[[], None]:
    def send() -> None:
        with sender_to(port) as sender:
            sender.send(packet([Message(f"/desk/{k:02}", "f", (k / 8,)) for k in range(n_addresses)]))

    return send


def test_on_a_terminal_it_has_the_screen_until_q_and_leaves_the_summary() -> None:
    port = free_port()
    code, wrote = on_a_terminal(
        PROGRAM, "terminal", str(port), script=[(b"nothing has arrived yet", sends(port, 3)), (b"/desk/02", b"q")]
    )
    assert code == 0
    before, inside = wrote.split(ENTER)
    inside, after = inside.split(LEAVE)
    assert before == b""
    assert b"LISTENING" in inside
    assert b"--host 0.0.0.0" in inside
    assert f"127.0.0.1:{port}".encode() in inside
    assert b"f 0.25" in inside
    assert b"1 packet, 3 messages" in after
    assert b"/desk/02" in after
    assert after.endswith(b"ends\r\n")


def test_the_space_bar_turns_the_pages_and_begins_again() -> None:
    port = free_port()
    script: list[tuple[bytes, Callable[[], None] | bytes]] = [
        (b"nothing has arrived yet", sends(port, 20)),
        (b"space more (1 to 17 of 20)", b" "),
        (b"space more (18 to 20 of 20)", b" "),
        (b"space more (1 to 17 of 20)", b"Q"),
    ]
    code, wrote = on_a_terminal(PROGRAM, "terminal", str(port), script=script)
    assert code == 0
    assert b"/desk/19" in wrote.split(LEAVE)[0]


def test_every_picture_begins_at_the_top_and_fills_the_screen() -> None:
    port = free_port()
    _, wrote = on_a_terminal(
        PROGRAM,
        "terminal",
        str(port),
        script=[(b"nothing has arrived", sends(port, 30)), (b"/desk/02", b""), (b"/desk/02", b"q")],
    )
    # Where the cursor goes home: once with the screen, then for each picture.
    _, *pictures = wrote.split(ENTER)[1].split(LEAVE)[0].split(b"\x1b[H")[1:]
    assert len(pictures) >= 3
    for shown in pictures:
        lines = re.sub(rb"\x1b\[[0-9;?]*[a-z]", b"", shown).decode().split("\r\n")
        assert [cell_len(line) for line in lines] == [80] * 24


def test_ctrl_c_ends_it_as_q_does() -> None:
    port = free_port()
    code, wrote = on_a_terminal(
        PROGRAM, "terminal", str(port), script=[(b"nothing has arrived", sends(port, 1)), (b"/desk/00", b"\x03")]
    )
    assert code == 0
    after = wrote.split(LEAVE)[1]
    assert b"1 packet, 1 message" in after
    assert after.endswith(b"ends\r\n")


def test_on_a_terminal_it_ends_by_itself_too() -> None:
    code, wrote = on_a_terminal(PROGRAM, "terminal", str(free_port()), "seconds", script=[])
    assert code == 0
    assert wrote.endswith(b"ends\r\n")


@pytest.mark.parametrize(("how", "term"), [(("plain",), "xterm-256color"), ((), "dumb")])
def test_lines_on_a_terminal(how: tuple[str, ...], term: str) -> None:
    port = free_port()
    script: list[tuple[bytes, Callable[[], None] | bytes]] = [
        (b"listening on 127.0.0.1", sends(port, 2)),
        (b"/desk/01 f 0.125\r\n", b"\x03"),
    ]
    code, wrote = on_a_terminal(PROGRAM, "terminal", str(port), *how, script=script, term=term)
    assert code == 0
    assert ENTER not in wrote
    assert b"1 packet, 2 messages" in wrote
