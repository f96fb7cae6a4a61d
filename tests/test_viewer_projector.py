"""Moments in the views of the live window: they look the same however they were reached."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from drawing import require_qt, update
from predictions import with_prediction

from realtime_mer.config import LevelMeterSettings, QuadrantSettings
from realtime_mer.viewer.moments import Moments, Piece, Take, with_quadrants

if TYPE_CHECKING:
    from realtime_mer.window.remembered import Look

RATE_HZ = 8_000
END_S = 30.0
SIZE_PX = (1280, 720)


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Thirty seconds in which everything moves; a short trail; the sound gets louder and falls silent in turns."""
    require_qt()
    path = tmp_path_factory.mktemp("sound") / "a.wav"
    times_s = np.arange(round(END_S * RATE_HZ)) / RATE_HZ
    soundfile.write(path, np.sin(440 * math.tau * times_s) * np.exp(times_s % 4 - 4) * (times_s % 4 > 1), RATE_HZ)
    # A held one repeats the last music's.
    goals = [i - max(i % 16 - 12, 0) for i in range(58)]
    updates = [update(i, 0.8 * math.sin(g), 0.8 * math.cos(1.3 * g), held=g < i) for i, g in enumerate(goals)]
    known = tuple(with_quadrants(updates, QuadrantSettings()))
    piece = Piece(path, RATE_HZ, 0, len(times_s), 0.0)
    return Take("a song", 0.0, END_S, known, (piece,), LevelMeterSettings(), 4.0)


def lightness_at(take: Take, look: Look, *times_s: float) -> npt.NDArray[np.int16]:
    """Of the picture of the last of these moments, shown one after the other: shape (height, width)."""
    from realtime_mer.viewer.canvas import Canvas

    canvas = Canvas(Moments(take), look, *SIZE_PX)
    for time_s in times_s[:-1]:
        canvas._projector.show(time_s)
    content = canvas.pixels(times_s[-1])
    canvas.close()
    pixels = np.frombuffer(content, dtype=np.uint8).reshape(SIZE_PX[1], SIZE_PX[0], 4)
    lightness: npt.NDArray[np.int16] = pixels[..., :3].max(axis=2).astype(np.int16)
    return lightness


def n_different(one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]) -> int:
    return int((np.abs(one - other) > 24).sum())


@pytest.mark.parametrize(("moment", "span_s"), [(30, 60.0), (93, None), (401, 60.0)])
def test_a_moment_looks_the_same_jumped_to_and_played_up_to(take: Take, moment: int, span_s: float | None) -> None:
    from realtime_mer.window.remembered import Look

    look = Look(span_s=span_s)
    played = lightness_at(take, look, *(number / 30 for number in range(moment + 1)))
    jumped = lightness_at(take, look, END_S, 0.0, moment / 30)
    stepped_back = lightness_at(take, look, moment / 30 + 0.4, moment / 30)
    # Only the level's highest peak may be a moment older, and its line a few pixels further.
    assert n_different(played, jumped) < 120
    assert n_different(stepped_back, jumped) == 0
    if moment > 30:
        # No smaller than what half a second changes.
        assert n_different(played, lightness_at(take, look, moment / 30 - 0.5)) > 500


def test_a_long_take_shows_a_moment_without_going_through_all_before(take: Take) -> None:
    """The same picture, with and without hours before it, but for what says the time."""
    from realtime_mer.window.remembered import Look

    hours_s = 36_000.0
    later = tuple(update(i, 0.5, 0.5) for i in range(72_000))
    last = later[-1].time_s
    moved = tuple(
        with_prediction(replace(u, index=u.index + 72_000, latency_s=None), time_s=last + u.time_s)
        for u in take.updates
    )
    long = Take("a song", 0.0, hours_s + END_S, later + moved, (), LevelMeterSettings(), 4.0)
    short = Take("a song", 0.0, END_S, take.updates, (), LevelMeterSettings(), 4.0)
    look = Look("stage")
    assert n_different(lightness_at(long, look, last + 20.25), lightness_at(short, look, 20.25)) < 60
