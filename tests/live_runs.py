"""Live runs as a user starts them, and an independent program that receives their OSC: liblo's oscdump."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Only against hanging.
_TIMEOUT_S = 60.0
# These choose a display. Other tests of this process may have set them to draw windows into memory.
DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")


def without_display(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which no window can be shown."""
    return {name: value for name, value in environment.items() if name not in DISPLAY_VARIABLES}


@dataclass
class Received:
    """What oscdump received: the arguments per address, in order, and all messages in `order`."""

    messages: dict[str, list[list[str]]] = field(default_factory=dict)
    order: list[tuple[str, list[str]]] = field(default_factory=list)

    def numbers(self, address: str) -> list[float]:
        return [float(arguments[0]) for arguments in list(self.messages.get(address, []))]

    def texts(self, address: str) -> list[str]:
        return [arguments[0].strip('"') for arguments in list(self.messages.get(address, []))]

    def wait_for(self, condition: Callable[[Received], bool], what: str) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition(self):
            assert time.monotonic() < deadline, f"never received: {what}"
            time.sleep(0.02)


@contextlib.contextmanager
def oscdump(port: int) -> Iterator[Received]:
    """Receives on this port until the block ends."""
    if shutil.which("oscdump") is None:
        pytest.skip("no oscdump on this machine: this test needs an independent OSC receiver (Debian's liblo-tools)")
    received = Received()
    dump = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
    assert dump.stdout is not None
    lines = dump.stdout

    def read() -> None:
        for line in lines:
            # As in "00000000.00000001 /mer/va ff 0.100000 -0.200000"; immediately is the time 1.
            _, address, *rest = line.split(maxsplit=3)
            arguments = rest[1].split() if len(rest) > 1 else []
            received.messages.setdefault(address, []).append(arguments)
            received.order.append((address, arguments))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield received
    finally:
        dump.terminate()
        dump.wait()
        reader.join()
        lines.close()


class LiveRun:
    """`realtime-mer` with these arguments, without a window, as a process of its own. folder: where it runs."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        stdin: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            self.command(*arguments),
            env=dict(environment),
            cwd=folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "realtime_mer", *arguments]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Sends the signal; returns exit code, standard output and standard error."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=_TIMEOUT_S)
        return self.process.returncode, output, errors

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
