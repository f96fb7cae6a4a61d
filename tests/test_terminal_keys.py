from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from realtime_mer.terminal.keys import Keys, in_foreground, terminal_fd

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on Windows", allow_module_level=True)

import pty
import termios

ROOT = Path(__file__).resolve().parents[1]
GENEROUS_S = 20.0


class Terminal:
    """A pseudo-terminal: `keyboard` is the end that types and sees, `stdin` the one that a program has."""

    def __init__(self) -> None:
        self.keyboard, program = pty.openpty()
        self.stdin: TextIO = os.fdopen(program, "r")

    def types(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def mode(self) -> list[object]:
        return list(termios.tcgetattr(self.stdin))

    def shown(self) -> bytes:
        return os.read(self.keyboard, 1024) if select.select([self.keyboard], [], [], 0.05)[0] else b""


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.stdin.close()
    os.close(made.keyboard)


def all_keys(keys: Keys, enough: int) -> list[str]:
    """What `poll` gives until there are `enough` keys."""
    got: list[str] = []
    give_up_at = time.monotonic() + GENEROUS_S
    while len(got) < enough and time.monotonic() < give_up_at:
        key = keys.poll()
        if key is None:
            time.sleep(0.005)
        else:
            got.append(key)
    return got


def test_keys_come_one_by_one_without_enter_and_without_echo(terminal: Terminal) -> None:
    with Keys(terminal.stdin) as keys:
        assert keys.poll() is None
        terminal.types(b"q \n")
        assert all_keys(keys, 3) == ["q", " ", "\n"]
        assert keys.poll() is None
        terminal.types("ü".encode())
        assert all_keys(keys, 1) == ["ü"]
        assert terminal.shown() == b""


def test_arrows_function_keys_and_escape_are_left_out(terminal: Terminal) -> None:
    with Keys(terminal.stdin) as keys:
        terminal.types(b"a\x1b[A\x1b[15~\x1b[1;5C\x1bOQ\x1bq\x1bz")
        terminal.types(b"b")
        assert all_keys(keys, 2) == ["a", "b"]
        terminal.types(b"\x1b")
        time.sleep(0.05)
        assert keys.poll() is None


def test_what_would_halt_the_screen_is_a_key_like_others(terminal: Terminal) -> None:
    """Ctrl-S and Ctrl-Z."""
    with Keys(terminal.stdin) as keys:
        terminal.types(b"\x13\x1ax")
        assert all_keys(keys, 3) == ["\x13", "\x1a", "x"]


def test_interrupting_stays_possible(terminal: Terminal) -> None:
    with Keys(terminal.stdin):
        assert termios.tcgetattr(terminal.stdin)[3] & termios.ISIG


def test_the_terminal_is_as_before_afterwards(terminal: Terminal) -> None:
    before = terminal.mode()
    with Keys(terminal.stdin) as keys:
        assert terminal.mode() != before
    assert terminal.mode() == before
    terminal.types(b"q")
    assert keys.poll() is None


def test_the_terminal_is_as_before_after_an_error(terminal: Terminal) -> None:
    before = terminal.mode()
    with pytest.raises(ZeroDivisionError), Keys(terminal.stdin):
        raise ZeroDivisionError
    assert terminal.mode() == before


def test_keys_can_be_listened_to_again(terminal: Terminal) -> None:
    keys = Keys(terminal.stdin)
    for _ in range(2):
        with keys:
            terminal.types(b"k")
            assert all_keys(keys, 1) == ["k"]


def test_a_terminal_that_goes_away_is_no_error() -> None:
    keyboard, program = pty.openpty()
    with os.fdopen(program, "r") as stdin, Keys(stdin) as keys:
        os.close(keyboard)
        for _ in range(3):
            assert keys.poll() is None
        stdin.close()
        assert keys.poll() is None


def test_without_a_terminal_there_are_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("qqq", encoding="ascii")
    closed = path.open(encoding="ascii")
    closed.close()
    with path.open(encoding="ascii") as file:
        for stdin in (file, io.StringIO("qqq"), closed):
            with Keys(stdin) as keys:
                assert keys.poll() is None
        assert file.read() == "qqq"


def test_standard_input_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with Keys() as keys:
        assert keys.poll() is None


def test_what_is_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal_fd(terminal.stdin) == terminal.stdin.fileno()
    assert terminal_fd(None) is None
    assert terminal_fd(io.StringIO()) is None
    with (tmp_path / "file").open("w") as file:
        assert terminal_fd(file) is None


def test_a_terminal_that_did_not_start_us_is_ours_to_use(terminal: Terminal) -> None:
    assert in_foreground(terminal.stdin.fileno())


# What a shell does: takes a terminal, and starts a job (this program again) in the background, as `&` does.
SHELL = """
import fcntl, os, sys, termios
from realtime_mer.terminal.keys import Keys, in_foreground
if sys.argv[1:] == ["job"]:
    before = termios.tcgetattr(0)
    with Keys() as keys:
        print(in_foreground(0), keys.poll(), termios.tcgetattr(0) == before, flush=True)
else:
    import subprocess
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    job = subprocess.Popen(
        [sys.executable, "-c", sys.orig_argv[-1], "job"], process_group=0, stdout=subprocess.PIPE, text=True
    )
    try:
        said = job.communicate(timeout=20)[0].strip()
    except subprocess.TimeoutExpired:
        said = "it was stopped"
        job.kill()
    with Keys() as keys:
        print("job:", said, "shell:", in_foreground(0), flush=True)
"""


def test_a_background_job_leaves_the_terminal_alone_and_is_not_stopped(terminal: Terminal) -> None:
    terminal.types(b"q\n")
    run = subprocess.run(
        [sys.executable, "-c", SHELL],
        cwd=ROOT,
        stdin=terminal.stdin,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=3 * GENEROUS_S,
        check=False,
    )
    assert run.stdout.strip() == "job: False None True shell: True", run.stderr
