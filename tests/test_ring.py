"""The ring: no block is lost while there is room, then only whole blocks, and none is torn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.sources.ring import BlockRing
from realtime_mer.types import FloatArray


def numbered(number: int, block_samples: int, n_channels: int) -> FloatArray:
    return np.full((block_samples, n_channels), number, dtype=np.float32)


@given(
    capacity=st.integers(2, 9),
    block_samples=st.integers(1, 5),
    n_channels=st.integers(1, 3),
    bursts=st.lists(st.integers(0, 30), max_size=20),
)
def test_every_block_is_read_in_order_or_counted_as_dropped(
    capacity: int, block_samples: int, n_channels: int, bursts: list[int]
) -> None:
    ring = BlockRing(capacity, block_samples, n_channels)
    next_number = 0
    for burst in bursts:
        first = next_number
        for number in range(first, first + burst):
            ring.write(numbered(number, block_samples, n_channels))
        next_number += burst
        read = ring.read()
        blocks = read.samples.reshape(-1, block_samples, n_channels)
        assert read.dropped_blocks + len(blocks) == burst
        expected = [
            numbered(number, block_samples, n_channels) for number in range(next_number - len(blocks), next_number)
        ]
        assert np.array_equal(blocks, np.array(expected).reshape(blocks.shape))
        if burst <= capacity:
            assert read.dropped_blocks == 0, "there was room"
        else:
            assert 0 < len(blocks) <= capacity / 2 + 1, "the delay must shrink, not stay at its worst"
        assert (read.captured_s is None) == (burst == 0)
    assert ring.written_blocks == next_number


def test_a_read_is_a_copy() -> None:
    ring = BlockRing(2, 1, 1)
    ring.write(numbered(1, 1, 1))
    read = ring.read().samples
    for number in range(2, 10):
        ring.write(numbered(number, 1, 1))
    assert read.tolist() == [[1.0]]


def test_the_time_is_that_of_the_last_block() -> None:
    ring = BlockRing(4, 1, 1)
    ring.write(numbered(1, 1, 1))
    between_s = time.monotonic()
    ring.write(numbered(2, 1, 1))
    captured_s = ring.read().captured_s
    assert captured_s is not None
    assert between_s <= captured_s <= time.monotonic()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 2 blocks"):
        BlockRing(*sizes)


class Interrupted(np.ndarray[Any, Any]):
    """The ring's memory; the writer writes while blocks are copied out."""

    meanwhile: Callable[[], None] | None = None

    def __getitem__(self, key: Any) -> Any:
        copied = np.asarray(self)[key]
        if self.meanwhile is not None and isinstance(key, np.ndarray):
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
            # Half of every block is copied before the write, half after it.
            copied[:, 1] = np.asarray(self)[key][:, 1]
        return copied


@pytest.mark.parametrize("n_meanwhile", range(8))
def test_a_block_overwritten_during_a_read_is_dropped_and_counted(n_meanwhile: int) -> None:
    ring = BlockRing(4, 2, 1)
    memory = ring._samples.view(Interrupted)
    ring._samples = memory
    for number in range(4):
        ring.write(numbered(number, 2, 1))

    def write_more() -> None:
        for number in range(4, 4 + n_meanwhile):
            ring.write(numbered(number, 2, 1))

    memory.meanwhile = write_more
    read = ring.read()
    # One slot is free: block 4 goes there, block 5 replaces block 0, and so on. The writer may be writing into one
    # more slot at this moment.
    n_safe = max(4 - n_meanwhile, 0)
    assert read.dropped_blocks == 4 - n_safe
    assert read.samples.reshape(-1, 2).tolist() == [[number, number] for number in range(4 - n_safe, 4)]
    later = ring.read()
    assert read.dropped_blocks + n_safe + later.dropped_blocks + len(later.samples) // 2 == 4 + n_meanwhile


def test_two_threads_at_full_speed() -> None:
    block_samples, n_blocks = 20_000, 1_000
    ring = BlockRing(4, block_samples, 2)
    blocks = [numbered(number, block_samples, 2) for number in range(8)]

    def write() -> None:
        for number in range(n_blocks):
            ring.write(blocks[number % 8])

    writer = threading.Thread(target=write)
    writer.start()
    n_read = n_dropped = 0
    while writer.is_alive() or n_read + n_dropped < n_blocks:
        read = ring.read()
        n_dropped += read.dropped_blocks
        for block in read.samples.reshape(-1, block_samples, 2):
            assert block.min() == block.max() == (n_read + n_dropped) % 8, "a torn block, or one out of order"
            n_read += 1
    writer.join()
    assert n_read + n_dropped == n_blocks
    assert n_read
