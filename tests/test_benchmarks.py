"""The benchmarks' own arithmetic and receivers; what they measure is no matter of tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import (
    BenchmarkError,
    OscReceiver,
    at_least,
    capture_times,
    check_rate,
    cpu_time_s,
    frame_ends,
    in_ms,
    music_tape,
    page,
    running,
    table,
)
from benchmarks.latency import strays
from benchmarks.rolling import RollingExtractor
from benchmarks.traced import note_captures
from realtime_mer.config import TargetSettings
from realtime_mer.features import ENGINE_RATE_HZ, FeatureEngine, opensmile_names, to_int16
from realtime_mer.osc.sink import OscSink
from realtime_mer.ring import BlockRing
from realtime_mer.status import SourceState, Status, Update

_TIMEOUT_S = 20.0


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.data())
def test_a_sample_was_captured_by_the_block_that_holds_it(block_sizes: list[int], data: st.DataObject) -> None:
    captures = np.stack([np.cumsum(block_sizes), np.arange(len(block_sizes))], axis=1).astype(np.float64)
    holder = np.repeat(np.arange(len(block_sizes)), block_sizes)
    sample = data.draw(st.integers(0, len(holder) - 1))
    assert capture_times(captures, [sample + 1]).tolist() == [holder[sample]]


def test_a_sample_that_was_never_captured_has_no_time() -> None:
    with pytest.raises(BenchmarkError, match="never captured"):
        capture_times(np.array([[441.0, 0.0]]), [441, 442])


def test_frames_end_at_whole_samples() -> None:
    assert frame_ends([0, 1, 5], 48_000) == [48_000, 72_000, 168_000]
    # The sample that the frame's end falls into still belongs to it.
    assert frame_ends([1], 11_025) == [16_538]


def test_a_device_at_another_rate_is_found_out() -> None:
    captures = np.array([[480.0 * n, 0.01 * n] for n in range(1, 200)])
    check_rate(captures, 48_000)
    with pytest.raises(BenchmarkError, match="48000 samples per second instead of 44100"):
        check_rate(captures, 44_100)


def test_percentiles_are_in_ms() -> None:
    assert in_ms(np.arange(101) / 1000.0) == ["50", "95", "99", "100"]


def test_strays_are_in_standard_deviations_of_the_reference() -> None:
    reference = np.array([[0.0, 5.0], [2.0, 5.0]], dtype=np.float32)
    assert strays(reference + np.array([0.5, 1.0], dtype=np.float32), reference).tolist() == [0.5, 0.0]


def test_a_table_and_a_page() -> None:
    rows = table(("view", "one core"), [("none", "9.4 %"), ("window", "11.9 %")])
    assert rows.splitlines() == [
        "| view   | one core |",
        "| ------ | -------: |",
        "| none   |    9.4 % |",
        "| window |   11.9 % |",
    ]
    heading, paragraph, last = page("## CPU", "word\n    " * 100, rows).split("\n\n")
    assert (heading, last) == ("## CPU", rows)
    assert paragraph.split() == ["word"] * 100
    assert max(map(len, paragraph.splitlines())) <= 120


def test_options_refuse_what_cannot_be_measured() -> None:
    assert at_least(10)("10") == 10.0
    for text in ("9.9", "nan", "inf"):
        with pytest.raises(ArgumentTypeError, match="at least 10"):
            at_least(10)(text)


def target_of(receiver: OscReceiver) -> TargetSettings:
    host, _, port = receiver.target.partition(":")
    return TargetSettings(host, int(port))


def test_the_receiver_notes_every_prediction_and_misses_none() -> None:
    with (
        contextlib.closing(OscReceiver()) as receiver,
        contextlib.closing(OscSink([target_of(receiver)])) as sink,
    ):
        before_s = time.monotonic()
        for index in range(3):
            sink.update(Update(index, 1.0, 0.25, -0.5, False, None))
        receiver.wait_for(3, _TIMEOUT_S)
        assert [arrival.index for arrival in receiver.arrivals] == [0, 1, 2]
        assert all(before_s <= arrival.arrived_s <= time.monotonic() for arrival in receiver.arrivals)
        receiver.check_complete()
        sink.update(Update(4, 1.0, 0.25, -0.5, False, None))
        receiver.wait_for(4, _TIMEOUT_S)
        with pytest.raises(BenchmarkError, match="some predictions missing"):
            receiver.check_complete()


@pytest.mark.parametrize(("drops", "losses"), [(2, 0), (0, 1)])
def test_the_receiver_sees_drops_and_losses(drops: int, losses: int) -> None:
    with (
        contextlib.closing(OscReceiver()) as receiver,
        contextlib.closing(OscSink([target_of(receiver)])) as sink,
    ):
        sink.status(Status("card", SourceState.RUNNING, dropped_blocks=drops, losses=losses))
        sink.update(Update(0, 1.0, 0.25, -0.5, False, None))
        receiver.wait_for(1, _TIMEOUT_S)
        with pytest.raises(
            BenchmarkError, match=f"{drops} blocks of sound dropped, the device lost {losses} times, no "
        ):
            receiver.check_complete()


def test_a_process_that_fails_is_an_error_with_its_words() -> None:
    with (
        pytest.raises(BenchmarkError, match=r"(?s)ended with 1.*no such thing"),
        running(["-c", "raise SystemExit('no such thing')"], dict(os.environ)) as process,
    ):
        process.wait(_TIMEOUT_S)


def test_a_process_can_be_looked_at_and_is_ended() -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); print('up', file=sys.stderr)"
    )
    busy = "\nwhile True: pass"
    with running(["-u", "-c", code + busy], dict(os.environ)) as process:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while process.told() != "up" or process.cpu_s() < 0.1:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert process.resident_mib() > 1
    assert process.popen.returncode == 0


def test_cpu_time_is_user_and_system_time() -> None:
    # Of children that have ended too; clock ticks are 10 ms.
    busy = "import os\nwhile min(os.times()[:2]) < 0.2: os.urandom(65_536); sum(range(100_000))"
    subprocess.run([sys.executable, "-c", busy], check=True, timeout=_TIMEOUT_S)
    times = os.times()
    assert min(times[2:4]) >= 0.2
    assert cpu_time_s(os.getpid()) == pytest.approx(sum(times[:4]), abs=0.1)


def test_a_tape_holds_a_piece_of_each_file_again_and_again(tmp_path: Path) -> None:
    for name, rate_hz, value in (("a.wav", 44_100, 0.25), ("b.flac", 22_050, 0.5)):
        soundfile.write(tmp_path / name, np.full((rate_hz, 2), value), rate_hz)
    (tmp_path / "notes.txt").write_text("no music")
    with music_tape(tmp_path, 2.5) as tape:
        samples, rate_hz = soundfile.read(tape)
    assert (rate_hz, samples.shape) == (44_100, (3 * 44_100, 2))
    middles = samples[[22_050, 66_150, 110_250]]
    np.testing.assert_allclose(middles, [[0.25, 0.25], [0.5, 0.5], [0.25, 0.25]], atol=1e-3)
    assert not tape.exists()


def test_a_folder_without_music_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="There is no music"), music_tape(tmp_path, 1.0):
        pass


def test_captures_are_noted_and_still_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockRing, "write", BlockRing.write)
    captures = note_captures()
    ring = BlockRing(4, 2, 1)
    before_s = time.monotonic()
    for value in (1.0, 2.0):
        ring.write(np.full((2, 1), value, dtype=np.float32))
    assert [n_samples for n_samples, _ in captures] == [2, 4]
    assert before_s <= captures[0][1] <= captures[1][1] <= time.monotonic()
    assert ring.read().samples[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0]


def test_the_alternative_gives_deams_features(deam_root: Path) -> None:
    """Whole at once, its features are the engine's, but for the voice's; of a buffer alone they are near."""
    samples, rate_hz = soundfile.read(next(iter(sorted((deam_root / "audio").glob("*.ogg")))), dtype="float32")
    assert rate_hz == ENGINE_RATE_HZ
    samples = to_int16(samples).astype(np.float32) / np.float32(32_768.0)
    engine = FeatureEngine()
    engine.write(samples)
    continuous = np.stack([frame.values for frame in engine.finish()])
    extractor = RollingExtractor()
    voice = ("F0final", "voicingFinal", "jitter", "shimmer", "logHNR")
    same = np.array([not name.startswith(voice) for name in opensmile_names()])
    assert same.sum() == 260 - 6 * 4
    at_once = extractor.frames(samples)
    assert len(at_once) == len(continuous)
    assert strays(at_once, continuous)[same].max() < 1e-4
    ends = frame_ends(range(4, len(continuous)), ENGINE_RATE_HZ)
    rolling = np.stack([extractor.frame(samples[end - 2 * ENGINE_RATE_HZ : end]) for end in ends])
    assert 0 < np.median(strays(rolling, continuous[4:])) < 0.3
    assert [len(extractions_s) for extractions_s in extractor.extractions_s] == [1 + len(ends)] * 2
