"""Recordings: sound and predictions come back bit for bit, and a replay gives the same predictions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import music, small_checkpoint
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recordings import SETTINGS, capture, noise, record, recorder_into, replayed

from realtime_mer.live.session import Session
from realtime_mer.recording.check import ReplayCheck
from realtime_mer.recording.reader import read_recording
from realtime_mer.recording.recorder import Recorder
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FloatArray, Prediction
from realtime_mer.updates import Sink, Update


def essence(captures: list[Capture]) -> list[tuple[int, int, bytes, tuple[int, ...], dict[int, int]]]:
    """Of each segment, however it is cut: number, rate, samples, and the drops by position."""
    segments: dict[tuple[int, int], tuple[list[FloatArray], dict[int, int]]] = {}
    for one in captures:
        pieces, drops = segments.setdefault((one.segment, one.rate_hz), ([], {}))
        if one.dropped_samples:
            position = sum(map(len, pieces))
            drops[position] = drops.get(position, 0) + one.dropped_samples
        pieces.append(one.samples)
    return [
        (segment, rate_hz, samples.tobytes(), samples.shape, drops)
        for (segment, rate_hz), (pieces, drops) in segments.items()
        if len(samples := np.concatenate(pieces)) or drops
    ]


# ---- what comes back ------------------------------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Capture]:
    """Some segments of captures, each segment with its own rate and channels, some captures after a drop."""
    captures = []
    segment = -1
    for _ in range(draw(st.integers(1, 3))):
        segment += draw(st.integers(1, 3))
        rate_hz = draw(st.sampled_from([8_000, 11_025, 44_100, 48_000, 96_000, 384_000]))
        n_channels = draw(st.integers(1, 8))
        for n_samples in draw(st.lists(st.sampled_from([0, 1, 7, 64, 441, 4_096, 9_001]), min_size=1, max_size=6)):
            samples = noise(n_samples, n_channels, draw(st.integers(0, 99)))
            dropped_samples = draw(st.sampled_from([0, 0, 1, 480, 10**9]))
            captures.append(capture(samples, segment, rate_hz, dropped_samples))
    return captures


# The 24-bit values at both ends, at every power of two, and beside each of these.
EDGES = sorted({s * 2**e + d for s in (-1, 1) for e in range(24) for d in (-1, 0, 1)} & set(range(-(2**23), 2**23)))


@settings(max_examples=50)
@given(streams())
@example([capture((np.array(EDGES) / 2**23).astype(np.float32)[:, np.newaxis])])
@example([])
def test_sound_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, captures: list[Capture]) -> None:
    recorded = record(tmp_path_factory.mktemp("sound") / "recording", captures)
    again = replayed(recorded)
    assert essence(again) == essence(captures)
    assert {one.captured_s for one in again} <= {None}
    assert recorded.fault == ""


numbers = st.floats(-1.0, 1.0)


@given(st.lists(st.tuples(numbers, numbers, st.booleans(), st.floats(0.0, 10.0)), max_size=20))
def test_predictions_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float, bool, float]]
) -> None:
    updates: list[Update] = []
    time_s = 0.1
    for valence, arousal, held, step_s in values:
        time_s += step_s
        updates.append(Update(len(updates), Prediction(time_s, valence, arousal), held, 0.25))
    recorded = record(tmp_path_factory.mktemp("predictions") / "recording", [], updates)
    assert [replace(one, latency_s=None) for one in updates] == list(recorded.updates)
    signs = [[math.copysign(1.0, one.prediction.valence) for one in those] for those in (updates, recorded.updates)]
    assert signs[0] == signs[1], "minus zero too"


def test_numbers_of_numpy_are_written_as_plain_ones(tmp_path: Path) -> None:
    odd = Update(0, Prediction(1.0, np.float32(0.1), np.float64(-0.1)), False, None)  # type: ignore[arg-type]
    (read,) = record(tmp_path / "recording", [], [odd]).updates
    assert (read.prediction.valence, read.prediction.arousal) == (float(np.float32(0.1)), -0.1)


# ---- through the whole session ----------------------------------------------------------------------------------


def session_updates(
    captures: list[Capture],
    *sinks: Sink,
    recorder: Recorder | None = None,
    session: Session | None = None,
    open_end: bool = False,
) -> list[Update]:
    """The updates of the live path, as in live/recognition.py. open_end: the segment goes on after the captures."""
    session = session or Session(small_checkpoint(), SETTINGS.level)
    updates: list[Update] = []
    for one in captures:
        if recorder is not None:
            recorder.capture(one)
        updates += session.process(one) + session.wait(0.0)
    if not open_end:
        updates += session.end_segment()
    for sink in sinks:
        for update in updates:
            sink.update(update)
    return updates


@pytest.fixture(scope="module")
def stream() -> list[Capture]:
    """Segments of two rates, silence, a drop, ragged pieces."""
    captures = []
    for segment, rate_hz, n_channels in ((0, 44_100, 1), (1, 48_000, 2)):
        samples = np.concatenate(
            [music(1.8, rate_hz, n_channels), np.zeros((rate_hz * 3 // 2, n_channels)), music(1.0, rate_hz, n_channels)]
        )
        gridded, _ = on_grid(samples.reshape(-1, n_channels).astype(np.float32))
        cuts = np.cumsum([1, 441, 1024, 4410, 7919] * 20)
        pieces = [piece for piece in np.split(gridded, cuts) if len(piece)]
        captures += [capture(piece, segment, rate_hz, 4_410 * (i == 12)) for i, piece in enumerate(pieces)]
    return captures


def test_a_replay_gives_the_same_predictions(stream: list[Capture], tmp_path: Path) -> None:
    recorder = recorder_into(tmp_path / "recording")
    updates = session_updates(stream, recorder, recorder=recorder)
    recorder.close()
    recorded = read_recording(tmp_path / "recording")
    check = ReplayCheck(recorded)
    assert len(updates) > 10
    assert {one.held for one in updates} == {False, True}
    session_updates(replayed(recorded), check)
    assert check.identical, check.verdict()
    assert check.verdict() == f"All {len(updates)} predictions that were compared are identical to the recorded ones."
    other = ReplayCheck(recorded)
    session_updates([replace(one, samples=one.samples * np.float32(0.5)) for one in replayed(recorded)][1:], other)
    assert not other.identical, "other sound gives other predictions"


@pytest.mark.slow
@pytest.mark.parametrize("open_end", [False, True])
def test_a_part_of_a_run_replays_identically(stream: list[Capture], open_end: bool, tmp_path: Path) -> None:
    """Recorded from a silence after music on, to the end of a segment (or not)."""
    session = Session(small_checkpoint(), SETTINGS.level)
    before = session_updates(stream, session=session)
    recorder = recorder_into(tmp_path / "recording")
    recorder.begin(session.beginning)
    silence = capture(np.zeros((132_300, 1), dtype=np.float32), 7, 44_100)
    recorded_part = [silence] + [replace(one, segment=one.segment + 8) for one in stream]
    updates = session_updates(recorded_part, recorder, recorder=recorder, session=session, open_end=open_end)
    # If the segment goes on, openSMILE still holds some of the sound.
    last, _ = on_grid(music(2.0, 48_000, 2))
    then = capture(last, 9 if open_end else 10, 48_000)
    if open_end:
        recorder.capture(then)
    recorder.finish(open_end=open_end)
    session_updates([then], recorder, recorder=None if open_end else recorder, session=session)
    assert recorder.fault == ""
    recorder.close()
    recorded = read_recording(tmp_path / "recording")
    assert (recorded.fault, recorded.open_end) == ("", open_end)
    assert [segment.segment for segment in recorded.segments] == [7, 8, 9]
    assert recorded.began.index == recorded.updates[0].index == len(before)
    assert recorded.updates[0].time_s > recorded.began.time_s > before[-1].time_s
    assert recorded.updates[0].held
    assert recorded.began.held == (before[-1].prediction.valence, before[-1].prediction.arousal) != (0.0, 0.0)
    check = ReplayCheck(recorded)
    replaying = Session(small_checkpoint(), SETTINGS.level, beginning=recorded.began)
    replayed_updates = session_updates(replayed(recorded), check, session=replaying)
    assert check.identical, check.verdict()
    assert list(recorded.updates) == [
        Update(one.index, Prediction(one.time_s, one.prediction.valence, one.prediction.arousal), one.held, None)
        for one in updates
    ]
    assert (len(replayed_updates) > len(updates)) == open_end
    from_the_start = ReplayCheck(recorded)
    session_updates(replayed(recorded), from_the_start)
    assert not from_the_start.identical, "the state before the recording matters"
