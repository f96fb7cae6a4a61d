"""Runs programs on a pseudo-terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from osc_sockets import GENEROUS_S

ROOT = Path(__file__).resolve().parents[1]


def on_a_terminal(
    program: str,
    *arguments: str,
    script: Sequence[tuple[bytes, Callable[[], None] | bytes]],
    term: str = "xterm-256color",
) -> tuple[int, bytes]:
    """Runs this Python code on a pseudo-terminal of 24 rows and 80 columns; returns its exit code and its output.

    script: pairs of the output to wait for, and what to type or call then.
    """
    if sys.platform == "win32":
        pytest.skip("no pseudo-terminals on Windows")
    import pty
    import termios

    keyboard, screen = pty.openpty()
    termios.tcsetwinsize(keyboard, (24, 80))
    before = termios.tcgetattr(screen)
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdin=screen,
        stdout=screen,
        stderr=screen,
        start_new_session=True,
        env=environment | {"TERM": term},
    )
    wrote, seen_to, waiting = b"", 0, list(script)
    give_up_at = time.monotonic() + GENEROUS_S
    try:
        while time.monotonic() < give_up_at:
            has_ended = process.poll() is not None
            if select.select([keyboard], [], [], 0.05)[0]:
                wrote += os.read(keyboard, 65_536)
            elif has_ended:
                break
            if waiting and waiting[0][0] in wrote[seen_to:]:
                seen_to = len(wrote)
                step = waiting.pop(0)[1]
                if isinstance(step, bytes):
                    os.write(keyboard, step)
                else:
                    step()
        assert process.poll() is not None, wrote.decode(errors="replace")
        assert waiting == [], wrote.decode(errors="replace")
        assert termios.tcgetattr(screen) == before
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
        os.close(screen)
    return process.returncode, wrote
