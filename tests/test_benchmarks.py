"""The benchmarks' calculations and receivers, and a short soak."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import DEAM_ROOT
from hypothesis import given
from hypothesis import strategies as st
from osc_sockets import eventually
from sound_server import start_sound_server

from benchmarks.common import Arrival, BenchmarkError, OscReceiver, capture_times, check_rate, frame_ends
from benchmarks.headroom import lateness
from benchmarks.programme import RATE_HZ, Expected, Programme, frames_in, renewals_in, song_sounds
from benchmarks.rolling import RollingExtractor
from benchmarks.soak import MEMORY_BOUND_MIB, Check, Receiver
from benchmarks.traced import record_captures
from realtime_mer.config import AudioSettings, TargetSettings
from realtime_mer.features.engine import ENGINE_RATE_HZ, FeatureEngine, to_int16
from realtime_mer.features.extraction import ExtractionSettings, FrameExtractor
from realtime_mer.features.renewal import RenewalSettings, RenewingEngine
from realtime_mer.osc.sink import OscSink
from realtime_mer.sources import Capture
from realtime_mer.sources.device import DeviceSource, _Capturer
from realtime_mer.types import Prediction
from realtime_mer.updates import SourceState, Status, Update

_TIMEOUT_S = 20.0
ROOT = Path(__file__).resolve().parents[1]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.data())
def test_the_capture_time_is_that_of_the_samples_block(block_sizes: list[int], data: st.DataObject) -> None:
    captures = np.stack([np.cumsum(block_sizes), np.arange(len(block_sizes))], axis=1).astype(np.float64)
    holder = np.repeat(np.arange(len(block_sizes)), block_sizes)
    sample = data.draw(st.integers(0, len(holder) - 1))
    assert capture_times(captures, [sample + 1]).tolist() == [holder[sample]]


def test_a_sample_that_was_never_captured_has_no_time() -> None:
    with pytest.raises(BenchmarkError, match="never captured"):
        capture_times(np.array([[441.0, 0.0]]), [441, 442])


def test_frames_end_at_whole_samples() -> None:
    assert frame_ends([0, 1, 5], 48_000) == [48_000, 72_000, 168_000]
    # Rounded up to whole samples.
    assert frame_ends([1], 11_025) == [16_538]


def test_a_device_at_another_rate_is_an_error() -> None:
    captures = np.array([[480.0 * n, 0.01 * n] for n in range(1, 200)])
    check_rate(captures, 48_000)
    with pytest.raises(BenchmarkError, match=r"Expected 44100 .* got 48000"):
        check_rate(captures, 44_100)


def target_of(receiver: OscReceiver) -> TargetSettings:
    host, _, port = receiver.target.partition(":")
    return TargetSettings(host, int(port))


def test_the_receiver_records_every_prediction() -> None:
    with contextlib.closing(OscReceiver()) as receiver, contextlib.closing(OscSink([target_of(receiver)])) as sink:
        before_s = time.monotonic()
        for index in range(3):
            sink.update(Update(index, Prediction(1.0, 0.25, -0.5), False, 0.125 if index else None))
        receiver.wait_for(3, _TIMEOUT_S)
        assert [arrival.index for arrival in receiver.arrivals] == [0, 1, 2]
        assert [arrival.latency_s for arrival in receiver.arrivals] == [None, 0.125, 0.125]
        assert all(before_s <= arrival.arrived_s <= time.monotonic() for arrival in receiver.arrivals)
        receiver.check_complete()
        sink.update(Update(4, Prediction(1.0, 0.25, -0.5), False, None))
        receiver.wait_for(4, _TIMEOUT_S)
        with pytest.raises(BenchmarkError, match="some predictions missing"):
            receiver.check_complete()


@pytest.mark.parametrize(("drops", "losses"), [(2, 0), (0, 1)])
def test_the_receiver_reports_drops_and_losses(drops: int, losses: int) -> None:
    with contextlib.closing(OscReceiver()) as receiver, contextlib.closing(OscSink([target_of(receiver)])) as sink:
        sink.status(Status("card", SourceState.RUNNING, dropped_blocks=drops, losses=losses))
        sink.update(Update(0, Prediction(1.0, 0.25, -0.5), False, None))
        receiver.wait_for(1, _TIMEOUT_S)
        with pytest.raises(BenchmarkError, match=f"{drops} blocks of sound dropped, the device lost {losses} times"):
            receiver.check_complete()


@pytest.mark.slow
def test_captures_are_recorded_and_still_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Capturer, "_give", _Capturer._give)
    captures = record_captures()
    server = start_sound_server()
    try:
        for name in ("XDG_RUNTIME_DIR", "HOME"):
            monkeypatch.setenv(name, server.environment[name])
        before_s = time.monotonic()
        with contextlib.closing(DeviceSource(AudioSettings())) as source:
            source.start()
            read: list[Capture] = []

            def has_read() -> bool:
                if (capture := source.read()) is not None:
                    read.append(capture)
                return len(read) >= 3

            eventually(has_read)
    finally:
        server.close()
    n_read = np.cumsum([len(capture.samples) for capture in read])
    assert [n_samples for n_samples, _ in captures[:3]] == n_read.tolist()
    assert [captured_s for _, captured_s in captures[:3]] == [capture.captured_s for capture in read]
    assert before_s <= captures[0][1] <= captures[-1][1] <= time.monotonic()


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), min_size=1, max_size=20), st.floats(0, 1e6))
def test_lateness_is_by_the_clock(delays: list[tuple[float, float]], began_s: float) -> None:
    """A late capture does not hide a late prediction, if any capture was on time."""
    arrivals = [
        Arrival(index, began_s + 0.5 * index + 1.0 + captured_late_s + since_s, 0.5 * index + 1.0, since_s)
        for index, (since_s, captured_late_s) in enumerate([*delays, (0.1, 0.0)])
    ]
    expected = [since_s + captured_late_s for since_s, captured_late_s in [*delays, (0.1, 0.0)]]
    np.testing.assert_allclose(lateness(arrivals), expected, atol=1e-6)


@pytest.mark.slow
def test_the_rolling_buffer_gives_deams_features(deam_root: Path) -> None:
    samples, rate_hz = soundfile.read(next(iter(sorted((deam_root / "audio").glob("*.ogg")))), dtype="float32")
    assert rate_hz == ENGINE_RATE_HZ
    samples = to_int16(samples).astype(np.float32) / np.float32(32_768.0)
    engine = FeatureEngine()
    engine.write(samples)
    continuous = np.stack([frame.values for frame in engine.finish()])[4:]
    extractor = RollingExtractor()
    ends = frame_ends(range(4, 4 + len(continuous)), ENGINE_RATE_HZ)
    rolling = np.stack([extractor.frame(samples[end - 2 * ENGINE_RATE_HZ : end]) for end in ends])
    deviation = np.maximum(continuous.std(axis=0), 1e-9)
    assert 0 < np.median(np.abs(rolling - continuous).mean(axis=0) / deviation) < 0.3
    assert [len(extractions_s) for extractions_s in extractor.extractions_s] == [len(ends)] * 2


# --- the soak


@pytest.mark.slow
@pytest.mark.parametrize("past_samples", [0, 1])
@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_the_soak_expects_the_right_number_of_frames(n_frames: int, past_samples: int) -> None:
    """The sample at which a frame is complete."""
    shortest = next(n for n in range(24_000 * n_frames, 200_000) if frames_in(n) == n_frames)
    samples = 0.1 * np.random.default_rng(0).standard_normal(shortest - past_samples).astype(np.float32)
    extractor = FrameExtractor(ExtractionSettings(descriptors=False), RATE_HZ)
    assert len(extractor.step(samples) + extractor.flush()) == n_frames - past_samples


@pytest.mark.slow
def test_the_soak_expects_the_right_number_of_renewals() -> None:
    renewal = RenewalSettings(2.0, 0.5)
    samples = 0.1 * np.random.default_rng(0).standard_normal(5 * ENGINE_RATE_HZ).astype(np.float32)
    for n_samples in (2 * ENGINE_RATE_HZ, 3 * ENGINE_RATE_HZ, round(4.6 * ENGINE_RATE_HZ), 5 * ENGINE_RATE_HZ):
        engine = RenewingEngine(renewal)
        engine.write(samples[:n_samples])
        n_frames = len(engine.finish())
        assert engine.n_renewals == renewals_in(n_frames, renewal)


@pytest.mark.slow
def test_the_programme_is_deterministic_and_has_everything(tmp_path: Path) -> None:
    """First music without a pause, in one stretch; then all kinds of transitions. The songs are loud and short here."""
    noise = 0.2 * np.random.default_rng(0).standard_normal((5 * ENGINE_RATE_HZ, 2))
    soundfile.write(tmp_path / "a.wav", noise, ENGINE_RATE_HZ)

    def evening() -> tuple[Programme, list[Capture]]:
        programme = Programme(song_sounds([tmp_path / "a.wav"]), 30.0, 240.0, Expected(RenewalSettings()))
        return programme, list(programme.captures())

    programme, captures = evening()
    again, same = evening()
    assert [capture.samples.tobytes() for capture in captures] == [capture.samples.tobytes() for capture in same]
    assert programme.happened == again.happened
    assert all(programme.happened[kind] for kind in ("cuts", "silences", "faint noises", "device losses"))
    assert programme.happened["times clipping"] > 0
    assert max(float(np.abs(capture.samples).max()) for capture in captures) == 1.0
    assert sum(len(capture.samples) for capture in captures) == programme.expected.n_samples == 240 * RATE_HZ
    # Except for silence at the start.
    first, second, *_ = [stretch for stretch in programme.expected.stretches if stretch.n_frames]
    assert first.start_samples < RATE_HZ // 100
    assert second.start_samples >= 30 * RATE_HZ
    assert len({capture.segment for capture in captures}) == programme.happened["device losses"] + 1


def soaked(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of a soak in a process of its own."""
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.soak", "--json", str(found), *arguments]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=600, check=False)
    outcome: dict[str, Any] = json.loads(found.read_text())
    return run.returncode, outcome


@pytest.mark.slow
@ON_LINUX
@pytest.mark.parametrize(("model", "minutes", "least"), [("default", 5, 550), ("open", 10, 5_500)])
def test_minutes_of_music_lose_nothing_and_leave_nothing_behind(
    model: str, minutes: float, least: int, tmp_path: Path
) -> None:
    """With real music if available; results/soak.md has a whole night. The open model predicts 10 times a second."""
    music = ["--deam", str(DEAM_ROOT)] if (DEAM_ROOT / "clips.csv").is_file() else []
    code, found = soaked(tmp_path, "--model", model, "--hours", str(minutes / 60), "--record", "1", *music)
    assert found["faults"] == []
    assert code == 0
    # Less than in a single piece: each start of music after silence loses the first second.
    assert found["n_expected"] == found["n_predictions"] == found["n_received"] > least
    assert found["n_renewals"] == found["n_renewals_expected"] >= (4 if model == "default" else 0)
    assert found["drift_s"] < 1e-6
    assert found["dropped_s"] == 0.0
    assert 60.0 <= found["recorded_s"] < 120.0
    assert found["before"] == found["after"]
    # Fewer in the second half, after the end of the recording.
    half = len(found["samples"]) // 2
    for kept in ("threads", "descriptors"):
        counts = [sample[kept] for sample in found["samples"]]
        assert max(counts[half:]) <= max(counts[:half]), kept
    assert found["memory_growth_mib"] < MEMORY_BOUND_MIB


def faults_of(made: Sequence[tuple[int, float]], sent: Sequence[tuple[int, float]] | None = None) -> list[str]:
    """The soak's faults for these predictions (index, time) of three seconds of noise. sent: by UDP, if different."""
    expected = Expected(RenewalSettings())
    expected.process(0.1 * np.random.default_rng(0).standard_normal((3 * RATE_HZ, 1)).astype(np.float32))
    expected.end_segment()
    check = Check(expected, 10.0)
    for index, time_s in made:
        check.update(Update(index, Prediction(time_s, 0.25, -0.5), False, None))
    sent = made if sent is None else sent
    with contextlib.closing(Receiver(check)) as receiver, contextlib.closing(OscSink([receiver.target])) as sink:
        for index, time_s in sent:
            sink.update(Update(index, Prediction(time_s, 0.25, -0.5), False, None))
        deadline_s = time.monotonic() + _TIMEOUT_S
        while receiver.n_received < len(sent):
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
    missing = ["a prediction is missing"] if check.n_predictions < expected.n_frames else []
    return [*check.faults, *(["late"] if check.drift_s > 1e-6 else []), *missing]


def test_the_soak_finds_lost_doubled_and_late_predictions() -> None:
    good = [(k, 1.0 + 0.5 * k) for k in range(4)]
    assert faults_of(good) == []
    assert faults_of(good[:3]) == ["a prediction is missing"]
    assert faults_of([*good, (4, 3.0)], good) == ["Prediction 4 at 3.000 s is one too many."]
    assert faults_of([*good[:2], (3, 2.0), (3, 2.5)], good[:2]) == ["Prediction 3 came instead of 2."]
    assert faults_of([*good[:3], (3, 2.501)]) == ["late"]
    twice = "Prediction 1 came by UDP twice, or was never made."
    assert faults_of(good, [good[0], good[1], good[1], *good[2:]]) == [twice]
    assert faults_of(good, [good[0], *good[2:]]) == ["Prediction 1 never came by UDP."]
    assert faults_of(good, [*good[:3], (3, 7.0)]) == ["Prediction 3 of 2.5 s came by UDP as of 7.0 s."]
