"""realtime-mer, which also records when the sound card's callbacks delivered which samples.

    python -m benchmarks.traced CAPTURES.npy [arguments of realtime-mer]

At its end it saves, for each packet of one or more blocks, the number of samples captured so far and time.monotonic():
float64, shape (n_packets, 2).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from realtime_mer.cli import main
from realtime_mer.sources.device import _Capturer, _Packet


def record_captures() -> list[tuple[int, float]]:
    """The returned list gets (samples so far, time of the last callback) for each packet captured from now on."""
    captures: list[tuple[int, float]] = []
    give = _Capturer._give

    def give_and_record(self: _Capturer, packet: _Packet) -> None:
        if self.segment is not None and packet.captured_s >= self.segment.since_s:
            captures.append(((captures[-1][0] if captures else 0) + len(packet.samples), packet.captured_s))
        give(self, packet)

    _Capturer._give = give_and_record  # type: ignore[method-assign]
    return captures


if __name__ == "__main__":
    recorded = record_captures()
    code = main(sys.argv[2:])
    np.save(Path(sys.argv[1]), np.array(recorded, dtype=np.float64).reshape(-1, 2))
    sys.exit(code)
