"""Which file holds the model. A module of its own: it is needed before the first sound, and the features are not."""

from __future__ import annotations

from pathlib import Path

from realtime_mer.config import ModelSettings


def default_checkpoint_path() -> Path:
    """The model that runs unless another is chosen."""
    return chosen_checkpoint_path(ModelSettings())


def chosen_checkpoint_path(settings: ModelSettings) -> Path:
    """The file of the chosen model."""
    if settings.checkpoint is not None:
        return Path(settings.checkpoint)
    return Path(__file__).with_name(f"{settings.name}.safetensors")
