"""Long streams get a new engine from time to time, without an effect on the predictions; here every few seconds."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import soundfile
from checkpoints import small_checkpoint
from contract import SessionStage, verify_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime_mer.config import LevelMeterSettings
from realtime_mer.features.engine import ENGINE_RATE_HZ, FRAME_S, HOP_S, FeatureEngine, opensmile_names
from realtime_mer.features.extraction import ExtractionSettings, FrameExtractor
from realtime_mer.features.renewal import RenewalSettings, RenewingEngine
from realtime_mer.live.session import Session
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import default_checkpoint_path
from realtime_mer.models.predictor import Predictor
from realtime_mer.types import FeatureFrame, FloatArray

TIMEOUT_S = 30.0
SOON = RenewalSettings(period_s=8.0, warm_up_s=5.0)
VERY_SOON = RenewalSettings(period_s=2.0, warm_up_s=0.5)
# Of SOON's second engine: the frame that begins 13 s after the stream did.
FIRST_RENEWED = round(13.0 / HOP_S)
# Of a prediction. Measured: .0034, with SOON's five seconds of warming up.
LARGEST_DIFFERENCE = 0.01
# Features that openSMILE divides by the number of voiced frames since the engine's start; no two engines agree.
OF_THE_VOICE = ("F0final_sma_de", "voicingFinalUnclipped_sma_de", "jitter", "shimmer", "logHNR_sma_de")
COUNTED = np.array([name.startswith(OF_THE_VOICE) and "_de_" in name for name in opensmile_names()])


def music(duration_s: float) -> FloatArray:
    return checkpoints.music(duration_s)[:, 0]


@pytest.fixture(scope="module")
def song(deam_root: Path) -> FloatArray:
    """23 s of real music, three songs cut to one another."""
    paths = sorted((deam_root / "audio_long").glob("*.ogg"))[:3]
    n_samples = round(23 / 3 * ENGINE_RATE_HZ)
    return np.concatenate([soundfile.read(path, n_samples, dtype="float32", always_2d=True)[0][:, 0] for path in paths])


def frames_of(
    engine: FeatureEngine | RenewingEngine, samples: FloatArray, block_samples: int = 4_410
) -> list[FeatureFrame]:
    frames = []
    for start in range(0, len(samples), block_samples):
        engine.write(samples[start : start + block_samples])
        frames += engine.frames()
    return frames + engine.finish()


def values_of(frames: list[FeatureFrame]) -> FloatArray:
    return np.stack([frame.values for frame in frames])


def engines() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "opensmile"]


# --- the same frames


def extracted(samples: FloatArray, renewal: RenewalSettings) -> tuple[list[FeatureFrame], int]:
    """The model's input, descriptors included, and the number of renewals."""
    extractor = FrameExtractor(ExtractionSettings(), ENGINE_RATE_HZ, renewal)
    frames = extractor.step(samples)
    frames += extractor.flush()
    return frames, extractor.n_renewals


@pytest.fixture(scope="module")
def renewed(song: FloatArray) -> list[FeatureFrame]:
    """Of engines that begin after 8 and 16 s and take over 5 s later."""
    frames, n_renewals = extracted(song, SOON)
    assert n_renewals == 2
    return frames


@pytest.fixture(scope="module")
def never_renewed(song: FloatArray) -> list[FeatureFrame]:
    frames, n_renewals = extracted(song, RenewalSettings())
    assert n_renewals == 0
    return frames


def test_a_renewal_loses_no_frame_and_keeps_the_values(
    renewed: list[FeatureFrame], never_renewed: list[FeatureFrame]
) -> None:
    """To the bit, except for features that openSMILE divides by the age of the engine: larger in the younger one."""
    assert [frame.index for frame in renewed] == list(range(len(never_renewed)))
    assert [(frame.start_s, frame.end_s) for frame in renewed] == [
        (k * HOP_S, k * HOP_S + FRAME_S) for k in range(len(renewed))
    ]
    values, expected = values_of(renewed), values_of(never_renewed)
    counted = np.pad(COUNTED, (0, expected.shape[1] - len(COUNTED)))
    assert counted.sum() == 12
    np.testing.assert_array_equal(values[:, ~counted], expected[:, ~counted])
    np.testing.assert_array_equal(values[:FIRST_RENEWED], expected[:FIRST_RENEWED])
    deviations = np.flatnonzero(counted)[::2]
    young, old = values[FIRST_RENEWED:, deviations], expected[FIRST_RENEWED:, deviations]
    assert (young > old)[old > 0.0].all()
    assert (old > 0.0).any(axis=0).all()


@pytest.mark.slow
def test_renewals_depend_on_the_number_of_samples_only() -> None:
    samples = music(6.3)
    whole = values_of(frames_of(RenewingEngine(VERY_SOON), samples, len(samples)))
    for block_samples in (441, 44_099):
        again = values_of(frames_of(RenewingEngine(VERY_SOON), samples, block_samples))
        np.testing.assert_array_equal(again, whole, strict=True)
    never_renewed = values_of(frames_of(FeatureEngine(), samples))
    assert len(never_renewed) == len(whole)
    different = np.nonzero((whole != never_renewed).any(axis=1))[0]
    assert different[0] == round(2.5 / HOP_S)


@pytest.mark.slow
def test_the_streaming_contract_holds_across_renewals() -> None:
    checkpoint = small_checkpoint("live")
    verify_contract(
        lambda: SessionStage(Session(checkpoint, LevelMeterSettings(), renewal=VERY_SOON), 48_000),
        np.stack([music(5.6), -0.5 * music(5.6)], axis=1),
        one_by_one=False,
        chunks=(7_919, 1, 48_000),
    )


@settings(max_examples=12)
@given(n_samples=st.integers(1, 6 * ENGINE_RATE_HZ))
def test_a_stream_may_end_at_any_moment(n_samples: int) -> None:
    samples = music(6.0)[:n_samples]
    before = len(engines())
    renewing = RenewingEngine(VERY_SOON)
    frames = frames_of(renewing, samples, 10_000)
    assert [frame.index for frame in frames] == list(range(len(frames_of(FeatureEngine(), samples))))
    assert renewing.finish() == []
    assert len(engines()) == before


# --- the predictions


def test_predictions_hardly_change(renewed: list[FeatureFrame], never_renewed: list[FeatureFrame]) -> None:
    """The model's memory stays. With the default warm-up of two minutes the difference is far smaller
    (results/renewal.md); from one prediction to the next, this model moves by .016 in the mean."""
    predictors = [Predictor(load_checkpoint(default_checkpoint_path())) for _ in range(2)]
    found, expected = (
        [predictor.step(frame) for frame in frames]
        for predictor, frames in zip(predictors, (renewed, never_renewed), strict=True)
    )
    assert [one.time_s for one in found] == [one.time_s for one in expected]
    difference = np.abs([(a.valence - b.valence, a.arousal - b.arousal) for a, b in zip(found, expected, strict=True)])
    assert not difference[:FIRST_RENEWED].any()
    assert 0.0 < difference.max() < LARGEST_DIFFERENCE


# --- threads


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline_s, "it never happens"
        time.sleep(0.005)


def next_frames(engine: RenewingEngine, n_frames: int) -> list[FeatureFrame]:
    """Waits until there are this many."""
    frames: list[FeatureFrame] = []

    def are_there() -> bool:
        engine.wait(0.1)
        frames.extend(engine.frames())
        return len(frames) >= n_frames

    wait_until(are_there)
    return frames


def test_two_engines_run_while_one_warms_up_and_then_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the old engine's thread is not joined while it runs."""
    before = len(engines())
    closed_running: list[bool] = []
    close = FeatureEngine.close

    def noting_close(engine: FeatureEngine) -> None:
        closed_running.append(not engine.has_ended)
        close(engine)

    monkeypatch.setattr(FeatureEngine, "close", noting_close)
    renewing = RenewingEngine(SOON)
    samples = music(15.0)
    renewing.write(samples[: 8 * ENGINE_RATE_HZ - 1])
    assert len(engines()) == before + 1
    renewing.write(samples[8 * ENGINE_RATE_HZ - 1 : 12 * ENGINE_RATE_HZ])
    assert len(engines()) == before + 2
    renewing.write(samples[12 * ENGINE_RATE_HZ :])
    assert [frame.index for frame in next_frames(renewing, FIRST_RENEWED + 1)][:27] == list(range(27))
    assert renewing.n_renewals == 1

    def has_handed_over() -> bool:
        renewing.frames()
        return len(engines()) == before + 1 and closed_running != []

    wait_until(has_handed_over)
    assert closed_running == [False]
    renewing.close()
    assert len(engines()) == before


@pytest.mark.parametrize("processed_s", [7.0, 10.0, 13.6])
def test_closing_at_any_moment_leaves_no_engine(processed_s: float) -> None:
    before = len(engines())
    renewing = RenewingEngine(SOON)
    renewing.write(music(processed_s))
    renewing.close()
    renewing.close()
    assert len(engines()) == before
    for n_samples in (0, 4_410):
        with pytest.raises(ValueError, match="stream has ended"):
            renewing.write(np.zeros(n_samples, dtype=np.float32))


def test_an_engine_can_be_asked_to_end_again_and_again() -> None:
    engine = FeatureEngine()
    engine.write(music(3.0))
    engine.end()
    engine.end()
    wait_until(lambda: engine.has_ended)
    engine.close()
    engine.end()


# --- settings


@pytest.mark.parametrize(
    ("period_s", "warm_up_s", "reason"),
    [
        *((period_s, 1.0, "period_s must be a positive multiple") for period_s in (0.0, 10.25, math.nan, math.inf)),
        (10.0, 0.3, "warm_up_s must be a positive multiple"),
        (6.0, 5.0, r"at least 1\.5 s longer than the warm-up of 5\.0 s, not 6\.0 s"),
        (46_800.0, 60.0, "at most 46800 s"),
    ],
)
def test_settings_that_cannot_work_are_refused(period_s: float, warm_up_s: float, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        RenewalSettings(period_s, warm_up_s)
