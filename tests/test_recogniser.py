"""The live path as a whole: however the sound is cut, and from a file or a stream, the same predictions."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from checkpoints import CALIBRATION, music, small_checkpoint
from contract import verify_contract
from threadpoolctl import threadpool_info, threadpool_limits

from realtime_mer.features.extraction import extract_file, frame_names
from realtime_mer.live.session import predict_file
from realtime_mer.models.architectures import MODELS
from realtime_mer.models.checkpoint import Checkpoint, CheckpointError
from realtime_mer.models.recogniser import Predictor, Recogniser
from realtime_mer.sources.reading import AudioFileError
from realtime_mer.types import FeatureFrame, FloatArray, Prediction, PredictionError


@pytest.fixture(scope="module")
def clip(deam_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a song, without the silence that it begins with, as a file at 44.1 kHz."""
    path = deam_root / "golden" / "829.wav"
    samples, rate_hz = soundfile.read(path, dtype="float32", start=4_410, frames=3 * 44_100)
    path = tmp_path_factory.mktemp("clip") / "829.wav"
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


def recognise(checkpoint: Checkpoint, samples: FloatArray, rate_hz: int, block_samples: int) -> list[Prediction]:
    recogniser = Recogniser(checkpoint, rate_hz)
    predictions = []
    for start in range(0, len(samples), block_samples):
        predictions += recogniser.step(samples[start : start + block_samples])
    return predictions + recogniser.flush()


def test_the_streaming_contract_sample_by_sample() -> None:
    checkpoint = small_checkpoint()
    verify_contract(lambda: Recogniser(checkpoint, 8000), music(2.1, 8000, 2))


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(44_100, 1), (48_000, 2)])
def test_the_streaming_contract_in_ragged_chunks(rate_hz: int, n_channels: int) -> None:
    checkpoint = small_checkpoint()
    verify_contract(lambda: Recogniser(checkpoint, rate_hz), music(2.1, rate_hz, n_channels), one_by_one=False)


def test_real_music_in_any_blocks(clip: Path) -> None:
    checkpoint = small_checkpoint()
    samples, rate_hz = soundfile.read(clip, dtype="float32", always_2d=True)
    whole = recognise(checkpoint, samples, rate_hz, len(samples))
    assert [prediction.time_s for prediction in whole] == [1.0 + 0.5 * k for k in range(4)]
    assert len({prediction.valence for prediction in whole}) == len(whole)
    for block_samples in (441, 1024, 4410, 7919):
        assert recognise(checkpoint, samples, rate_hz, block_samples) == whole


def test_a_file_is_predicted_as_its_samples_are(clip: Path) -> None:
    checkpoint = small_checkpoint()
    samples, rate_hz = soundfile.read(clip, dtype="float32")
    assert predict_file(clip, checkpoint) == recognise(checkpoint, samples, rate_hz, 4410)


@pytest.mark.parametrize("model_name", MODELS)
def test_the_predictions_are_the_models(model_name: str, clip: Path) -> None:
    """Against the model run over the whole sequence, with the features picked by their names here."""
    checkpoint = small_checkpoint(model_name)
    starts_s, values = extract_file(clip, checkpoint.extraction)
    extracted = frame_names(checkpoint.extraction)
    chosen = np.stack([values[:, extracted.index(name)] for name in checkpoint.feature_names], axis=1)
    with torch.no_grad():
        expected = checkpoint.build_model().forward(torch.from_numpy(checkpoint.scaler.transform(chosen))[None])[0]
    predictions = predict_file(clip, checkpoint)
    np.testing.assert_allclose([[p.valence, p.arousal] for p in predictions], expected.numpy(), rtol=0.0, atol=1e-6)
    assert [prediction.time_s for prediction in predictions] == list(starts_s + 1.0)


def test_a_predictor_remembers_and_a_new_one_does_not() -> None:
    checkpoint = small_checkpoint(level=False, descriptors=False, all_features=True)
    predictor = Predictor(checkpoint)
    noise = np.random.default_rng(0).normal(size=(3, 260)).astype(np.float32)
    frames = [FeatureFrame(i, 0.5 * i, 0.5 * i + 1.0, values) for i, values in enumerate(noise)]
    first = [predictor.step(frame) for frame in frames]
    assert predictor.step(frames[0]).valence != first[0].valence
    again = Predictor(checkpoint)
    assert [again.step(frame) for frame in frames] == first


@pytest.mark.parametrize("model_name", MODELS)
def test_a_calibrated_checkpoint_says_how_far_it_may_be_off(model_name: str) -> None:
    """By how long the predictor has heard; what it predicts is the same to the last bit."""
    plain = small_checkpoint(model_name, level=False, descriptors=False, all_features=True)
    calibrated = small_checkpoint(model_name, level=False, descriptors=False, all_features=True, calibrated=True)
    noise = np.random.default_rng(0).normal(size=(5, 260)).astype(np.float32)
    frames = [FeatureFrame(i, 0.5 * i, 0.5 * i + 1.0, values) for i, values in enumerate(noise)]
    one, other = Predictor(plain), Predictor(calibrated)
    for frame in frames:
        before, after = one.step(frame), other.step(frame)
        assert (before.valence_sd, before.arousal_sd, before.confidence) == (None, None, None)
        assert (after.time_s, after.valence, after.arousal) == (before.time_s, before.valence, before.arousal)
        assert (after.valence_sd, after.arousal_sd, after.confidence) == CALIBRATION.after(frame.end_s)


def test_the_uncertainty_keeps_the_streaming_contract() -> None:
    checkpoint = small_checkpoint("live", calibrated=True)
    verify_contract(lambda: Recogniser(checkpoint, 44_100), music(2.1), one_by_one=False)
    said = recognise(checkpoint, music(2.1), 44_100, 4_410)
    assert [(p.valence_sd, p.arousal_sd, p.confidence) for p in said] == [
        CALIBRATION.after(heard_s) for heard_s in (1.0, 1.5, 2.0)
    ]


def test_predictions_come_while_the_stream_runs() -> None:
    """`wait` and an empty `step` are enough to get what is ready, without more sound and without `flush`."""
    recogniser = Recogniser(small_checkpoint("mlp"), 44_100)
    predictions = recogniser.step(music(4.0))
    deadline = time.monotonic() + 60.0
    while not predictions and time.monotonic() < deadline:
        recogniser.wait(1.0)
        predictions += recogniser.step(np.empty((0, 1), dtype=np.float32))
    recogniser.close()
    assert predictions[0].time_s == 1.0


def test_closing_ends_its_thread_and_can_be_repeated() -> None:
    before = threading.active_count()
    for _ in range(3):
        recogniser = Recogniser(small_checkpoint("mlp"), 48_000)
        recogniser.step(music(1.5, 48_000))
        recogniser.close()
        recogniser.close()
    assert threading.active_count() == before


def test_torch_and_blas_are_held_to_one_thread() -> None:
    torch.set_num_threads(2)
    threadpool_limits(2, user_api="blas")
    Recogniser(small_checkpoint("mlp"), 44_100).close()
    assert torch.get_num_threads() == 1
    blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    assert set(blas) == {1}


def test_too_short_empty_and_broken_files(tmp_path: Path) -> None:
    checkpoint = small_checkpoint("mlp")
    soundfile.write(tmp_path / "short.wav", music(1.0), 44_100)
    soundfile.write(tmp_path / "empty.wav", np.empty((0, 1)), 44_100)
    for name in ("short.wav", "empty.wav"):
        with pytest.raises(AudioFileError, match=rf"{name} is too short: the first prediction needs 1\.05 s of audio"):
            predict_file(tmp_path / name, checkpoint)
    soundfile.write(tmp_path / "enough.wav", music(1.06), 44_100)
    assert [prediction.time_s for prediction in predict_file(tmp_path / "enough.wav", checkpoint)] == [1.0]
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "nowhere.wav"):
        with pytest.raises(AudioFileError, match=f"{name} cannot be read as audio"):
            predict_file(tmp_path / name, checkpoint)


def test_a_model_that_overflows_is_not_believed() -> None:
    checkpoint = small_checkpoint("mlp", level=False, descriptors=False, all_features=True)
    alternating = {
        name: np.where(np.indices(array.shape).sum(axis=0) % 2, 3e38, -3e38).astype(np.float32)
        for name, array in checkpoint.weights.items()
    }
    predictor = Predictor(replace(checkpoint, weights=alternating))
    values = np.random.default_rng(0).normal(size=260).astype(np.float32)
    with pytest.raises(PredictionError, match=r"The model's answer at 1\.0 s is valence nan"):
        predictor.step(FeatureFrame(0, 0.0, 1.0, values))


def test_a_feature_that_is_no_number_is_named() -> None:
    checkpoint = small_checkpoint("mlp", level=False, descriptors=False, all_features=True)
    with pytest.raises(ValueError, match="F0final_sma_stddev"):
        Predictor(checkpoint).step(FeatureFrame(0, 0.0, 1.0, np.full(260, np.nan, dtype=np.float32)))


def test_parts_that_do_not_fit() -> None:
    checkpoint = small_checkpoint("mlp")
    with pytest.raises(CheckpointError, match="weights do not fit"):
        Recogniser(replace(checkpoint, weights={}), 44_100)
    with pytest.raises(ValueError, match="rates must be positive"):
        Recogniser(checkpoint, -44_100)
