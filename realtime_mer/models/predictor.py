"""From frames of features to valence and arousal, the same live, for a file and in training."""

from __future__ import annotations

import math

import numpy as np

from realtime_mer.features.descriptors.responsive import AGE_NAME
from realtime_mer.features.extraction import frame_names
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.live import LiveState
from realtime_mer.types import FeatureFrame, Prediction, PredictionError


class Predictor:
    """Frames in, one prediction each: selects the model's features, scales them and runs the model, carrying its state.

    If the checkpoint holds a calibration, each prediction comes with its expected error. Start a new stream with a new
    Predictor.

    Raises CheckpointError if the checkpoint's parts do not fit together.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        position = {name: i for i, name in enumerate(frame_names(checkpoint.extraction))}
        self._columns = np.array([position[name] for name in checkpoint.feature_names])
        self._age_column = position.get(AGE_NAME)
        self._scaler = checkpoint.scaler
        self._architecture = checkpoint.architecture()
        self._weights = checkpoint.weights
        self._state = self._architecture.initial_state()
        self._calibration = checkpoint.calibration
        self._ranks = checkpoint.ranks

    def step(self, frame: FeatureFrame) -> Prediction:
        """The prediction for the stream's next frame, as a FrameExtractor with the checkpoint's settings returns it.

        Raises ValueError if a feature is NaN or infinite, PredictionError if the model's output is.
        """
        scaled = self._scaler.transform(frame.values[self._columns])
        # What overflows is found below.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs, self._state = self._architecture.step(self._weights, scaled, self._state)
        valence, arousal = outputs.tolist()
        if not (math.isfinite(valence) and math.isfinite(arousal)):
            raise PredictionError(f"The model's output at {frame.end_s} s is valence {valence}, arousal {arousal}.")
        attention = tuple(self._state.attention.tolist()) if isinstance(self._state, LiveState) else None
        ranks = (None, None) if self._ranks is None else self._ranks.of(valence, arousal)
        if self._calibration is None:
            return Prediction(frame.end_s, valence, arousal, None, None, None, attention, frame.change, *ranks)
        # What the model knows begins with the music that its features cover.
        known_s = frame.end_s if self._age_column is None else float(frame.values[self._age_column])
        uncertainty = self._calibration.after(known_s)
        return Prediction(frame.end_s, valence, arousal, *uncertainty, attention, frame.change, *ranks)
