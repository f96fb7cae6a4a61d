"""Single keys from a terminal, and its modes."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from osc_sockets import eventually

from realtime_mer.terminal.keys import Keys, terminal_fd

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on Windows", allow_module_level=True)

import pty
import termios

ROOT = Path(__file__).resolve().parents[1]


class Terminal:
    """A pseudo-terminal: `keyboard` is the user's end, `stdin` the program's."""

    def __init__(self) -> None:
        self.keyboard, program = pty.openpty()
        self.stdin: TextIO = os.fdopen(program, "r")

    def type(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def mode(self) -> list[object]:
        return list(termios.tcgetattr(self.stdin))


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.stdin.close()
    os.close(made.keyboard)


def typed(keys: Keys, enough: int) -> str:
    """The results of `poll` until there are `enough` keys."""
    got: list[str] = []

    def is_enough() -> bool:
        got.append(keys.poll() or "")
        return len("".join(got)) >= enough

    eventually(is_enough)
    return "".join(got)


def test_keys_come_one_by_one_without_enter_and_without_echo(terminal: Terminal) -> None:
    with Keys(terminal.stdin) as keys:
        assert keys.poll() is None
        terminal.type(b"q \n")
        assert typed(keys, 3) == "q \n"
        assert keys.poll() is None
        terminal.type("ü".encode())
        assert typed(keys, 1) == "ü"
        assert select.select([terminal.keyboard], [], [], 0)[0] == []


def test_arrows_function_keys_and_escape_are_skipped(terminal: Terminal) -> None:
    with Keys(terminal.stdin) as keys:
        terminal.type(b"a\x1b[A\x1b[15~\x1b[1;5C\x1bOQ\x1bq\x1bz")
        terminal.type(b"b\x1b")
        assert typed(keys, 2) == "ab"
        assert keys.poll() is None


def test_ctrl_s_and_ctrl_z_are_keys_and_ctrl_c_still_interrupts(terminal: Terminal) -> None:
    with Keys(terminal.stdin) as keys:
        terminal.type(b"\x13\x1ax")
        assert typed(keys, 3) == "\x13\x1ax"
        assert termios.tcgetattr(terminal.stdin)[3] & termios.ISIG


def test_the_modes_are_restored_also_after_an_error_and_keys_can_be_read_again(terminal: Terminal) -> None:
    before = terminal.mode()
    keys = Keys(terminal.stdin)
    with pytest.raises(ZeroDivisionError), keys:
        raise ZeroDivisionError
    assert terminal.mode() == before
    with keys:
        assert terminal.mode() != before
        terminal.type(b"k")
        assert typed(keys, 1) == "k"
    assert terminal.mode() == before
    terminal.type(b"q")
    assert keys.poll() is None


def test_a_terminal_that_goes_away_is_no_error() -> None:
    keyboard, program = pty.openpty()
    with os.fdopen(program, "r") as stdin, Keys(stdin) as keys:
        os.close(keyboard)
        for _ in range(3):
            assert keys.poll() is None
        stdin.close()
        assert keys.poll() is None


def test_without_a_terminal_there_are_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("qqq", encoding="ascii")
    closed = path.open(encoding="ascii")
    closed.close()
    monkeypatch.setattr(sys, "stdin", None)
    with path.open(encoding="ascii") as file:
        for stdin in (file, io.StringIO("qqq"), closed, None):
            assert terminal_fd(stdin) is None
            with Keys(stdin) as keys:
                assert keys.poll() is None
        assert file.read() == "qqq"
