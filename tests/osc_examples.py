"""Updates and statuses of every kind for the tests of OSC."""

from __future__ import annotations

from hypothesis import strategies as st

from realtime_mer.osc.messages import read_packet
from realtime_mer.types import Prediction
from realtime_mer.updates import InputLevel, LevelState, SourceState, Status, Update

# Beyond what int32 holds: a flood is counted too.
COUNTS = st.integers(0, 100) | st.integers(2**31 - 2, 2**40)
LEVELS = st.builds(
    InputLevel, peak_db=st.floats(-120, 0), rms_db=st.floats(-120, 0), state=st.sampled_from(list(LevelState))
)
UPDATES = st.builds(
    Update,
    index=COUNTS,
    prediction=st.builds(
        Prediction,
        time_s=st.floats(0, 1e12),
        valence=st.floats(-1, 1),
        arousal=st.floats(-1, 1),
        confidence=st.none() | st.floats(0, 1),
    ),
    held=st.booleans(),
    latency_s=st.none() | st.floats(0, 1e6),
    quadrant=st.integers(0, 4),
)
STATUSES = st.builds(
    Status,
    source=st.text(max_size=20),
    state=st.sampled_from(list(SourceState)),
    detail=st.text(max_size=20),
    level=st.none() | LEVELS,
    dropped_blocks=COUNTS,
    losses=COUNTS,
    recording=st.none() | st.text(max_size=20),
    recording_fault=st.sampled_from(["", "The disk is full."]),
    ignored_packets=COUNTS,
)

# Address, type tags and values, as received.
Decoded = tuple[str, str, tuple[object, ...]]


def decode(datagram: bytes) -> list[Decoded]:
    """The messages of a bundle."""
    assert datagram.startswith(b"#bundle")
    return [(message.address, message.types, message.values) for message in read_packet(datagram)]
