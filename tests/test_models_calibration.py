"""How far predictions may be off: the formulas, and what of it goes out with a session's updates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from checkpoints import CALIBRATION, music, small_checkpoint
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import LevelMeterSettings
from realtime_mer.live.session import Session, predict_file
from realtime_mer.models.calibration import Calibration, ErrorVariance
from realtime_mer.sources import Capture
from realtime_mer.sources.grid import on_grid
from realtime_mer.types import FloatArray
from realtime_mer.updates import Update

RATE_HZ = 44_100

variances = st.builds(
    ErrorVariance, settled=st.floats(1e-10, 4.0), early=st.floats(0.0, 4.0), decay_s=st.floats(1e-3, 3600.0)
)


def test_the_variance_fades_to_the_settled_one() -> None:
    variance = ErrorVariance(settled=0.03, early=0.02, decay_s=4.0)
    assert variance.at(0.0) == 0.05
    assert variance.at(4.0 * math.log(2.0)) == pytest.approx(0.04)
    assert variance.at(4.0) == pytest.approx(0.03 + 0.02 / math.e)
    assert variance.at(1e9) == 0.03


def test_each_dimension_has_its_own() -> None:
    calibration = Calibration(ErrorVariance(0.04, 0.0, 3.0), ErrorVariance(0.01, 0.08, 1.0), label_variance=0.2)
    said = calibration.after(math.log(2.0))
    assert said.valence_sd == pytest.approx(0.2)
    assert said.arousal_sd == pytest.approx(math.sqrt(0.05))
    assert said.confidence == pytest.approx(1.0 - 0.09 / 0.2)


@pytest.mark.parametrize(("label_variance", "confidence"), [(0.1, 0.0), (0.04, 0.0), (0.2, 0.5), (2.0, 0.95)])
def test_no_better_than_the_average_song_is_no_confidence_at_all(label_variance: float, confidence: float) -> None:
    calibration = Calibration(ErrorVariance(0.06, 0.0, 3.0), ErrorVariance(0.04, 0.0, 3.0), label_variance)
    assert calibration.after(1.0).confidence == pytest.approx(confidence)


@given(
    calibration=st.builds(
        Calibration, valence=variances, arousal=variances, label_variance=st.floats(1e-10, 2.0, exclude_min=True)
    ),
    times_s=st.lists(st.floats(0.0, 1e6), min_size=2, max_size=2).map(sorted),
)
def test_whatever_can_be_stored_says_something_sound(calibration: Calibration, times_s: list[float]) -> None:
    early, late = (calibration.after(heard_s) for heard_s in times_s)
    for said in (early, late):
        assert 0.0 < said.valence_sd <= math.sqrt(8.0)
        assert 0.0 < said.arousal_sd <= math.sqrt(8.0)
        assert 0.0 <= said.confidence <= 1.0
    assert late.valence_sd <= early.valence_sd
    assert late.arousal_sd <= early.arousal_sd
    assert late.confidence >= early.confidence
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({"settled": math.nan}, ValueError, "settled must lie between 1e-10 and 4, not at nan"),
        ({"settled": 0.0}, ValueError, "settled must lie"),
        ({"settled": 4.1}, ValueError, "settled must lie"),
        ({"early": -0.1}, ValueError, "early must lie"),
        ({"early": math.inf}, ValueError, "early must lie"),
        ({"decay_s": 0.0}, ValueError, "decay_s must lie"),
        ({"decay_s": 3601.0}, ValueError, "decay_s must lie"),
        ({"decay_s": 10**400}, ValueError, "decay_s must lie"),
        ({"early": "0.1"}, TypeError, "early must be a number, not '0.1'"),
        ({"early": False}, TypeError, "early must be a number, not False"),
        ({"decay_s": None}, TypeError, "decay_s must be a number"),
    ],
)
def test_a_variance_that_cannot_be(numbers: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ErrorVariance(**{"settled": 0.03, "early": 0.01, "decay_s": 3.0, **numbers})


# ---- what goes out ----------------------------------------------------------------------------------------------


def updates_of(samples: FloatArray, *, calibrated: bool = True) -> list[Update]:
    session = Session(small_checkpoint("mlp", calibrated=calibrated), LevelMeterSettings())
    updates = session.process(Capture(samples, RATE_HZ, 0, 0, None))
    return updates + session.end_segment()


def uncertainty(update: Update) -> tuple[float | None, float | None, float | None]:
    return update.prediction.valence_sd, update.prediction.arousal_sd, update.prediction.confidence


def test_in_silence_that_of_the_last_music_holds_and_an_entrance_begins_afresh() -> None:
    tune = on_grid(music(3.0))[0]
    silence = np.zeros((3 * RATE_HZ, 1), dtype=np.float32)
    updates = updates_of(np.concatenate([silence, tune, silence, tune]))
    nothing_yet = [update for update in updates if update.time_s < 4.0]
    assert len(nothing_yet) >= 4
    assert {uncertainty(update) for update in nothing_yet} == {(None, None, None)}
    by_time = {update.time_s: update for update in updates}
    for entrance_s in (3.0, 9.0):
        for heard_s in (1.0, 1.5, 2.0, 2.5):
            assert uncertainty(by_time[entrance_s + heard_s]) == CALIBRATION.after(heard_s)
    held = [update for update in updates if 6.0 < update.time_s < 10.0]
    assert len(held) >= 5
    assert {uncertainty(update) for update in held} == {CALIBRATION.after(3.0)}
    assert all(update.held for update in held)


def test_a_file_is_predicted_with_it(tmp_path: Path) -> None:
    tune = on_grid(music(3.0))[0]
    soundfile.write(tmp_path / "tune.flac", (tune * 2.0**23).astype(np.int32) << 8, RATE_HZ, subtype="PCM_24")
    predicted = predict_file(tmp_path / "tune.flac", small_checkpoint("mlp", calibrated=True))
    assert [(p.valence_sd, p.arousal_sd, p.confidence) for p in predicted] == [
        CALIBRATION.after(heard_s) for heard_s in (1.0, 1.5, 2.0, 2.5)
    ]


def test_without_a_calibration_nothing_is_said() -> None:
    updates = updates_of(on_grid(music(2.0))[0], calibrated=False)
    assert len(updates) == 2
    assert {uncertainty(update) for update in updates} == {(None, None, None)}
