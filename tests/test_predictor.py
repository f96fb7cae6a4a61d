"""From frames to predictions: the model's own outputs, with its state carried on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from checkpoints import CALIBRATION, small_checkpoint
from threadpoolctl import threadpool_info, threadpool_limits

from realtime_mer.errors import CheckpointError
from realtime_mer.features.extraction import FrameExtractor, extract_file, frame_names
from realtime_mer.live.session import predict_file
from realtime_mer.models.predictor import Predictor
from realtime_mer.types import FeatureFrame, PredictionError
from train.checkpoints import build_model
from train.models import MODELS


@pytest.fixture(scope="module")
def clip(deam_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of a song, without the silence that it begins with, as a file at 44.1 kHz."""
    path = deam_root / "golden" / "829.wav"
    samples, rate_hz = soundfile.read(path, dtype="float32", start=4_410, frames=3 * 44_100)
    path = tmp_path_factory.mktemp("clip") / "829.wav"
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return path


@pytest.mark.parametrize("model_name", MODELS)
def test_the_predictions_are_the_models(model_name: str, clip: Path) -> None:
    """Against the model run over the whole sequence, with the features picked by their names here."""
    checkpoint = small_checkpoint(model_name)
    starts_s, values = extract_file(clip, checkpoint.extraction)
    extracted = frame_names(checkpoint.extraction)
    chosen = np.stack([values[:, extracted.index(name)] for name in checkpoint.feature_names], axis=1)
    with torch.no_grad():
        expected = build_model(checkpoint).forward(torch.from_numpy(checkpoint.scaler.transform(chosen))[None])[0]
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


def test_blas_is_held_to_one_thread() -> None:
    threadpool_limits(2, user_api="blas")
    checkpoint = small_checkpoint("mlp")
    FrameExtractor(checkpoint.extraction, 44_100).close()
    blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    assert set(blas) == {1}


def test_a_model_that_overflows_is_not_believed() -> None:
    checkpoint = small_checkpoint("mlp", level=False, descriptors=False, all_features=True)
    alternating = {
        name: np.where(np.indices(array.shape).sum(axis=0) % 2, 3e38, -3e38).astype(np.float32)
        for name, array in checkpoint.weights.items()
    }
    predictor = Predictor(replace(checkpoint, weights=alternating))
    values = np.random.default_rng(0).normal(size=260).astype(np.float32)
    with pytest.raises(PredictionError, match=r"The model's output at 1\.0 s is valence nan"):
        predictor.step(FeatureFrame(0, 0.0, 1.0, values))


def test_a_feature_that_is_no_number_is_named() -> None:
    checkpoint = small_checkpoint("mlp", level=False, descriptors=False, all_features=True)
    with pytest.raises(ValueError, match="F0final_sma_stddev"):
        Predictor(checkpoint).step(FeatureFrame(0, 0.0, 1.0, np.full(260, np.nan, dtype=np.float32)))


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(CheckpointError, match="weights do not fit"):
        Predictor(replace(small_checkpoint("mlp"), weights={}))
