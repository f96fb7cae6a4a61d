"""A checkpoint of a model in torch, and the model in torch of a checkpoint."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from realtime_mer import __version__
from realtime_mer.errors import CheckpointError
from realtime_mer.features.extraction import ExtractionSettings
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.scaling import Scaler
from train.models import MODELS, StreamingModel


def library_versions() -> dict[str, str]:
    """The versions of the libraries that decide a model's numbers, as installed here."""
    versions = {"python": platform.python_version(), "realtime-mer": __version__}
    for library in ("torch", "numpy", "opensmile", "soxr"):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "unknown"
    return versions


def checkpoint_of(
    model: StreamingModel, scaler: Scaler, extraction: ExtractionSettings, training: dict[str, Any]
) -> Checkpoint:
    """The checkpoint of a trained model. Raises CheckpointError for a model that is not one of MODELS."""
    names = [name for name, model_type in MODELS.items() if type(model) is model_type]
    if not names:
        raise CheckpointError(f"{type(model).__name__} is not one of the models {', '.join(MODELS)}.")
    weights = {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}
    arguments = asdict(model.architecture)
    return Checkpoint(names[0], arguments, weights, scaler, extraction, training, library_versions())


def build_model(checkpoint: Checkpoint) -> StreamingModel:
    """The checkpoint's model in torch, in evaluation mode. Raises CheckpointError as Checkpoint.architecture does."""
    model = MODELS[checkpoint.model_name](**asdict(checkpoint.architecture()))
    model.load_state_dict({name: torch.tensor(array) for name, array in checkpoint.weights.items()})
    return model.eval()
