"""A log for a test, and its lines."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from realtime_mer.config import LiveSettings, LogSettings
from realtime_mer.log import begin, end
from realtime_mer.updates import SourceState, Status

LINE = re.compile(r"(?P<when>\S+) +(?P<stream_s>[0-9]+\.[0-9]{2}) s  (?P<level>[A-Z]+) +(?P<message>.*)")
RUNNING = Status("the desk", SourceState.RUNNING, time_s=1.0)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s


@contextlib.contextmanager
def log(path: Path | str, level: str = "info", **tables: Any) -> Iterator[None]:
    begin(replace(LiveSettings(**tables), log=LogSettings(str(path), level)))
    try:
        yield
    finally:
        end(0)


def logged(path: Path, level: str | None = None) -> list[str]:
    """The messages, without the first and last lines of each run. level: only those of this level."""
    lines = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines() if line[0] != " "]
    assert all(lines), path.read_text(encoding="utf-8")
    found = [(line["level"], line["message"]) for line in lines if line is not None]
    return [text for its, text in found if level in (None, its) and not re.match("realtime-mer |in /", text)]
