"""Where a prediction lies among predictions for songs: the share of songs below, 0 to 1, uniformly spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_FEWEST, _MOST = 2, 10_001


@dataclass(frozen=True, slots=True)
class Ranks:
    """valence, arousal: quantiles of predictions for songs the model was not trained on, at equal steps from 0 to 1.

    Raises TypeError or ValueError where they are not finite numbers that never fall.
    """

    valence: tuple[float, ...]
    arousal: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("valence", "arousal"):
            quantiles = getattr(self, name)
            if not all(isinstance(value, float) for value in quantiles):
                raise TypeError(f"The quantiles of {name} must be numbers.")
            if not _FEWEST <= len(quantiles) <= _MOST:
                raise ValueError(f"There must be {_FEWEST} to {_MOST} quantiles of {name}, not {len(quantiles)}.")
            if not all(map(math.isfinite, quantiles)) or any(np.diff(quantiles) < 0):
                raise ValueError(f"The quantiles of {name} must be finite and never fall.")

    def of(self, valence: float, arousal: float) -> tuple[float, float]:
        """The share of songs below a prediction, for valence and for arousal."""
        return _share(valence, self.valence), _share(arousal, self.arousal)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return {name: list(quantiles) for name, quantiles in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Ranks:
        """What `to_dict` gave. Raises TypeError or ValueError for anything else."""
        if set(values) != {"valence", "arousal"} or not all(isinstance(v, list) for v in values.values()):
            raise ValueError("Ranks are two lists of quantiles, valence and arousal.")
        return cls(tuple(values["valence"]), tuple(values["arousal"]))


def _share(value: float, quantiles: tuple[float, ...]) -> float:
    return float(np.interp(value, quantiles, np.linspace(0.0, 1.0, len(quantiles))))
