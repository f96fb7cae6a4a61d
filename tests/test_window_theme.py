from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from drawing import contrast, linear, rgb

from realtime_mer.window.theme import DARK, LIGHT, Theme, Tone, scaled

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
@pytest.mark.parametrize("name", ["text", "faint", "ghost", "point", "valence", "arousal", "good", "warning", "bad"])
def test_everything_stands_out_from_the_background(theme: Theme, name: str) -> None:
    colours = {key: getattr(theme, key) for key in (name, "background", "panel")}
    assert contrast(rgb(colours[name]), rgb(colours["background"])) >= TEXT
    assert contrast(rgb(colours[name]), rgb(colours["panel"])) >= TEXT


@THEMES
def test_the_quadrants_words_stand_out_from_the_panel(theme: Theme) -> None:
    for colour in theme.quadrants:
        assert contrast(rgb(colour), rgb(theme.panel)) >= TEXT


@THEMES
@pytest.mark.parametrize("eye", EYES)
def test_the_quadrants_are_told_apart_by_every_eye(theme: Theme, eye: str) -> None:
    for one, other in itertools.combinations(theme.quadrants, 2):
        assert difference(one, other, EYES[eye]) >= 20.0
    for one, other in itertools.combinations(theme.tints, 2):
        assert difference(one, other, EYES[eye]) >= 20.0


@THEMES
@pytest.mark.parametrize("eye", EYES)
def test_what_lies_side_by_side_is_told_apart_by_every_eye(theme: Theme, eye: str) -> None:
    pairs = [
        (theme.valence, theme.arousal),
        (theme.valence, theme.ghost),
        (theme.arousal, theme.ghost),
        (theme.point, theme.ghost),
        (theme.good, theme.bad),
        (theme.good, theme.warning),
    ]
    for one, other in pairs:
        assert difference(one, other, EYES[eye]) >= 12.0, (one, other)


@THEMES
def test_a_scaled_theme_has_other_sizes_and_the_same_colours(theme: Theme) -> None:
    twice = scaled(theme, 2.0)
    assert (twice.small_pt, twice.medium_pt, twice.large_pt) == (18.0, 24.0, 40.0)
    assert [twice.px(length) for length in (0.1, 1.0, 11.0)] == [1, 2, 22]
    assert [twice.of(tone) for tone in Tone] == [theme.of(tone) for tone in Tone]
    assert scaled(twice, 0.5) == theme
