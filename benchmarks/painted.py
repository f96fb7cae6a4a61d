"""realtime-mer with two additions: its window gets a given size and reports what it has painted.

    python -m benchmarks.painted WIDTHxHEIGHT [arguments of realtime-mer]

Once it is open, and at each SIGUSR1 after that, it writes a line to standard error: `painted`, and a Count in JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from realtime_mer.cli import main
from realtime_mer.window import run as live_window
from realtime_mer.window.qt import QtCore

MARK = "painted "


@dataclass(frozen=True, slots=True)
class Count:
    """The pictures of a window so far. pictures: LiveWindow.frames_painted. now_s: time.monotonic(). thread_s: CPU time
    of the thread that draws. longest_s: the longest time between two pictures since the last count; 0 if there were
    none. width_px, height_px: the window's."""

    pictures: int
    now_s: float
    thread_s: float
    longest_s: float
    width_px: int
    height_px: int


def reported_counts(text: str) -> list[Count]:
    """All counts in what was written to standard error so far."""
    return [Count(**json.loads(line.removeprefix(MARK))) for line in text.splitlines() if line.startswith(MARK)]


def _counting(size_px: tuple[int, int]) -> type[live_window.LiveWindow]:
    class CountingWindow(live_window.LiveWindow):
        """A window of this size that reports its count."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            self._last_s: float | None = None
            self._longest_s = 0.0
            super().__init__(*arguments, **named)

        def open(self, *arguments: Any, **named: Any) -> None:
            super().open(*arguments, **named)
            # Regardless of mode and screen.
            self.setWindowState(QtCore.Qt.WindowState.WindowNoState)
            self.setGeometry(0, 0, *size_px)
            # Python's handlers run in the main thread, which draws, at the next look at the board at the latest.
            signal.signal(signal.SIGUSR1, lambda *_: self._report())
            self._report()

        def eventFilter(self, watched: QtCore.QObject | None, event: QtCore.QEvent | None) -> bool:  # noqa: N802
            if event is not None and event.type() == QtCore.QEvent.Type.UpdateRequest:
                now_s = time.monotonic()
                if self._last_s is not None:
                    self._longest_s = max(self._longest_s, now_s - self._last_s)
                self._last_s = now_s
            return super().eventFilter(watched, event)

        def _report(self) -> None:
            count = Count(
                self.frames_painted,
                time.monotonic(),
                time.thread_time(),
                self._longest_s,
                round(self.width() * self.devicePixelRatioF()),
                round(self.height() * self.devicePixelRatioF()),
            )
            self._longest_s = 0.0
            print(MARK + json.dumps(asdict(count)), file=sys.stderr, flush=True)

    return CountingWindow


if __name__ == "__main__":
    width, height = map(int, sys.argv[1].split("x"))
    live_window.LiveWindow = _counting((width, height))  # type: ignore[misc]
    sys.exit(main(sys.argv[2:]))
