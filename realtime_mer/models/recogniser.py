"""From sound to valence and arousal, the same on stage and for a file: extract, scale, predict."""

from __future__ import annotations

import math

import numpy as np
import torch

from realtime_mer.features.engine import HOP_S
from realtime_mer.features.extraction import FrameExtractor, frame_names
from realtime_mer.features.renewal import RenewalSettings
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.live import LiveState
from realtime_mer.types import FeatureFrame, FloatArray, Prediction, PredictionError


class Predictor:
    """Frames in, one prediction each: selects the model's features, scales them, and carries the model's state on.
    How far the prediction may be off comes with it where the checkpoint holds a calibration.

    A reset is a new predictor. Holds torch to one thread in the whole process.

    Raises CheckpointError where the checkpoint's parts do not fit together.
    """

    rate_hz = 1.0 / HOP_S

    def __init__(self, checkpoint: Checkpoint) -> None:
        # A step is so small that more threads only wait for one another.
        torch.set_num_threads(1)
        position = {name: i for i, name in enumerate(frame_names(checkpoint.extraction))}
        self._columns = np.array([position[name] for name in checkpoint.feature_names])
        self._scaler = checkpoint.scaler
        self._model = checkpoint.build_model()
        self._state = self._model.initial_state(1)
        self._calibration = checkpoint.calibration
        self.latency_s = self._model.latency_s
        self.receptive_field_s = self._model.receptive_field_s

    def step(self, frame: FeatureFrame) -> Prediction:
        """frame: as a FrameExtractor with the checkpoint's settings gives it; the stream's next.

        Raises ValueError for a feature that is NaN or infinite, PredictionError where the model answers so.
        """
        scaled = self._scaler.transform(frame.values[self._columns])
        with torch.inference_mode():
            outputs, self._state = self._model.step(torch.from_numpy(scaled)[None], self._state)
        valence, arousal = outputs[0].tolist()
        if not (math.isfinite(valence) and math.isfinite(arousal)):
            raise PredictionError(f"The model's answer at {frame.end_s} s is valence {valence}, arousal {arousal}.")
        attention = tuple(self._state.attention[0].tolist()) if isinstance(self._state, LiveState) else None
        if self._calibration is None:
            return Prediction(frame.end_s, valence, arousal, attention=attention)
        return Prediction(frame.end_s, valence, arousal, *self._calibration.after(frame.end_s), attention)


class Recogniser:
    """The whole live path: blocks of any size and channel count in, predictions out, under the streaming contract.

    `step` never waits for a prediction: it returns those that are ready, while openSMILE goes on in its own thread;
    `wait` waits for it. `flush` ends the stream; call `close` on one that is not flushed. A reset is a new one.
    renewal: as FrameExtractor has it.

    Raises CheckpointError where the checkpoint's parts do not fit together, ValueError for a rate that is not positive,
    FeatureEngineError where openSMILE cannot be loaded.
    """

    rate_hz = Predictor.rate_hz
    receptive_field_s = FrameExtractor.receptive_field_s

    def __init__(self, checkpoint: Checkpoint, rate_in_hz: int, renewal: RenewalSettings | None = None) -> None:
        self._predictor = Predictor(checkpoint)
        self._extractor = FrameExtractor(checkpoint.extraction, rate_in_hz, renewal)

    @property
    def latency_s(self) -> float:
        """How much sound past a prediction's time may be needed before it is there."""
        return self._extractor.latency_s + self._predictor.latency_s

    @property
    def gain_db(self) -> float:
        """The gain that brings the input to the level the model was trained at, in dB."""
        return self._extractor.gain_db

    @property
    def n_renewals(self) -> int:
        """How often openSMILE has been renewed so far."""
        return self._extractor.n_renewals

    def step(self, samples: FloatArray) -> list[Prediction]:
        """samples: float32, shape (n_samples, n_channels) or (n_samples,), full scale at -1 and 1; the stream's next.

        Raises what Predictor.step raises, and FeatureEngineError where openSMILE has stopped.
        """
        return [self._predictor.step(frame) for frame in self._extractor.step(samples)]

    def wait(self, timeout_s: float) -> None:
        """Returns when a prediction can be had by the next `step`, or after `timeout_s`."""
        self._extractor.wait(timeout_s)

    def flush(self) -> list[Prediction]:
        """Ends the stream; the predictions of the frames that were still under way."""
        return [self._predictor.step(frame) for frame in self._extractor.flush()]

    def close(self) -> None:
        """Frees everything at once, whatever was still under way. Harmless when called twice."""
        self._extractor.close()
