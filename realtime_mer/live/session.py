"""From what a source captures to what goes out: the live path between a source and the sinks, on one page.

Deterministic in the samples: the same captures give the same updates, bit for bit, however they are cut into pieces and
whenever they come. So a recording can be replayed.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from realtime_mer.config import LevelMeterSettings, QuadrantSettings
from realtime_mer.features.engine import HOP_S
from realtime_mer.features.extraction import too_short
from realtime_mer.features.renewal import RenewalSettings
from realtime_mer.live.metering import LEVEL_HOP_S, Entrances, LevelMeter
from realtime_mer.live.quadrant import QuadrantTracker
from realtime_mer.models.checkpoint import Checkpoint
from realtime_mer.models.recogniser import Recogniser
from realtime_mer.recording import Beginning
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.sources.reading import AudioFileError, read_blocks
from realtime_mer.types import FloatArray, Prediction
from realtime_mer.updates import InputLevel, Update

_NO_SAMPLES = np.empty(0, dtype=np.float32)
# A frame is silence where it ends in this much of it: of the music before that, it holds half or less.
_SILENT_END_S = HOP_S
# A frame that ends in this much silence may be the last one of its music.
_DOUBTFUL_END_S = LEVEL_HOP_S


@dataclass(slots=True)
class _Stretch:
    """Sound without interruption or long silence in it, with the engine that hears it.

    start_s: stream time of its first sample. heard_samples: what the engine was given.
    dropped_samples: how many were lost in between; of these, drops: where in what was heard, for those that no update
        has passed yet. captured: up to which sample was captured when, for the same.
    updated_s: how much of what was heard the updates have told of so far.
    has_music: whether any of its predictions may hold yet. doubtful: the last one, with its stream time, where it may
        hold only if music goes on after it.
    """

    rate_hz: int
    start_s: float
    recogniser: Recogniser
    meter: LevelMeter
    heard_samples: int = 0
    dropped_samples: int = 0
    drops: deque[tuple[int, int]] = field(default_factory=deque)
    captured: deque[tuple[int, float]] = field(default_factory=deque)
    updated_s: float = 0.0
    has_music: bool = False
    doubtful: tuple[Prediction, float] | None = None

    @property
    def end_s(self) -> float:
        """Stream time of the end of what was heard."""
        return self.start_s + (self.heard_samples + self.dropped_samples) / self.rate_hz

    def stream_s(self, heard_s: float) -> float:
        """Stream time of a moment of the sound heard: what was dropped before it has passed too."""
        while self.drops and self.drops[0][0] < heard_s * self.rate_hz:
            self.drops.popleft()
        still_to_come = sum(n_samples for _, n_samples in self.drops)
        return self.start_s + heard_s + (self.dropped_samples - still_to_come) / self.rate_hz

    def latency_s(self, heard_s: float) -> float | None:
        """Since the capture of the sample at that moment; samples of one capture came in one after the other."""
        end = heard_s * self.rate_hz
        while self.captured and self.captured[0][0] < end:
            self.captured.popleft()
        if not self.captured:
            return None
        position, captured_s = self.captured[0]
        return time.monotonic() - captured_s + (position - end) / self.rate_hz


class Session:
    """Captures in, updates out, across every interruption of the sound.

    Where a capture begins another segment, or music begins after two seconds of silence or more, a fresh engine and a
    fresh model hear it: what was before says nothing of it. Stream time and the updates' index go on. In silence
    (nothing louder than settings.silence_db in the last 0.5 s of a frame) the prediction of the last music holds: of
    the last frame that did not end in that silence, since one that music fills only in part is predicted to lie nearer
    to the middle.

    quadrant: when the music counts as being in another one; None: as QuadrantSettings has it.
    beginning: where the recording began in its run that this session hears again; None: it is no replay, or of a whole.
    renewal: when music without a pause gets a new engine; None: as RenewalSettings has it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: LevelMeterSettings,
        beginning: Beginning | None = None,
        quadrant: QuadrantSettings | None = None,
        renewal: RenewalSettings | None = None,
    ) -> None:
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
        """Stream time heard so far."""
        return self._end_s if self._stretch is None else self._stretch.end_s

    @property
    def beginning(self) -> Beginning:
        """Where a recording begins that holds what is heard from now on. Raises ValueError within a segment."""
        if self._entrances is not None:
            raise ValueError("A recording can only begin with a segment.")
        return Beginning(self._n_updates, self._end_s, (self._held.valence, self._held.arousal))

    @property
    def dropped_s(self) -> float:
        """How much sound was lost to overload so far."""
        return self._dropped_s

    @property
    def rate_hz(self) -> int | None:
        """Samples per second of what is being heard; None where nothing is."""
        return self._stretch.rate_hz if self._stretch else None

    @property
    def level(self) -> InputLevel | None:
        """The input's level now; None where nothing is being heard."""
        # At an entrance the new meter knows nothing for a moment.
        return self._level if self._stretch is None else self._stretch.meter.level() or self._level

    @property
    def backlog_s(self) -> float:
        """How much sound openSMILE has been given since the last frame that it has given back; 0.7 s at most when it
        keeps up."""
        stretch = self._stretch
        return 0.0 if stretch is None else stretch.heard_samples / stretch.rate_hz - stretch.updated_s

    @property
    def n_renewals(self) -> int:
        """How often openSMILE was renewed within music so far."""
        return self._past_renewals + (self._stretch.recogniser.n_renewals if self._stretch else 0)

    @property
    def gain_db(self) -> float:
        """The level stage's gain now."""
        return self._stretch.recogniser.gain_db if self._stretch else 0.0

    def hear(self, capture: Capture) -> list[Update]:
        """The updates that are ready, possibly of sound heard earlier. Raises what Recogniser raises."""
        updates = []
        if capture.segment != self._segment:
            updates += self.end_segment()
            self._segment = capture.segment
            self._entrances = Entrances(self._settings, capture.rate_hz)
        if self._entrances is None:
            raise ValueError(f"Segment {capture.segment} has ended; what comes after an end is a new segment.")
        stretch = self._stretch or self._begin_stretch(capture.rate_hz)
        if capture.dropped_samples:
            stretch.drops.append((stretch.heard_samples, capture.dropped_samples))
            stretch.dropped_samples += capture.dropped_samples
            self._dropped_s += capture.dropped_samples / capture.rate_hz
        for passage in self._entrances.step(capture.samples):
            if passage.begins and stretch.heard_samples:
                updates += self._end_stretch()
                stretch = self._begin_stretch(capture.rate_hz)
            updates += self._hear(stretch, passage.samples, capture.captured_s)
        return updates

    def wait(self, timeout_s: float) -> list[Update]:
        """The updates that are ready once openSMILE has a frame, or after `timeout_s`; possibly none."""
        if self._stretch is None:
            time.sleep(timeout_s)
            return []
        self._stretch.recogniser.wait(timeout_s)
        return self._updates(self._stretch, self._stretch.recogniser.step(_NO_SAMPLES))

    def end_segment(self) -> list[Update]:
        """The sound was interrupted, or has ended: the updates that were still under way."""
        updates = []
        if self._entrances is not None and self._stretch is not None:
            for passage in self._entrances.flush():
                updates += self._hear(self._stretch, passage.samples, None)
        updates += self._end_stretch()
        self._entrances = None
        self._level = None
        return updates

    def recover(self) -> bool:
        """After an error of the engine or the model: gives up the stretch, and whether it makes sense to go on.

        It does where the stretch had given an update: then a fresh engine hears what comes, in the same segment.
        """
        stretch = self._stretch
        if stretch is None or not stretch.updated_s:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Frees the engine at once, whatever was under way."""
        if self._stretch is not None:
            self._stretch.recogniser.close()
            self._let_go(self._stretch)

    def _begin_stretch(self, rate_hz: int) -> _Stretch:
        recogniser = Recogniser(self._checkpoint, rate_hz, self._renewal)
        self._stretch = _Stretch(rate_hz, self._end_s, recogniser, LevelMeter(self._settings, rate_hz))
        return self._stretch

    def _hear(self, stretch: _Stretch, samples: FloatArray, captured_s: float | None) -> list[Update]:
        stretch.heard_samples += len(samples)
        if captured_s is not None:
            stretch.captured.append((stretch.heard_samples, captured_s))
        stretch.meter.step(samples)
        return self._updates(stretch, stretch.recogniser.step(samples))

    def _end_stretch(self) -> list[Update]:
        if self._stretch is None:
            return []
        updates = self._updates(self._stretch, self._stretch.recogniser.flush())
        self._let_go(self._stretch)
        return updates

    def _let_go(self, stretch: _Stretch) -> None:
        self._end_s = stretch.end_s
        self._past_renewals += stretch.recogniser.n_renewals
        self._level = stretch.meter.level() or self._level
        self._stretch = None

    def _updates(self, stretch: _Stretch, predictions: list[Prediction]) -> list[Update]:
        return [self._update(stretch, prediction) for prediction in predictions]

    def _update(self, stretch: _Stretch, prediction: Prediction) -> Update:
        stretch.updated_s = prediction.time_s
        held = stretch.meter.is_silent(prediction.time_s - _SILENT_END_S, prediction.time_s)
        time_s, latency_s = stretch.stream_s(prediction.time_s), stretch.latency_s(prediction.time_s)
        if held:
            stretch.doubtful = None
        else:
            self._note_music(stretch, prediction, time_s)
        shown = replace(self._held, attention=None) if held else prediction
        self._n_updates += 1
        return Update(self._n_updates - 1, replace(shown, time_s=time_s), held, latency_s, self._quadrants.quadrant)

    def _note_music(self, stretch: _Stretch, prediction: Prediction, time_s: float) -> None:
        """What may hold from now on. Where the frame ends in silence, that is known with the next one."""
        if stretch.doubtful is not None:
            self._let_hold(*stretch.doubtful)
            stretch.doubtful = None
        ends_in_silence = stretch.meter.is_silent(prediction.time_s - _DOUBTFUL_END_S, prediction.time_s)
        if ends_in_silence and stretch.has_music:
            stretch.doubtful = (prediction, time_s)
        else:
            # Of music that is shorter than a frame there is nothing better.
            self._let_hold(prediction, time_s)
            stretch.has_music = True

    def _let_hold(self, prediction: Prediction, time_s: float) -> None:
        self._held = prediction
        self._quadrants.step(prediction.valence, prediction.arousal, time_s)


@dataclass(frozen=True, slots=True)
class Heard:
    """A part of a file, and what came of it: the updates that were ready by then.

    n_samples: per channel. gain_db: of the level stage, at its end.
    """

    n_samples: int
    rate_hz: int
    gain_db: float
    updates: list[Update]


def hear_file(path: Path, checkpoint: Checkpoint) -> Generator[Heard, None, None]:
    """A whole audio file, as fast as possible: what a live run says of the same samples. The last part has no samples.

    Raises AudioFileError for a file that is no audio or too short for one frame, and what Session raises.
    """
    n_updates = 0
    heard = Heard(0, 0, 0.0, [])
    with contextlib.closing(Session(checkpoint, LevelMeterSettings())) as session:
        for block in read_blocks(path):
            samples, _ = on_grid(block.samples)
            updates = session.hear(Capture(samples, block.rate_hz, 0, 0, None))
            heard = Heard(len(samples), block.rate_hz, session.gain_db, updates)
            n_updates += len(updates)
            yield heard
        last = session.end_segment()
    if n_updates + len(last) == 0:
        raise AudioFileError(too_short(path))
    yield Heard(0, heard.rate_hz, heard.gain_db, last)


def predict_file(path: Path, checkpoint: Checkpoint) -> list[Prediction]:
    """The predictions for a whole audio file. Raises what hear_file raises."""
    return [update.prediction for heard in hear_file(path, checkpoint) for update in heard.updates]
