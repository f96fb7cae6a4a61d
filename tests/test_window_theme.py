from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from drawing import contrast, linear, require_qt, rgb
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import MODES
from realtime_mer.window.theme import DARK, LIGHT, Theme

THEMES = pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
TEXT = 4.5  # what the Web Content Accessibility Guidelines 2.1 ask of text

# From light as most people see it to light as those see it who lack one kind of cone: Machado, Oliveira and Fernandes,
# "A physiologically-based model for simulation of color vision deficiency", 2009 (severity 1).
EYES = {
    "all cones": np.eye(3),
    "no long": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no medium": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "no short": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour: str, eye: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE L*a*b* of a colour as this eye sees it."""
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.array(to_xyz) @ np.clip(eye @ linear(rgb(colour)), 0.0, 1.0) / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def difference(one: str, other: str, eye: npt.NDArray[np.float64]) -> float:
    """CIE 1976; 2.3 is just noticeable."""
    return float(np.linalg.norm(lab(one, eye) - lab(other, eye)))


@THEMES
def test_everything_stands_out_from_the_background(theme: Theme) -> None:
    names = ("text", "faint", "ghost", "point", "valence", "arousal", "good", "warning", "bad")
    for colour in (*(getattr(theme, name) for name in names), *theme.quadrants):
        assert contrast(rgb(colour), rgb(theme.panel)) >= TEXT, colour
        if colour not in theme.quadrants:
            assert contrast(rgb(colour), rgb(theme.background)) >= TEXT, colour


@THEMES
@pytest.mark.parametrize("eye", EYES)
def test_every_eye_can_distinguish_the_colours(theme: Theme, eye: str) -> None:
    for colours in (theme.quadrants, theme.tints):
        for one, other in itertools.combinations(colours, 2):
            assert difference(one, other, EYES[eye]) >= 20.0, (one, other)
    for one, other in (
        (theme.valence, theme.arousal),
        (theme.valence, theme.ghost),
        (theme.arousal, theme.ghost),
        (theme.point, theme.ghost),
        (theme.good, theme.bad),
        (theme.good, theme.warning),
    ):
        assert difference(one, other, EYES[eye]) >= 12.0, (one, other)


# Its size


def scale(mode: str, width: int, height: int, least: float | None = None) -> float:
    require_qt()
    from realtime_mer.window.qt import QtCore
    from realtime_mer.window.view import theme_for

    size = QtCore.QSize(width, height)
    return (theme_for("dark", mode, size) if least is None else theme_for("dark", mode, size, least=least)).scale


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("operator", (1280, 720), 1.0),
        ("operator", (3840, 2160), 3.0),
        ("operator", (1920, 720), 1.0),
        ("operator", (1280, 2000), 1.0),
        ("operator", (800, 480), 0.625),
        ("operator", (300, 200), 0.625),
        ("stage", (1920, 1080), 2.25),
    ],
)
def test_the_smaller_side_sets_the_scale(mode: str, size: tuple[int, int], expected: float) -> None:
    assert scale(mode, *size) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from(MODES))
def test_nothing_outgrows_its_window(width: int, height: int, mode: str) -> None:
    fits = min(width / 1280, height / 720) * (1.5 if mode == "stage" else 1.0)
    assert max(fits - 0.0625, 0.5) <= scale(mode, width, height, least=0.5) <= max(fits, 0.5)


def test_dragging_an_edge_does_not_rebuild_everything_at_every_pixel() -> None:
    assert len({scale("operator", width, 10_000) for width in range(1280, 2560)}) <= 17
