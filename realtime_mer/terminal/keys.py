"""Single keys from the terminal, without Enter and without waiting."""

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

    # What arrows, function keys and Alt send: more than one character, after an escape.
    _ESCAPED = re.compile(r"\x1b(?:[\[O][0-?]*[ -/]*[@-~]|[ -~])?")
    # Where they stand in what tcgetattr returns.
    _INPUT_MODES, _LOCAL_MODES, _CHARACTERS = 0, 3, 6

_MOST_AT_ONCE = 1024


class Keys:
    """`with Keys() as keys`: meanwhile `keys.poll()` gives each key that was pressed, and nothing is echoed.

    Where the input is no terminal, or this program runs in its background (`&`), there are no keys and the terminal is
    left alone. Ctrl-C works as ever; Ctrl-Z and Ctrl-S, which would leave a full screen halted, do nothing.
    stdin: the terminal, if it is one; standard input where None.
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
        """The next key that was pressed, as its character; None when there is none. Never waits.

        Keys that are no character (arrows, function keys, Escape) are left out.
        """
        if self._fd is None or self._restore is None:
            return None
        if not self._pressed:
            self._pressed.extend(_pressed_keys(self._fd))
        return self._pressed.popleft() if self._pressed else None


def terminal_fd(stream: TextIO | None) -> int | None:
    """The file descriptor of a stream that is a terminal, otherwise None."""
    try:
        return stream.fileno() if stream is not None and stream.isatty() else None
    # It is closed, or never was a file.
    except (OSError, ValueError):
        return None


if sys.platform == "win32":

    def in_foreground(fd: int) -> bool:
        """Whether this program may use the terminal `fd`. Here it always may."""
        return True

    def _begin(fd: int) -> Callable[[], None] | None:
        # Keys are read past the console's modes, which stay as they are.
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
        """Whether this program may use the terminal `fd`: a shell's background job that does is stopped."""
        try:
            return os.tcgetpgrp(fd) == os.getpgrp()
        # Not the terminal that started us: no jobs are controlled there.
        except OSError:
            return True

    def _begin(fd: int) -> Callable[[], None] | None:
        """Makes the terminal give single keys, and returns what undoes that; None where it cannot be done."""
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
        # At once: to wait for pending output is to wait for ever where the terminal is halted.
        termios.tcsetattr(fd, termios.TCSANOW, mode)

    def _pressed_keys(fd: int) -> str:
        try:
            if in_foreground(fd) and select.select([fd], [], [], 0)[0]:
                return _ESCAPED.sub("", os.read(fd, _MOST_AT_ONCE).decode(errors="replace"))
        # The terminal is gone.
        except OSError:
            pass
        return ""
