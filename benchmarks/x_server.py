"""A virtual X server, on which windows are drawn by software."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from benchmarks.common import BenchmarkError


@contextlib.contextmanager
def x_server(width_px: int, height_px: int) -> Iterator[tuple[str, int]]:
    """An X server with one screen of this size: yields DISPLAY and the process id. Raises BenchmarkError."""
    reader, writer = os.pipe()
    screen = f"{width_px}x{height_px}x24"
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", screen, "-nolisten", "tcp"]
    with os.fdopen(reader) as output:
        try:
            server = subprocess.Popen(command, pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError as error:
            raise BenchmarkError(f"Xvfb does not start: {error.strerror or error}.") from error
        finally:
            os.close(writer)
        try:
            number = output.readline().strip()
            if not number:
                raise BenchmarkError("Xvfb does not start.")
            yield f":{number}", server.pid
        finally:
            server.terminate()
            server.wait()
