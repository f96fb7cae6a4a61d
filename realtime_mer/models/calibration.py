"""How far a prediction may be off: what `python -m train calibrate` found of a model, frozen with it."""

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

    confidence: 1 - (valence_sd² + arousal_sd²) / variance of the labels, cut off at 0: 0 is no better than always
    saying the average song, 1 would be no error at all.
    """

    valence_sd: float
    arousal_sd: float
    confidence: float


@dataclass(frozen=True, slots=True)
class ErrorVariance:
    """The variance of a dimension's error: settled + early · exp(-heard_s / decay_s).

    heard_s: how long the model has heard since it began, at the end of the frame that it speaks of.

    Raises TypeError for what is no number, ValueError for one that cannot be.
    """

    settled: float
    early: float
    decay_s: float

    def __post_init__(self) -> None:
        _check("settled", self.settled, _MIN_VARIANCE, _MAX_ERROR_VARIANCE)
        _check("early", self.early, 0.0, _MAX_ERROR_VARIANCE)
        _check("decay_s", self.decay_s, 1e-3, _MAX_DECAY_S)

    def at(self, heard_s: float) -> float:
        """The variance after that much sound."""
        return self.settled + self.early * math.exp(-heard_s / self.decay_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a model's predictions were off on songs that it had not been trained on.

    valence, arousal: their errors' variance. label_variance: of those songs' labels, both dimensions together.

    Raises TypeError or ValueError for a label_variance that cannot be.
    """

    valence: ErrorVariance
    arousal: ErrorVariance
    label_variance: float

    def __post_init__(self) -> None:
        _check("label_variance", self.label_variance, _MIN_VARIANCE, _MAX_LABEL_VARIANCE)

    def after(self, heard_s: float) -> Uncertainty:
        """What to expect of a prediction after that much sound (0 or more) since the model began."""
        valence, arousal = self.valence.at(heard_s), self.arousal.at(heard_s)
        confidence = max(0.0, 1.0 - (valence + arousal) / self.label_variance)
        return Uncertainty(math.sqrt(valence), math.sqrt(arousal), confidence)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """What `to_dict` gave. Raises TypeError or ValueError for anything else."""
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
