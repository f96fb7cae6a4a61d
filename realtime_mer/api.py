"""The public Python API: predict files and arrays, feed blocks of sound, listen to a device.

All three run the same live session as the command does, so the same sound gives the same predictions.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from realtime_mer.config import LevelMeterSettings, ModelSettings, load_settings
from realtime_mer.errors import UsageError
from realtime_mer.live.recognition import Recognition
from realtime_mer.live.requests import Requests
from realtime_mer.live.session import Session, process_file
from realtime_mer.models.checkpoint import load_checkpoint
from realtime_mer.models.packaged import chosen_checkpoint_path
from realtime_mer.sources import Capture
from realtime_mer.sources.device import DeviceSource
from realtime_mer.sources.grid import rounded
from realtime_mer.types import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, Prediction
from realtime_mer.updates import Status, Update

if TYPE_CHECKING:
    from pandas import DataFrame

    from realtime_mer.sources import Source

# So much may wait for a loop that is busy with something else.
_MOST_WAITING_S = 120.0
_BLOCK_S = 0.5
_LOOK_S = 0.2
_JOIN_TIMEOUT_S = 0.9


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The predictions for a piece of music.

    time_s: the end of each one-second frame, in seconds from the beginning, shape (n,).
    valence, arousal: in [-1, 1], shape (n,).
    valence_sd, arousal_sd: the expected standard deviation of the error, shape (n,); NaN if the model is not
        calibrated, and in silence before the first music.
    """

    time_s: npt.NDArray[np.float64]
    valence: npt.NDArray[np.float64]
    arousal: npt.NDArray[np.float64]
    valence_sd: npt.NDArray[np.float64]
    arousal_sd: npt.NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Iterable[Prediction]) -> Self:
        """The predictions as arrays."""
        rows = [(p.time_s, p.valence, p.arousal, p.valence_sd, p.arousal_sd) for p in predictions]
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, 5).T)

    def __len__(self) -> int:
        return len(self.time_s)

    def to_pandas(self) -> DataFrame:
        """A data frame with a row per prediction and the fields as columns. Needs pandas."""
        import pandas

        return pandas.DataFrame(vars(self))


class Recogniser:
    """Blocks of sound in, predictions out as they are ready, two or more per second of sound.

    Where music begins after two seconds of silence, it starts afresh; in silence the last prediction of music holds.
    Use it in a `with` block, or call `close`.

    rate_hz: samples per second of the blocks.
    model: "default" or "open". checkpoint: the file of another model instead.
    prediction_rate_hz: predictions per second of sound: 2, 4, 10 or 20; None: 10 for the open model, else 2.
    Raises UsageError for a rate outside 1,000 to 768,000 Hz, ConfigError for another model or a rate that it does not
    have, CheckpointError for a model file that cannot be used, and FeatureEngineError if openSMILE is needed and cannot
    be loaded.

    >>> import numpy as np
    >>> import realtime_mer as mer
    >>> noise = np.random.default_rng(0).normal(0.0, 0.1, 44_100 * 3)
    >>> with mer.Recogniser(rate_hz=44_100) as recogniser:
    ...     predictions = recogniser.process(noise) + recogniser.finish()
    >>> [prediction.time_s for prediction in predictions]
    [1.0, 1.5, 2.0, 2.5]
    """

    def __init__(
        self,
        *,
        rate_hz: int,
        model: str | None = None,
        checkpoint: str | Path | None = None,
        prediction_rate_hz: float | None = None,
    ) -> None:
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise UsageError(
                f"rate_hz: expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} samples per second, got {rate_hz}."
            )
        self._rate_hz = int(rate_hz)
        self._n_channels: int | None = None
        self._session = _session(_model_settings(model, checkpoint, prediction_rate_hz))

    def process(self, block: npt.ArrayLike) -> list[Prediction]:
        """The predictions that are ready; it never waits for one.

        block: the stream's next samples, shape (n_samples,) or (n_samples, n_channels), floats with full scale at -1
            and 1, any block size. Channels are mixed to one. NaN and infinite samples count as 0.
        Raises UsageError for another shape or type, or if the number of channels changes.
        """
        samples = self._checked(block)
        capture = Capture(rounded(samples)[0], self._rate_hz, 0, 0, None)
        return [update.prediction for update in self._session.process(capture)]

    def finish(self) -> list[Prediction]:
        """Ends the stream and returns the predictions that were not ready yet. The next block starts a new stream."""
        return [update.prediction for update in self._session.end_segment()]

    def close(self) -> None:
        """Frees openSMILE. May be called twice."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checked(self, block: npt.ArrayLike) -> npt.NDArray[np.float32]:
        samples = np.asarray(block)
        if samples.ndim == 1:
            samples = samples[:, None]
        if samples.ndim != 2 or samples.shape[1] == 0:
            raise UsageError(f"block: expected shape (n_samples,) or (n_samples, n_channels), got {samples.shape}.")
        if samples.dtype.kind != "f":
            raise UsageError(f"block: expected floats with full scale at -1 and 1, got {samples.dtype}.")
        if self._n_channels not in (None, samples.shape[1]):
            raise UsageError(f"block: expected {self._n_channels} channels as before, got {samples.shape[1]}.")
        self._n_channels = samples.shape[1]
        return samples.astype(np.float32)


def predict(
    sound: str | Path | npt.ArrayLike,
    *,
    rate_hz: int | None = None,
    model: str | None = None,
    checkpoint: str | Path | None = None,
    prediction_rate_hz: float | None = None,
) -> Trajectory:
    """The predictions for a whole file or array, the same as `realtime-mer predict` gives.

    sound: an audio file, or samples as `Recogniser.process` takes them. rate_hz: samples per second of an array.
    model, checkpoint, prediction_rate_hz: as for Recogniser.
    Raises AudioFileError for a file that cannot be read or is too short for one frame (1.05 s), UsageError for an array
    of another shape, type or length, or without rate_hz, ConfigError, CheckpointError and FeatureEngineError as
    Recogniser does.

    >>> import numpy as np
    >>> import realtime_mer as mer
    >>> trajectory = mer.predict(np.zeros(44_100 * 3, np.float32), rate_hz=44_100)
    >>> trajectory.time_s.tolist()
    [1.0, 1.5, 2.0, 2.5]
    """
    if isinstance(sound, str | Path):
        if rate_hz is not None:
            raise UsageError("rate_hz: expected none for a file, which has its own.")
        settings = _model_settings(model, checkpoint, prediction_rate_hz)
        checkpoint_ = load_checkpoint(chosen_checkpoint_path(settings))
        parts = process_file(Path(sound), checkpoint_, settings.predictions_hz)
        return Trajectory.of(update.prediction for part in parts for update in part.updates)
    if rate_hz is None:
        raise UsageError("rate_hz: expected the samples per second of the array, got none.")
    samples = np.asarray(sound)
    predictions: list[Prediction] = []
    with Recogniser(
        rate_hz=rate_hz, model=model, checkpoint=checkpoint, prediction_rate_hz=prediction_rate_hz
    ) as recogniser:
        block_samples = max(int(rate_hz * _BLOCK_S), 1)
        for start in range(0, max(len(samples), 1), block_samples):
            predictions += recogniser.process(samples[start : start + block_samples])
        predictions += recogniser.finish()
    if not predictions:
        raise UsageError(f"sound: expected at least 1.05 s, got {len(samples) / rate_hz:.2f} s.")
    return Trajectory.of(predictions)


class Listener(Iterator[Prediction]):
    """Live predictions from a device; `listen` makes one. Iterating waits for the next prediction.

    Use it in a `with` block, or call `close`; that closes the device. If the device is lost, it waits until the device
    is back. dropped: predictions that nothing read for two minutes.
    """

    def __init__(self, source: Source, model: ModelSettings) -> None:
        self._source = source
        self._waiting: queue.Queue[Prediction] = queue.Queue(round(_MOST_WAITING_S * model.predictions_hz))
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.dropped = 0
        recognition = Recognition(
            source,
            lambda: _session(model),
            [self],
            None,
            requests=Requests(),
            emit=lambda _: None,
            ignored_packets=lambda: 0,
        )
        source.start()
        self._thread = threading.Thread(target=self._run, args=(recognition,), name="recognition", daemon=True)
        self._thread.start()

    def __next__(self) -> Prediction:
        while True:
            # Before the look: what comes after the end is nothing.
            ended = not self._thread.is_alive()
            with contextlib.suppress(queue.Empty):
                return self._waiting.get(timeout=0 if ended else _LOOK_S)
            if ended and self._failure is not None:
                raise self._failure
            if ended:
                raise StopIteration

    def close(self) -> None:
        """Closes the device within a second. May be called twice."""
        self._stop.set()
        self._thread.join(_JOIN_TIMEOUT_S)
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, update: Update) -> None:
        """Called by the recognition: takes a prediction, and never waits."""
        if self._waiting.full():
            with contextlib.suppress(queue.Empty):
                self._waiting.get_nowait()
                self.dropped += 1
        self._waiting.put_nowait(update.prediction)

    def status(self, status: Status) -> None:
        """Called by the recognition; a listener shows no status."""

    def _run(self, recognition: Recognition) -> None:
        try:
            recognition.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the reading thread raises it
            self._failure = error


def listen(
    device: str = "default",
    *,
    model: str | None = None,
    checkpoint: str | Path | None = None,
    prediction_rate_hz: float | None = None,
) -> Listener:
    """Live predictions from a sound input, as an iterator.

    device: as `realtime-mer devices` lists it: `default`, a number, or a part of a name.
    model, checkpoint, prediction_rate_hz: as for Recogniser.
    Raises ConfigError for an empty name, or as Recogniser does; DeviceError if the device cannot be opened; iterating
    raises CheckpointError or FeatureEngineError if the model or openSMILE cannot be loaded.

    >>> import realtime_mer as mer
    >>> with mer.listen("default") as predictions:  # doctest: +SKIP
    ...     for prediction in predictions:
    ...         print(f"{prediction.valence:+.2f} {prediction.arousal:+.2f}")
    """
    settings = _model_settings(model, checkpoint, prediction_rate_hz)
    return Listener(DeviceSource(load_settings(None, {"audio.device": device}).audio), settings)


def _model_settings(
    model: str | None, checkpoint: str | Path | None, prediction_rate_hz: float | None
) -> ModelSettings:
    given = {
        "model.name": model,
        "model.checkpoint": None if checkpoint is None else str(checkpoint),
        "model.rate_hz": prediction_rate_hz,
    }
    return load_settings(None, {key: value for key, value in given.items() if value is not None}).model


def _session(model: ModelSettings) -> Session:
    checkpoint = load_checkpoint(chosen_checkpoint_path(model))
    return Session(checkpoint, LevelMeterSettings(), prediction_rate_hz=model.predictions_hz)
