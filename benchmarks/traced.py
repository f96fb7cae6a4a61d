"""realtime-mer itself, with one addition: it notes when the sound card's callback brought which samples.

    python -m benchmarks.traced CAPTURES.npy [arguments of realtime-mer]

At its end it saves, for each block, how many samples had been captured with it, and time.monotonic() then: float64,
shape (n_blocks, 2).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from realtime_mer.cli import main
from realtime_mer.ring import BlockRing
from realtime_mer.types import FloatArray


def note_captures() -> list[tuple[int, float]]:
    """From now on, every block that a callback writes into a ring adds (samples so far, time of its coming) here."""
    captures: list[tuple[int, float]] = []
    write = BlockRing.write

    def write_and_note(self: BlockRing, block: FloatArray) -> None:
        captured_s = time.monotonic()
        write(self, block)
        captures.append(((captures[-1][0] if captures else 0) + len(block), captured_s))

    BlockRing.write = write_and_note  # type: ignore[method-assign]
    return captures


if __name__ == "__main__":
    noted = note_captures()
    code = main(sys.argv[2:])
    np.save(Path(sys.argv[1]), np.array(noted, dtype=np.float64).reshape(-1, 2))
    sys.exit(code)
