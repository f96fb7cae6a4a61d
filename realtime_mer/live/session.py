"""The live path between a source and the sinks, on one page: captures in, updates out.

Deterministic in the samples: the same captures give the same updates, bit for bit, however they are cut and whenever
they come. So a recording can be replayed.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from realtime_mer.config import ConfigError, LevelMeterSettings, QuadrantSettings
from realtime_mer.features.engine import HOP_S
from realtime_mer.features.extraction import FrameExtractor, too_short
from realtime_mer.features.renewal import RenewalSettings
from realtime_mer.live.metering import LEVEL_HOP_S, Entrances, LevelMeter
from realtime_mer.live.quadrant import QuadrantTracker
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.predictor import Predictor
from realtime_mer.recording import Beginning
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import rounded
from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import FeatureFrame, FloatArray, Prediction
from realtime_mer.updates import InputLevel, Update

_NO_SAMPLES = np.empty(0, dtype=np.float32)
# A frame counts as silence if it ends in this much silence: at most half of it is music.
_SILENT_END_S = 0.5
# A frame that ends in this much silence may be the last one of its music.
_DOUBTFUL_END_S = LEVEL_HOP_S


@dataclass(slots=True)
class _Stretch:
    """Sound without an interruption or a long silence, with the engine and the model that process it.

    start_s: stream time of its first sample. n_samples: how many were processed.
    dropped_samples: how many were lost in between. drops: where those were lost (after how many processed samples) and
        how many, for those that no update has passed yet. captured: when the samples up to a position were captured,
        for the same.
    updated_s: how much of the sound the updates have covered so far.
    has_music: whether any of its predictions may be held yet. doubtful: the last one with its stream time, if it may be
        held only once music follows it.
    """

    rate_hz: int
    start_s: float
    extractor: FrameExtractor
    predictor: Predictor
    meter: LevelMeter
    n_samples: int = 0
    dropped_samples: int = 0
    drops: deque[tuple[int, int]] = field(default_factory=deque)
    captured: deque[tuple[int, float]] = field(default_factory=deque)
    updated_s: float = 0.0
    has_music: bool = False
    doubtful: tuple[Prediction, float] | None = None

    @property
    def end_s(self) -> float:
        """Stream time of its end so far."""
        return self.start_s + (self.n_samples + self.dropped_samples) / self.rate_hz

    def stream_s(self, sound_s: float) -> float:
        """Stream time of a moment of the processed sound: the time of dropped sound before it has passed too."""
        while self.drops and self.drops[0][0] < sound_s * self.rate_hz:
            self.drops.popleft()
        still_to_come = sum(n_samples for _, n_samples in self.drops)
        return self.start_s + sound_s + (self.dropped_samples - still_to_come) / self.rate_hz

    def latency_s(self, sound_s: float) -> float | None:
        """Time since the capture of the sample at that moment; the samples of one capture came in one by one."""
        end = sound_s * self.rate_hz
        while self.captured and self.captured[0][0] < end:
            self.captured.popleft()
        if not self.captured:
            return None
        position, captured_s = self.captured[0]
        return time.monotonic() - captured_s + (position - end) / self.rate_hz


class Session:
    """Captures in, updates out, across every interruption of the sound.

    If a capture begins another segment, or music begins after two seconds of silence or more, a new engine and a new
    model process it: the sound before says nothing about it. Stream time and the updates' index go on. In silence
    (nothing louder than settings.silence_db in the last 0.5 s of a frame) the prediction of the last music is held. It
    is that of the last frame that did not end in silence: a frame that is only partly music is predicted too near to
    the middle.

    prediction_rate_hz: predictions a second, one of PREDICTION_RATES_HZ. What is held, and the quadrant, depend only on
    the predictions at whole half seconds since the music began, so the updates there are the same at every rate.
    quadrant: when the music counts as being in another one; None: the defaults of QuadrantSettings.
    beginning: for the replay of a recording that began in mid-run: where in its run; None: at the start.
    renewal: when music without a pause gets a new engine; None: the defaults of RenewalSettings.

    Raises ConfigError if the checkpoint cannot predict at that rate.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: LevelMeterSettings,
        beginning: Beginning | None = None,
        quadrant: QuadrantSettings | None = None,
        renewal: RenewalSettings | None = None,
        *,
        prediction_rate_hz: float = 1.0 / HOP_S,
    ) -> None:
        if prediction_rate_hz != 1.0 / HOP_S and not checkpoint.has_any_rate:
            raise ConfigError(
                "model.rate_hz: expected 2 for a model that uses openSMILE or carries a state from frame to frame, "
                f"got {prediction_rate_hz:g}."
            )
        self._prediction_rate_hz = prediction_rate_hz
        self._checkpoint = checkpoint
        self._settings = settings
        self._renewal = renewal
        self._past_renewals = 0
        self._segment: int | None = None
        self._entrances: Entrances | None = None
        self._stretch: _Stretch | None = None
        before = beginning or Beginning()
        self._end_s = before.time_s
        self._n_updates = before.index
        self._dropped_s = 0.0
        self._level: InputLevel | None = None
        self._held = Prediction(before.time_s, *before.held)
        quadrant = quadrant or QuadrantSettings()
        self._quadrants = QuadrantTracker(quadrant.hysteresis, quadrant.dwell_s)

    @property
    def time_s(self) -> float:
        """Stream time processed so far."""
        return self._end_s if self._stretch is None else self._stretch.end_s

    @property
    def beginning(self) -> Beginning:
        """Where a recording of the sound from now on begins. Raises ValueError within a segment."""
        if self._entrances is not None:
            raise ValueError("A recording can only begin with a segment.")
        return Beginning(self._n_updates, self._end_s, (self._held.valence, self._held.arousal))

    @property
    def dropped_s(self) -> float:
        """How much sound was lost to overload so far, in seconds."""
        return self._dropped_s

    @property
    def rate_hz(self) -> int | None:
        """Samples per second of the present sound; None if there is none."""
        return self._stretch.rate_hz if self._stretch else None

    @property
    def level(self) -> InputLevel | None:
        """The input's level now; None without sound."""
        # When music begins, the new meter has no level for a moment.
        return self._level if self._stretch is None else self._stretch.meter.level() or self._level

    @property
    def backlog_s(self) -> float:
        """How much sound openSMILE has been given since its last frame, in seconds; 0.7 at most if it keeps up."""
        stretch = self._stretch
        return 0.0 if stretch is None else stretch.n_samples / stretch.rate_hz - stretch.updated_s

    @property
    def n_renewals(self) -> int:
        """How often openSMILE was renewed within music so far."""
        return self._past_renewals + (self._stretch.extractor.n_renewals if self._stretch else 0)

    @property
    def gain_db(self) -> float:
        """The gain stage's gain now."""
        return self._stretch.extractor.gain_db if self._stretch else 0.0

    def process(self, capture: Capture) -> list[Update]:
        """Takes the next sound; returns the updates that are ready, possibly about earlier sound.

        Raises CheckpointError if the checkpoint's parts do not fit together, and what FrameExtractor and Predictor
        raise.
        """
        with self._indices_kept():
            return self._process_capture(capture)

    def _process_capture(self, capture: Capture) -> list[Update]:
        updates = []
        if capture.segment != self._segment:
            updates += self.end_segment()
            self._segment = capture.segment
            self._entrances = Entrances(self._settings, capture.rate_hz)
        if self._entrances is None:
            raise ValueError(f"Segment {capture.segment} has ended: the sound after it needs another segment number.")
        stretch = self._stretch or self._begin_stretch(capture.rate_hz)
        if capture.dropped_samples:
            stretch.drops.append((stretch.n_samples, capture.dropped_samples))
            stretch.dropped_samples += capture.dropped_samples
            self._dropped_s += capture.dropped_samples / capture.rate_hz
        for passage in self._entrances.step(capture.samples):
            if passage.begins and stretch.n_samples:
                updates += self._end_stretch()
                stretch = self._begin_stretch(capture.rate_hz)
            updates += self._process(stretch, passage.samples, capture.captured_s)
        return updates

    def wait(self, timeout_s: float) -> list[Update]:
        """Waits until openSMILE has a frame, at most `timeout_s`; returns the updates that are ready."""
        if self._stretch is None:
            time.sleep(timeout_s)
            return []
        self._stretch.extractor.wait(timeout_s)
        return self._updates(self._stretch, self._stretch.extractor.step(_NO_SAMPLES))

    def end_segment(self) -> list[Update]:
        """Ends the segment, because the sound was interrupted or has ended; returns the remaining updates."""
        updates = []
        with self._indices_kept():
            if self._entrances is not None and self._stretch is not None:
                for passage in self._entrances.flush():
                    updates += self._process(self._stretch, passage.samples, None)
            updates += self._end_stretch()
        self._entrances = None
        self._level = None
        return updates

    def recover(self) -> bool:
        """After an error of the engine or the model: drops them, and returns whether it makes sense to go on.

        It does if they had given an update. Then a new engine processes the sound to come, in the same segment.
        """
        stretch = self._stretch
        if stretch is None or not stretch.updated_s:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Frees the engine at once and drops unfinished frames."""
        if self._stretch is not None:
            self._stretch.extractor.close()
            self._leave(self._stretch)

    @contextlib.contextmanager
    def _indices_kept(self) -> Iterator[None]:
        """If a later part fails, the updates of the parts before it are never sent: they use up no index."""
        n_updates = self._n_updates
        try:
            yield
        except BaseException:
            self._n_updates = n_updates
            raise

    def _begin_stretch(self, rate_hz: int) -> _Stretch:
        predictor = Predictor(self._checkpoint)
        extractor = FrameExtractor(self._checkpoint.extraction, rate_hz, self._renewal, self._prediction_rate_hz)
        self._stretch = _Stretch(rate_hz, self._end_s, extractor, predictor, LevelMeter(self._settings, rate_hz))
        return self._stretch

    def _process(self, stretch: _Stretch, samples: FloatArray, captured_s: float | None) -> list[Update]:
        stretch.n_samples += len(samples)
        if captured_s is not None:
            stretch.captured.append((stretch.n_samples, captured_s))
        stretch.meter.step(samples)
        return self._updates(stretch, stretch.extractor.step(samples))

    def _end_stretch(self) -> list[Update]:
        if self._stretch is None:
            return []
        updates = self._updates(self._stretch, self._stretch.extractor.flush())
        self._leave(self._stretch)
        return updates

    def _leave(self, stretch: _Stretch) -> None:
        self._end_s = stretch.end_s
        self._past_renewals += stretch.extractor.n_renewals
        self._level = stretch.meter.level() or self._level
        self._stretch = None

    def _updates(self, stretch: _Stretch, frames: Iterable[FeatureFrame]) -> list[Update]:
        # All predictions first: if one fails, no index is used up for updates that are never sent.
        predictions = [stretch.predictor.step(frame) for frame in frames]
        return [self._update(stretch, prediction) for prediction in predictions]

    def _update(self, stretch: _Stretch, prediction: Prediction) -> Update:
        stretch.updated_s = prediction.time_s
        held = stretch.meter.is_silent(prediction.time_s - _SILENT_END_S, prediction.time_s)
        time_s, latency_s = stretch.stream_s(prediction.time_s), stretch.latency_s(prediction.time_s)
        if (prediction.time_s / HOP_S).is_integer():
            if held:
                stretch.doubtful = None
            else:
                self._note_music(stretch, prediction, time_s)
        shown = replace(self._held, attention=None, change=prediction.change) if held else prediction
        self._n_updates += 1
        return Update(self._n_updates - 1, replace(shown, time_s=time_s), held, latency_s, self._quadrants.quadrant)

    def _note_music(self, stretch: _Stretch, prediction: Prediction, time_s: float) -> None:
        """Decides what may be held from now on. For a frame that ends in silence, the next one decides."""
        if stretch.doubtful is not None:
            self._hold(*stretch.doubtful)
            stretch.doubtful = None
        ends_in_silence = stretch.meter.is_silent(prediction.time_s - _DOUBTFUL_END_S, prediction.time_s)
        if ends_in_silence and stretch.has_music:
            stretch.doubtful = (prediction, time_s)
        else:
            # For music that is shorter than a frame there is nothing better.
            self._hold(prediction, time_s)
            stretch.has_music = True

    def _hold(self, prediction: Prediction, time_s: float) -> None:
        self._held = prediction
        self._quadrants.step(prediction.valence, prediction.arousal, time_s)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A processed part of a file.

    n_samples: per channel. gain_db: of the gain stage at its end. updates: those that became ready with it.
    """

    n_samples: int
    rate_hz: int
    gain_db: float
    updates: list[Update]


def process_file(
    path: Path, checkpoint: Checkpoint, prediction_rate_hz: float = 1.0 / HOP_S
) -> Generator[FilePart, None, None]:
    """A whole audio file, as fast as possible, with the same result as a live run. The last part has no samples.

    Only sound above full scale, in a file of floats, is different: a live run clips it, as a recording has to.
    Raises AudioFileError for a file that is no audio or too short for one frame, and what Session raises.
    """
    n_updates = 0
    part = FilePart(0, 0, 0.0, [])
    settings = LevelMeterSettings()
    with contextlib.closing(Session(checkpoint, settings, prediction_rate_hz=prediction_rate_hz)) as session:
        for block in read_blocks(path):
            samples, _ = rounded(block.samples)
            updates = session.process(Capture(samples, block.rate_hz, 0, 0, None))
            part = FilePart(len(samples), block.rate_hz, session.gain_db, updates)
            n_updates += len(updates)
            yield part
        last = session.end_segment()
    if n_updates + len(last) == 0:
        raise AudioFileError(too_short(path))
    yield FilePart(0, part.rate_hz, part.gain_db, last)


def predict_file(path: Path, checkpoint: Checkpoint) -> list[Prediction]:
    """The predictions for a whole audio file. Raises what process_file raises."""
    return [update.prediction for part in process_file(path, checkpoint) for update in part.updates]
