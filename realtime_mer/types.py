"""The values that travel down the pipeline. All times are seconds of stream time.

Stream time counts samples since the stream's first one; it never looks at a wall clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from realtime_mer.errors import RealtimeMerError

FloatArray = npt.NDArray[np.float32]

# Of files and recordings. At 1 Hz, a file of a few megabytes would last for weeks.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A run of consecutive samples as a source delivers them.

    samples: float32, shape (n_samples, n_channels), full scale at -1 and 1.
    start_s: stream time of the first sample.
    rate_hz: samples per second and channel.
    """

    samples: FloatArray
    start_s: float
    rate_hz: int


@dataclass(frozen=True, slots=True)
class FeatureFrame:
    """One frame of features.

    index: 0, 1, 2, … since the stream (or its last reset) began.
    start_s, end_s: the stretch of stream time that the features describe.
    values: float32, shape (n_features,), in the order of the extractor's `names`.
    change: strength of a change of the music that was noticed with this frame, 0 to 1; 0 if there is none.
    """

    index: int
    start_s: float
    end_s: float
    values: FloatArray
    change: float = 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's output for the music up to `time_s` (the end of its last frame).

    valence, arousal: each in [-1, 1].
    valence_sd, arousal_sd: expected standard deviation of the error, > 0. confidence: in [0, 1], 1 - their mean square
        over that of always predicting the average song: 0 is no better, 1 would be no error. All three are None if the
        model was not calibrated, and in the silence before any music.
    attention: how much each frame of the model's memory counted, oldest first, sum 1; None if the model has none.
    change: strength of a change of the music (another song, a drop, a break) that was noticed with this frame, 0 to 1;
        0 if there is none.
    valence_rank, arousal_rank: the share of songs that lie below, 0 to 1; None if the model has no table of ranks.
    """

    time_s: float
    valence: float
    arousal: float
    valence_sd: float | None = None
    arousal_sd: float | None = None
    confidence: float | None = None
    attention: tuple[float, ...] | None = None
    change: float = 0.0
    valence_rank: float | None = None
    arousal_rank: float | None = None


class PredictionError(RealtimeMerError, RuntimeError):
    """The model's output is not a finite number."""
