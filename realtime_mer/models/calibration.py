"""The expected error of a prediction, as `python -m train calibrate` found it; it belongs to the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

# Errors lie in [-2, 2], labels in [-1, 1]: no variance of an error, or of both dimensions' labels, is larger.
_MAX_ERROR_VARIANCE = 4.0
_MAX_LABEL_VARIANCE = 2.0
# Below this an error would be a hundred times smaller than listeners' reports are rounded.
_MIN_VARIANCE = 1e-10
_MAX_DECAY_S = 3600.0


class Uncertainty(NamedTuple):
    """valence_sd, arousal_sd: expected standard deviation of the error, > 0.

    confidence: 1 - (valence_sd² + arousal_sd²) / variance of the labels, at least 0: 0 is no better than always
    predicting the average song, 1 would be no error.
    """

    valence_sd: float
    arousal_sd: float
    confidence: float


@dataclass(frozen=True, slots=True)
class ErrorVariance:
    """The variance of a dimension's error: settled + early · exp(-sound_s / decay_s).

    sound_s: how much sound the model has processed since it began, up to the end of the predicted frame.

    Raises TypeError for a value that is not a number, ValueError for one that is out of range.
    """

    settled: float
    early: float
    decay_s: float

    def __post_init__(self) -> None:
        _check("settled", self.settled, _MIN_VARIANCE, _MAX_ERROR_VARIANCE)
        _check("early", self.early, 0.0, _MAX_ERROR_VARIANCE)
        _check("decay_s", self.decay_s, 1e-3, _MAX_DECAY_S)

    def at(self, sound_s: float) -> float:
        """The variance after that much sound."""
        return self.settled + self.early * math.exp(-sound_s / self.decay_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The errors of a model on songs that it was not trained on.

    valence, arousal: their errors' variance. label_variance: of those songs' labels, both dimensions together.

    Raises TypeError or ValueError for a label_variance that is not a number or out of range.
    """

    valence: ErrorVariance
    arousal: ErrorVariance
    label_variance: float

    def __post_init__(self) -> None:
        _check("label_variance", self.label_variance, _MIN_VARIANCE, _MAX_LABEL_VARIANCE)

    def after(self, sound_s: float) -> Uncertainty:
        """The expected error of a prediction after that much sound since the model began, in seconds, at least 0."""
        valence, arousal = self.valence.at(sound_s), self.arousal.at(sound_s)
        confidence = max(0.0, 1.0 - (valence + arousal) / self.label_variance)
        return Uncertainty(math.sqrt(valence), math.sqrt(arousal), confidence)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The inverse of `to_dict`. Raises TypeError or ValueError for other values."""
        parts = dict(values)
        for dimension in ("valence", "arousal"):
            if dimension in parts:
                parts[dimension] = ErrorVariance(**parts[dimension])
        return cls(**parts)


def _check(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, not at {value!r:.20}.")
