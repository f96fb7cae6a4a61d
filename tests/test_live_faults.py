"""The recognition thread when one frame fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import soundfile
from checkpoints import music, small_checkpoint

from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.recognition import Recognition
from realtime_mer.live.requests import Requests
from realtime_mer.live.session import Session
from realtime_mer.models.predictor import Predictor
from realtime_mer.sources.file import FileSource
from realtime_mer.types import FeatureFrame, Prediction, PredictionError
from realtime_mer.updates import Board


@pytest.mark.parametrize("error", [PredictionError("It is no number."), ValueError("The feature f is nan.")])
def test_a_frame_that_fails_does_not_end_the_run(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, n_steps = Predictor.step, 0

    def fail_once(predictor: Predictor, frame: FeatureFrame) -> Prediction:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 3:
            raise error
        return step(predictor, frame)

    monkeypatch.setattr(Predictor, "step", fail_once)
    soundfile.write(tmp_path / "tune.wav", music(5.0), 44_100)
    source = FileSource(tmp_path / "tune.wav", loop=False, fast=True)
    source.start()
    board = Board("tune")
    recognition = Recognition(
        source,
        lambda: Session(small_checkpoint(), LevelMeterSettings()),
        [board],
        None,
        requests=Requests(),
        emit=lambda _: None,
        ignored_packets=lambda: 0,
    )
    assert recognition.run(threading.Event()), "it came to the music's end"
    updates = board.take_updates()
    assert n_steps > 3
    assert updates[-1].time_s > 3.0
    assert [update.index for update in updates] == list(range(len(updates)))
    assert board.latest_status.detail == f"The engine had to be restarted: {error}"
