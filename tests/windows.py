"""Windows in processes of their own, and the X servers that they are shown on."""

from __future__ import annotations

import ast
import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from live_runs import DISPLAY_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
# Only against hanging.
TIMEOUT_S = 60.0

# What a script begins with: a board, and a function that puts predictions on it as a run does, but faster.
PRELUDE = """
import locale, math, os, sys, threading, time
from realtime_mer.types import Prediction
from realtime_mer.updates import Board, InputLevel, LevelState, SourceState, Status, Update
board, stop = Board("a device"), threading.Event()
def feed(n, then):
    for i in range(n):
        board.update(Update(i, Prediction(1.0 + 0.5 * i, 0.5 * math.sin(i), 0.5 * math.cos(i)), False, 0.2))
        board.status(Status("a device", SourceState.RUNNING, time_s=1.0 + 0.5 * i))
        time.sleep(0.05)
    while board._updates:
        time.sleep(0.01)
    then()
def feeding(n, then):
    threading.Thread(target=feed, args=(n, then), daemon=True).start()
"""

# Two screens side by side, of which the second one can be unplugged.
_XORG_CONF = """
Section "Device"
  Identifier "device"
  Driver "dummy"
  VideoRam 256000
EndSection
Section "Monitor"
  Identifier "monitor"
  HorizSync 5-1000
  VertRefresh 5-200
EndSection
Section "Screen"
  Identifier "screen"
  Device "device"
  Monitor "monitor"
  DefaultDepth 24
  SubSection "Display"
    Depth 24
    Virtual 8192 4096
    Modes "1280x720"
  EndSubSection
EndSection
"""
_SECOND = "DUMMY1"

_configuration = tempfile.TemporaryDirectory(prefix="window-tests-")
atexit.register(_configuration.cleanup)


def bare_environment(**more: str) -> dict[str, str]:
    """This process's environment with these variables, without a display and the user's own configuration."""
    chosen = (*DISPLAY_VARIABLES, "XDG_SESSION_TYPE", "XAUTHORITY", "QT_SCALE_FACTOR")
    kept = {name: value for name, value in os.environ.items() if name not in chosen}
    return kept | {"XDG_CONFIG_HOME": _configuration.name} | more


def fault_here(environment: dict[str, str], preparation: str = "") -> str | None:
    """What display_fault returns in this environment, after this preparation."""
    done = run(
        f"{preparation}\nfrom realtime_mer.window import display_fault\nprint(repr(display_fault()))", environment
    )
    assert done.returncode == 0, done.stderr
    fault = ast.literal_eval(done.stdout)
    assert fault is None or isinstance(fault, str)
    return fault


def run(script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The script after PRELUDE, as a program."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextlib.contextmanager
def x_server() -> Iterator[tuple[str, int]]:
    """The DISPLAY of an X server without a screen, and its process; skips the test if it is not installed."""
    with _server("Xvfb", "xvfb", ["-screen", "0", "1280x720x24"]) as started:
        yield started


@contextlib.contextmanager
def window_manager(display: str) -> Iterator[None]:
    """Runs openbox; without a window manager, windows have no frames and cannot be maximized."""
    _require("openbox", "openbox")
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        manager = subprocess.Popen(
            ["openbox", "--startup", f"touch {ready}"],
            env=bare_environment(DISPLAY=display),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline_s = time.monotonic() + TIMEOUT_S
            while not ready.exists():
                assert time.monotonic() < deadline_s, "openbox does not start"
                time.sleep(0.05)
            yield
        finally:
            manager.terminate()
            manager.wait(TIMEOUT_S)


@contextlib.contextmanager
def two_screens() -> Iterator[TwoScreens]:
    """An X server with two screens and a window manager; skips the test if it is not installed."""
    _require("xrandr", "x11-xserver-utils")
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "xorg.conf"
        conf.write_text(_XORG_CONF, encoding="ascii")
        options = ["-config", str(conf), "-logfile", str(Path(folder) / "log"), "-noreset", "-sharevts", "-novtswitch"]
        with _server("Xorg", "xserver-xorg-core xserver-xorg-video-dummy", options) as (display, _):
            screens = TwoScreens(display)
            screens.plug()
            with window_manager(display):
                yield screens


class TwoScreens:
    """A screen of 1280 × 720, and to its right one of 1920 × 1080 that can be unplugged."""

    def __init__(self, display: str) -> None:
        # Qt ignores the resolution that the screens report.
        self.environment = bare_environment(DISPLAY=display, QT_FONT_DPI="96")

    def plug(self) -> None:
        self._xrandr("--addmode", _SECOND, "1920x1080")
        self._xrandr("--output", _SECOND, "--mode", "1920x1080", "--right-of", "DUMMY0")
        # Only a query makes the server look which screens are connected.
        self._xrandr("--query")

    def unplug(self) -> None:
        self._xrandr("--output", _SECOND, "--off")

    def _xrandr(self, *arguments: str) -> None:
        subprocess.run(["xrandr", *arguments], env=self.environment, check=True, capture_output=True, timeout=TIMEOUT_S)


@contextlib.contextmanager
def _server(program: str, package: str, options: Sequence[str]) -> Iterator[tuple[str, int]]:
    _require(program, package)
    server = subprocess.Popen(
        [program, "-displayfd", "1", "-nolisten", "tcp", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        number = server.stdout.readline().strip()
        if not number:
            pytest.skip(f"{program} does not start here: this test needs an X server")
        yield f":{number}", server.pid
    finally:
        server.terminate()
        server.wait(TIMEOUT_S)


def _require(program: str, package: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} (Debian: apt-get install {package}): this test needs an X server")
