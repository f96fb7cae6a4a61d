"""The feature scaler: fitted once on training frames, frozen with the model, the same arithmetic everywhere.

DEAM's features span fourteen orders of magnitude. Scaling brings them to one scale and bounds them: live, a feature can
lie far outside its training range and must not drown the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast, get_args

import numpy as np
import numpy.typing as npt

from realtime_mer.features.engine import FRAME_S, HOP_S
from realtime_mer.types import FloatArray

Float64Array = npt.NDArray[np.float64]
ScalerKind = Literal["min_max", "signed_log_standard"]

# The largest magnitude that a scaled feature can have: training ranges for min_max, standard deviations for
# signed_log_standard. The published min-max scaling has no bound, but held-out DEAM songs reach at most 4 (300 random
# splits), so this one has no effect in the published protocol.
BOUND = 10.0


@dataclass(frozen=True, eq=False)
class Scaler:
    """Brings each feature to a common scale: bounded((g(x) - offset) / spread), feature by feature.

    kind: "min_max": g(x) = x; the training frames span [0, 1].
        "signed_log_standard": g(x) = sign(x) log(1 + |x| / log_scale), log_scale being the median of the feature's
        absolute training values that are not 0; the training frames have mean 0 and standard deviation 1.
    names: the features' names, in order.
    offset, spread, log_scale: shape (n_features,), float64; a spread of 0 marks a feature that was constant in
        training, which always becomes 0. log_scale is None for min_max.

    Scaled values lie within ±BOUND. Raises ValueError if the arrays do not fit the kind and the names.
    """

    kind: ScalerKind
    names: tuple[str, ...]
    offset: Float64Array
    spread: Float64Array
    log_scale: Float64Array | None = None

    rate_hz: ClassVar[float] = 1.0 / HOP_S
    latency_s: ClassVar[float] = 0.0
    receptive_field_s: ClassVar[float] = FRAME_S

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        arrays = self.arrays()
        if ("log_scale" in arrays) != (self.kind == "signed_log_standard"):
            raise ValueError("A scaler has log_scale if, and only if, its kind is signed_log_standard.")
        for field, array in arrays.items():
            own = np.array(array, dtype=np.float64)
            if own.shape != (len(self.names),):
                raise ValueError(
                    f"The scaler's {field} must have one value for each of its {len(self.names)} features."
                )
            smallest = {"offset": -np.inf, "spread": 0.0, "log_scale": np.nextafter(0.0, 1.0)}[field]
            bad = ~np.isfinite(own) | (own < smallest)
            if bad.any():
                first = int(np.argmax(bad))
                raise ValueError(f"The scaler's {field} for feature {self.names[first]!r} cannot be {own[first]}.")
            own.setflags(write=False)
            object.__setattr__(self, field, own)

    @classmethod
    def fit(cls, kind: ScalerKind, values: npt.ArrayLike, names: Sequence[str]) -> Self:
        """The scaler for these training frames.

        values: shape (n_frames, n_features), at least one frame; names: the n_features features' names.
        Raises ValueError for an unknown kind, shapes that do not fit, or a NaN or infinite value (naming its feature).
        """
        _check_kind(kind)
        frames = np.asarray(values, dtype=np.float64)
        if frames.ndim != 2 or len(frames) == 0:
            raise ValueError(f"Expected frames of shape (n_frames, n_features), got {frames.shape}.")
        _check_features(frames, tuple(names))
        lowest, highest = frames.min(axis=0), frames.max(axis=0)
        if kind == "min_max":
            return cls(kind, tuple(names), offset=lowest, spread=highest - lowest)
        log_scale = np.array([_typical_magnitude(column) for column in frames.T])
        logs = _signed_log(frames, log_scale)
        # A constant feature's computed deviation can be a rounding error instead of 0.
        spread = np.where(highest > lowest, logs.std(axis=0), 0.0)
        return cls(kind, tuple(names), offset=logs.mean(axis=0), spread=spread, log_scale=log_scale)

    def transform(self, values: npt.ArrayLike) -> FloatArray:
        """values: features as extracted, shape (..., n_features). Returns float32 of the same shape, within ±BOUND.

        Raises ValueError if the number of features does not fit, or for a NaN or infinite value, naming the first such
        feature.
        """
        frames = np.asarray(values, dtype=np.float64)
        _check_features(frames, self.names)
        # A huge value may overflow here; the bound brings it back.
        with np.errstate(over="ignore"):
            if self.log_scale is not None:
                frames = _signed_log(frames, self.log_scale)
            scaled = np.divide(frames - self.offset, self.spread, out=np.zeros_like(frames), where=self.spread > 0)
        return np.clip(scaled, -BOUND, BOUND).astype(np.float32)

    def arrays(self) -> dict[str, Float64Array]:
        """The fitted numbers by field name, for a checkpoint; with `kind` and `names` they are the whole scaler."""
        arrays = {"offset": self.offset, "spread": self.spread}
        if self.log_scale is not None:
            arrays["log_scale"] = self.log_scale
        return arrays

    @classmethod
    def from_arrays(cls, kind: str, names: Sequence[str], arrays: Mapping[str, npt.ArrayLike]) -> Self:
        """The scaler with these `arrays()`. Raises ValueError if they are not a scaler's."""
        _check_kind(kind)
        expected = {"offset", "spread"} | ({"log_scale"} if kind == "signed_log_standard" else set())
        if set(arrays) != expected:
            raise ValueError(f"A {kind} scaler: expected {sorted(expected)}, got {sorted(arrays)}.")
        numbers = {field: np.asarray(array, dtype=np.float64) for field, array in arrays.items()}
        return cls(cast(ScalerKind, kind), tuple(names), **numbers)


def _check_kind(kind: str) -> None:
    if kind not in get_args(ScalerKind):
        raise ValueError(f"There is no scaler {kind!r}; choose one of {', '.join(get_args(ScalerKind))}.")


def _check_features(values: Float64Array, names: tuple[str, ...]) -> None:
    if values.ndim == 0 or values.shape[-1] != len(names):
        raise ValueError(f"Expected {len(names)} features per frame, got values of shape {values.shape}.")
    finite = np.isfinite(values)
    if not finite.all():
        bad = ~finite.reshape(-1, len(names)).all(axis=0)
        first = int(np.argmax(bad))
        value = values[..., first][~finite[..., first]].flat[0]
        raise ValueError(
            f"Feature {names[first]!r} (number {first + 1} of {len(names)}) is {value}; features must be finite. "
            "Look for broken audio or a broken feature file."
        )


def _typical_magnitude(column: Float64Array) -> float:
    """The median absolute value of the non-zero values; 1 if all are 0."""
    magnitudes = np.abs(column[column != 0])
    return float(np.median(magnitudes)) if len(magnitudes) else 1.0


def _signed_log(values: Float64Array, log_scale: Float64Array) -> Float64Array:
    logs: Float64Array = np.sign(values) * np.log1p(np.abs(values) / log_scale)
    return logs
