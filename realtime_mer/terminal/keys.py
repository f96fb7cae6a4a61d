"""Reads single keys from the terminal, without Enter and without blocking."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

if sys.platform == "win32":
    import msvcrt
else:
    import contextlib
    import os
    import re
    import select
    import termios

    # The sequences of arrows, function keys and Alt: an escape and more characters.
    _ESCAPED = re.compile(r"\x1b(?:[\[O][0-?]*[ -/]*[@-~]|[ -~])?")
    # Indices into the list that tcgetattr returns.
    _INPUT_MODES, _LOCAL_MODES, _CHARACTERS = 0, 3, 6

_MOST_AT_ONCE = 1024


class Keys:
    """`with Keys() as keys`: inside, `keys.poll()` returns the keys that were pressed, and nothing is echoed.

    If the input is not a terminal, or this program is a background job (`&`), there are no keys and the terminal stays
    as it is. Ctrl-C still works; Ctrl-Z and Ctrl-S, which would freeze a full screen, do nothing.
    stdin: by default standard input.
    """

    def __init__(self, stdin: TextIO | None = None) -> None:
        self._fd = terminal_fd(sys.stdin if stdin is None else stdin)
        self._restore: Callable[[], None] | None = None
        self._pressed: deque[str] = deque()

    def __enter__(self) -> Self:
        if self._fd is not None:
            self._restore = _begin(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._restore is not None:
            self._restore()
            self._restore = None

    def poll(self) -> str | None:
        """Returns the character of the next key that was pressed, or None. Never blocks.

        Keys without a character (arrows, function keys, Escape) are skipped.
        """
        if self._fd is None or self._restore is None:
            return None
        if not self._pressed:
            self._pressed.extend(_pressed_keys(self._fd))
        return self._pressed.popleft() if self._pressed else None


def terminal_fd(stream: TextIO | None) -> int | None:
    """The stream's file descriptor if it is a terminal, otherwise None."""
    try:
        return stream.fileno() if stream is not None and stream.isatty() else None
    # It is closed, or not a file.
    except (OSError, ValueError):
        return None


if sys.platform == "win32":

    def in_foreground(fd: int) -> bool:
        """Whether this program may use the terminal `fd`: always, on Windows."""
        return True

    def _begin(fd: int) -> Callable[[], None] | None:
        # msvcrt reads keys regardless of the console's modes.
        return lambda: None

    def _pressed_keys(fd: int) -> str:
        keys = ""
        while len(keys) < _MOST_AT_ONCE and msvcrt.kbhit():
            key = msvcrt.getwch()
            # The first half of an arrow or a function key.
            if key in "\x00\xe0":
                msvcrt.getwch()
            elif key != "\x1b":
                keys += key
        return keys

else:

    def in_foreground(fd: int) -> bool:
        """Whether this program may use the terminal `fd`: a background job that uses it is stopped."""
        try:
            return os.tcgetpgrp(fd) == os.getpgrp()
        # Not our controlling terminal, so there is no job control.
        except OSError:
            return True

    def _begin(fd: int) -> Callable[[], None] | None:
        """Switches the terminal to single keys; returns a function that undoes it, or None if that is impossible."""
        try:
            if not in_foreground(fd):
                return None
            before, mode = termios.tcgetattr(fd), termios.tcgetattr(fd)
            mode[_INPUT_MODES] &= ~termios.IXON
            mode[_LOCAL_MODES] &= ~(termios.ECHO | termios.ICANON)
            characters = mode[_CHARACTERS]
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
            characters[termios.VSUSP] = bytes([os.fpathconf(fd, "PC_VDISABLE")])
            _set_mode(fd, mode)
        # The terminal is gone.
        except (OSError, termios.error):
            return None

        def restore() -> None:
            if in_foreground(fd):
                with contextlib.suppress(termios.error):
                    _set_mode(fd, before)

        return restore

    def _set_mode(fd: int, mode: list[int | list[bytes | int]]) -> None:
        # TCSANOW: waiting for pending output could take forever if the terminal is halted (Ctrl-S).
        termios.tcsetattr(fd, termios.TCSANOW, mode)

    def _pressed_keys(fd: int) -> str:
        try:
            if in_foreground(fd) and select.select([fd], [], [], 0)[0]:
                return _ESCAPED.sub("", os.read(fd, _MOST_AT_ONCE).decode(errors="replace"))
        # The terminal is gone.
        except OSError:
            pass
        return ""
