"""realtime-mer itself, with one addition: it notes when the sound card's callbacks brought which samples.

    python -m benchmarks.traced CAPTURES.npy [arguments of realtime-mer]

At its end it saves, for each block or some that came together, how many samples had been captured with it, and
time.monotonic() then: float64, shape (n_packets, 2).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from realtime_mer.cli import main
from realtime_mer.sources.device import _Capturer, _Packet


def note_captures() -> list[tuple[int, float]]:
    """From now on, whatever comes to be heard adds (samples so far, time of the last callback that brought it) here."""
    captures: list[tuple[int, float]] = []
    give = _Capturer._give

    def give_and_note(self: _Capturer, packet: _Packet) -> None:
        if self.segment is not None and packet.captured_s >= self.segment.since_s:
            captures.append(((captures[-1][0] if captures else 0) + len(packet.samples), packet.captured_s))
        give(self, packet)

    _Capturer._give = give_and_note  # type: ignore[method-assign]
    return captures


if __name__ == "__main__":
    noted = note_captures()
    code = main(sys.argv[2:])
    np.save(Path(sys.argv[1]), np.array(noted, dtype=np.float64).reshape(-1, 2))
    sys.exit(code)
