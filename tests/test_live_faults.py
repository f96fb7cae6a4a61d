"""What the recognising thread does where one frame goes wrong."""

from __future__ import annotations

import threading

import pytest
from checkpoints import music, small_checkpoint

from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.recognition import Recognition
from realtime_mer.live.requests import Requests
from realtime_mer.live.session import Session
from realtime_mer.models.predictor import Predictor
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FeatureFrame, Prediction, PredictionError
from realtime_mer.updates import Board, SourceState

RATE_HZ = 44_100


class Tune:
    """A source of eight seconds of music, half a second at a time, heard no faster than it is recognised."""

    interrupted_by_pause = False
    name, detail = "tune", ""
    overflows = dropped_blocks = replaced_samples = 0

    def __init__(self) -> None:
        self._samples = on_grid(music(8.0))[0]
        self._n_given = 0

    @property
    def state(self) -> SourceState:
        return SourceState.ENDED if self._n_given == 16 else SourceState.RUNNING

    def start(self) -> None: ...

    def close(self) -> None: ...

    def read(self) -> Capture | None:
        if self._n_given == 16:
            return None
        first = self._n_given * RATE_HZ // 2
        self._n_given += 1
        return Capture(self._samples[first : first + RATE_HZ // 2], RATE_HZ, 0, 0, None)


@pytest.mark.parametrize("error", [PredictionError("It is no number."), ValueError("The feature f is nan.")])
def test_one_frame_that_is_no_number_ends_no_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    step, asked = Predictor.step, 0

    def once_wrong(predictor: Predictor, frame: FeatureFrame) -> Prediction:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise error
        return step(predictor, frame)

    monkeypatch.setattr(Predictor, "step", once_wrong)
    board = Board("tune")
    recognition = Recognition(
        Tune(),
        lambda: Session(small_checkpoint(), LevelMeterSettings()),
        [board],
        None,
        requests=Requests(),
        emit=lambda _: None,
        ignored_packets=lambda: 0,
    )
    assert recognition.run(threading.Event()), "it came to the music's end"
    updates = board.take_updates()
    assert asked > 3
    assert updates[-1].time_s > 6.0
    assert [update.index for update in updates] == list(range(len(updates)))
    assert board.latest_status.detail == f"The engine had to be restarted: {error}"
