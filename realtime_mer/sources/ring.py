"""The ring between the audio callback and the pipeline: preallocated, bounded, one writer, one reader, no lock."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from realtime_mer.types import FloatArray


@dataclass(frozen=True, slots=True)
class RingRead:
    """What `read` returned.

    samples: a copy, float32, shape (n_blocks · block_samples, n_channels), oldest first.
    dropped_blocks: how many blocks, right before these, the writer had overwritten or the reader skipped.
    captured_s: time.monotonic() when the last block was written; None if there is none.
    """

    samples: FloatArray
    dropped_blocks: int
    captured_s: float | None


class BlockRing:
    """A ring of blocks of one size, for exactly one writing and one reading thread.

    The writer never waits and never looks at the reader: it copies the block, then counts it. If the reader has fallen
    behind by the whole ring, which the count shows, it goes on with the newer half: the oldest blocks are dropped. To
    drop one block at a time would keep the delay at its maximum.

    capacity_blocks: at least 2. One block more is allocated, for the one that is being written.
    Raises ValueError for sizes that are not positive.
    """

    def __init__(self, capacity_blocks: int, block_samples: int, n_channels: int) -> None:
        if capacity_blocks < 2 or block_samples < 1 or n_channels < 1:
            raise ValueError(
                "A ring needs at least 2 blocks of at least 1 sample and 1 channel, not "
                f"{capacity_blocks} of {block_samples} and {n_channels}."
            )
        self._n_slots = capacity_blocks + 1
        self._samples = np.zeros((self._n_slots, block_samples, n_channels), dtype=np.float32)
        self._captured_s = np.zeros(self._n_slots)
        # Blocks ever written, and ever read or dropped. Each is changed by one thread only.
        self._written = 0
        self._read = 0

    @property
    def written_blocks(self) -> int:
        """Blocks written so far."""
        return self._written

    def write(self, block: FloatArray) -> None:
        """block: float32, shape (block_samples, n_channels). For the audio callback: copies and counts."""
        slot = self._written % self._n_slots
        self._samples[slot] = block
        self._captured_s[slot] = time.monotonic()
        self._written += 1

    def read(self) -> RingRead:
        """A copy of everything written and not yet read; possibly nothing. Never waits."""
        written = self._written
        first = self._read
        if written - first > self._n_slots - 1:
            first = written - self._n_slots // 2
        slots = np.arange(first, written) % self._n_slots
        samples = self._samples[slots]
        captured_s = float(self._captured_s[slots[-1]]) if len(slots) else None
        # Blocks that the writer reached during the copy may be torn.
        torn = min(max(self._written - self._n_slots + 1 - first, 0), len(slots))
        dropped = first + torn - self._read
        self._read = written
        whole = samples[torn:]
        return RingRead(whole.reshape(-1, self._samples.shape[2]), dropped, captured_s if len(whole) else None)
