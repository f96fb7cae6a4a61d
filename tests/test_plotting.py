"""The plot of a trajectory."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from realtime_mer.batch.plotting import can_plot, trajectory_png
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


@pytest.mark.parametrize("n", [1, 60])
def test_it_shows_the_predictions_and_the_title(n: int) -> None:
    plot = pixels(trajectory_png(trajectory(n), "song.mp3"))
    assert plot.shape[1] > plot.shape[0] > 300
    others = [Prediction(1.0 + 0.5 * k, 0.5, -0.5) for k in range(n)]
    assert (plot != pixels(trajectory_png(others, "song.mp3"))).any()
    assert (plot != pixels(trajectory_png(trajectory(n), "other.mp3"))).any()


@pytest.mark.parametrize("title", ["a $b^{ $c.wav", "音楽.mp3", "caf\udce9.ogg", "two\nlines", ""])
def test_any_file_name_can_be_the_title(title: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(trajectory_png(trajectory(3), title))


def test_matplotlib_is_imported_late() -> None:
    code = "import sys, realtime_mer.batch.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
