"""The picture of a trajectory."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.predict.plotting import can_plot, trajectory_png
from realtime_mer.types import Prediction

if not can_plot():
    pytest.skip("matplotlib is not installed", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]


def pixels(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    assert png.startswith(b"\x89PNG\r\n")
    return np.asarray(imread(io.BytesIO(png)))


def trajectory(n: int) -> list[Prediction]:
    return [Prediction(1.0 + 0.5 * k, float(np.sin(0.1 * k)), float(np.cos(0.1 * k))) for k in range(n)]


def test_it_shows_the_predictions() -> None:
    circle, still = trajectory(60), [Prediction(1.0 + 0.5 * k, 0.0, 0.0) for k in range(60)]
    first = pixels(trajectory_png(circle, "song.mp3"))
    assert first.shape[1] > first.shape[0] > 300
    assert (first != pixels(trajectory_png(still, "song.mp3"))).any()
    assert (first != pixels(trajectory_png(circle, "other.mp3"))).any()


def test_one_prediction_is_enough() -> None:
    one, elsewhere = trajectory(1), [Prediction(1.0, 0.5, -0.5)]
    assert (pixels(trajectory_png(one, "a")) != pixels(trajectory_png(elsewhere, "a"))).any()


@pytest.mark.parametrize("title", ["a $b^{ $c.wav", "音楽.mp3", "caf\udce9.ogg", "two\nlines", ""])
def test_any_file_name_can_be_the_title(title: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(trajectory_png(trajectory(3), title))


def test_matplotlib_is_loaded_late() -> None:
    code = "import sys, realtime_mer.predict.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
