"""Updates and statuses of every kind for the tests of OSC, and a decoder written from the specification."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

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
    """The messages of a flat bundle with the immediate time tag, read by hand after the specification."""
    assert datagram[:16] == b"#bundle\0" + struct.pack(">Q", 1)
    found: list[Decoded] = []
    rest = datagram[16:]
    while rest:
        (size,) = struct.unpack(">i", rest[:4])
        element, rest = rest[4 : 4 + size], rest[4 + size :]
        assert len(element) == size
        assert size % 4 == 0
        address, element = _take_string(element)
        types, element = _take_string(element)
        assert types[0] == ","
        values: list[object] = []
        for letter in types[1:]:
            if letter == "s":
                text, element = _take_string(element)
                values.append(text)
            else:
                values.append(struct.unpack(f">{letter}", element[:4])[0])
                element = element[4:]
        assert element == b""
        found.append((address, types[1:], tuple(values)))
    return found


def _take_string(data: bytes) -> tuple[str, bytes]:
    length = data.index(b"\0")
    padded = (length // 4 + 1) * 4
    assert not data[length:padded].strip(b"\0")
    return data[:length].decode("ascii"), data[padded:]
