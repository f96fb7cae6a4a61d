"""Small untrained checkpoints, and sound to use them on, for the tests of what comes after the features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save

from realtime_mer.features.extraction import ExtractionSettings, extract_stream, frame_names
from realtime_mer.models.calibration import Calibration, ErrorVariance
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.scaling import Scaler
from realtime_mer.types import AudioBlock, FloatArray
from train.checkpoints import checkpoint_of
from train.models import MODELS

# Models of this size are slower on several threads, by far on a busy machine.
torch.set_num_threads(1)

# No two numbers alike.
CALIBRATION = Calibration(ErrorVariance(0.03, 0.01, 3.0), ErrorVariance(0.02, 0.04, 1.5), 0.15)

Metadata = dict[str, Any]
Tensors = dict[str, npt.NDArray[Any]]


def music(duration_s: float, rate_hz: int = 44_100, n_channels: int = 1) -> FloatArray:
    """A tune with overtones that swells, over noise; shape (samples, channels), no two channels alike."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    pitch_hz = 220.0 * 2.0 ** (np.array([0, 4, 7, 12, 9, 5])[(time_s / 0.7).astype(int) % 6] / 12.0)
    phase = 2.0 * np.pi * np.cumsum(pitch_hz) / rate_hz
    tone = sum(np.sin(overtone * phase) / overtone for overtone in range(1, 5))
    noise = np.random.default_rng(0).normal(size=(len(time_s), n_channels))
    swelling = 0.05 + 0.1 * (1.0 - np.cos(2.0 * np.pi * time_s / 3.0))
    samples: FloatArray = ((swelling * tone)[:, np.newaxis] + 0.01 * noise).astype(np.float32)
    return samples


@cache
def small_checkpoint(
    model_name: str = "seq2seq_a",
    *,
    level: bool = True,
    descriptors: bool = True,
    all_features: bool = False,
    calibrated: bool = False,
) -> Checkpoint:
    """An untrained model behind a scaler fitted on five seconds of `music`.

    Unless it is to have all, its features are some of those extracted, from the last to the first: a pipeline that
    does not select and order them by name gives something else. calibrated: whether it holds CALIBRATION.
    """
    if calibrated:
        plain = small_checkpoint(model_name, level=level, descriptors=descriptors, all_features=all_features)
        return replace(plain, calibration=CALIBRATION)
    defaults = ExtractionSettings()
    extraction = ExtractionSettings(level=defaults.level if level else None, descriptors=descriptors)
    extracted = frame_names(extraction)
    columns = list(range(len(extracted))) if all_features else list(range(0, len(extracted), 5))[::-1]
    names = [extracted[column] for column in columns]
    frames = extract_stream(iter([AudioBlock(music(5.0), 0.0, 44_100)]), extraction)
    values = np.stack([frame.values for frame in frames])[:, columns]
    torch.manual_seed(1)
    return checkpoint_of(
        MODELS[model_name](n_features=len(names)),
        Scaler.fit("signed_log_standard", values, names),
        extraction,
        {"data": "a tune", "seeds": [1], "scores": {"valence": 0.25}},
    )


def rewrite(path: Path, change: Callable[[Metadata, Tensors], object]) -> None:
    """Changes a checkpoint file's metadata and tensors in place, past everything that checks them."""
    with safe_open(path, framework="np") as file:
        metadata = json.loads(file.metadata()["realtime_mer"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(metadata, tensors)
    path.write_bytes(save(tensors, {"realtime_mer": json.dumps(metadata)}))
