from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from drawing import RUNNING, Picture, contrast, picture, plane_texts, require_qt, rgb, settle, show, update, where

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.updates import SourceState, Update
from realtime_mer.window.captions import Headline, headline
from realtime_mer.window.history import History
from realtime_mer.window.theme import DARK, LIGHT, Theme, Tone, scaled

if TYPE_CHECKING:
    from realtime_mer.window.plane import PlaneView

ROOT = Path(__file__).resolve().parents[1]
THEMES = pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
LIVE = Headline("", "Following the music.", Tone.GOOD, ghost=False)
SIDE_PX = 640


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


class Shown:
    """A plane that is shown, and the history that it shows."""

    def __init__(self, theme: Theme = DARK, side_px: int = SIDE_PX, trail_s: float = 30.0) -> None:
        from realtime_mer.window.plane import PlaneView

        self.theme = theme
        self.history = History()
        self.plane: PlaneView = PlaneView(theme, trail_s=trail_s)
        show(self.plane, side_px, side_px)
        self.plane.show_headline(LIVE)

    def give(self, updates: Sequence[Update], *, rest_s: float = 10.0) -> None:
        """Shows these predictions, and lets this much time go by."""
        self.history.extend(updates)
        self.plane.show_history(self.history)
        self.plane.advance(rest_s)

    def texts(self) -> dict[str, npt.NDArray[np.float64]]:
        """Where each text in the plane is: left, top, right, bottom in the picture's pixels."""
        ratio = self.plane.devicePixelRatioF()
        return {
            text: ratio * np.array([place.left(), place.top(), place.right(), place.bottom()])
            for text, place in plane_texts(self.plane).items()
        }

    def px(self, valence: float, arousal: float) -> tuple[float, float]:
        """Row and column of a place, in the picture's pixels: a screen may have more of them than Qt."""
        from realtime_mer.window.qt import QtCore

        box = self.plane._plot.getPlotItem().getViewBox()
        place = box.mapViewToScene(QtCore.QPointF(valence, arousal))
        ratio = self.plane.devicePixelRatioF()
        return ratio * place.y(), ratio * place.x()

    def around(self, valence: float, arousal: float, reach: float) -> tuple[slice, slice]:
        """The pixels that are no further than this from a place."""
        top, left = self.px(valence - reach, arousal + reach)
        bottom, right = self.px(valence + reach, arousal - reach)
        return slice(round(top), round(bottom)), slice(round(left), round(right))

    def point(self) -> npt.NDArray[np.float64]:
        """Row and column of the point's middle."""
        place: npt.NDArray[np.float64] = where(picture(self.plane), self.theme.point).mean(axis=0)
        return place


def circle(n: int, *, held: bool = False) -> list[Update]:
    return [update(i, 0.5 * math.cos(i / 9), 0.5 * math.sin(i / 9), held=held) for i in range(n)]


# The point


def test_the_point_is_where_the_prediction_is() -> None:
    shown = Shown()
    for index, place in enumerate([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (0.0, 0.0)]):
        shown.give([update(index, *place)])
        assert shown.point() == pytest.approx(shown.px(*place), abs=1.5)
    # Near enough to a square for a circle to look like one.
    (top, left), (bottom, right) = shown.px(-1.0, 1.0), shown.px(1.0, -1.0)
    assert bottom - top == pytest.approx(right - left, rel=0.03)
    assert min(top, left) > 0.0
    assert bottom - top > 0.8 * SIDE_PX


def test_the_point_is_on_its_way_between_two_predictions() -> None:
    shown = Shown()
    shown.give([update(0, -0.5, 0.0)])
    shown.give([update(1, 0.5, 0.0)], rest_s=0.0)
    columns = []
    for _ in range(30):
        shown.plane.advance(1 / 60)
        columns.append(shown.point()[1])
    steps = np.diff(columns)
    assert (steps > -1.0).all()
    assert steps.max() < 0.1 * (shown.px(0.5, 0.0)[1] - shown.px(-0.5, 0.0)[1])
    assert columns[-1] > columns[0] + 100


@pytest.mark.parametrize("held", [False, True])
@THEMES
def test_a_ghost_is_hollow_and_grey(theme: Theme, held: bool) -> None:
    status = RUNNING if held else replace(RUNNING, state=SourceState.LOST)
    shown = Shown(theme)
    shown.give(circle(60), rest_s=0.3)
    live = picture(shown.plane)
    middle = tuple(np.round(where(live, theme.point).mean(axis=0)).astype(int))
    assert (live[middle] == rgb(theme.point)).all()
    newest = replace(shown.history.newest or update(0, 0.0, 0.0), held=held)
    shown.plane.show_headline(headline(status, newest))
    ghost = picture(shown.plane)
    assert (ghost[middle] == rgb(theme.panel)).all()
    assert len(where(ghost, theme.ghost)) > 40
    assert len(where(ghost, theme.point)) == 0
    inner = ghost[shown.around(0.0, 0.0, 0.8)]
    assert len(where(inner, theme.point, 40)) == 0, "the trail is grey too"
    shown.plane.show_headline(LIVE)
    assert (picture(shown.plane) == live).all()


def test_the_headlines_word_is_over_the_plane() -> None:
    shown = Shown()
    shown.plane.show_headline(Headline("device lost", "It was unplugged.", Tone.BAD, ghost=True))
    assert "DEVICE LOST" in shown.texts()
    assert len(where(picture(shown.plane), DARK.bad, 10)) > 300
    shown.plane.show_headline(LIVE)
    assert len(where(picture(shown.plane), DARK.bad, 10)) == 0


def test_there_is_no_point_before_the_first_prediction_and_after_clearing() -> None:
    shown = Shown()
    empty = picture(shown.plane)
    assert len(where(empty, DARK.point)) == 0
    shown.give(circle(20))
    assert len(where(picture(shown.plane), DARK.point)) > 100
    shown.plane.clear()
    shown.history.clear()
    assert (picture(shown.plane) == empty).all()
    shown.give([update(3, 0.1, 0.1)])
    assert len(where(picture(shown.plane), DARK.point)) > 100


# The trail


def trail_brightness(shown: Shown, arousal: float) -> npt.NDArray[np.float64]:
    """Of the brightest pixel of each column near this arousal, in red: where the dark theme's tint has least of it."""
    middle = round(shown.px(0.0, arousal)[0])
    brightest: npt.NDArray[np.int16] = picture(shown.plane)[middle - 4 : middle + 5, :, 0].max(axis=0)
    return brightest.astype(np.float64)


def test_the_trail_fades_and_gets_thinner() -> None:
    """From left to right in 25 s: its right end is the bright one."""
    shown = Shown()
    shown.give([update(i, -0.9 + 1.6 * i / 50, -0.6) for i in range(51)], rest_s=0.5)
    start, end = (round(shown.px(v, -0.6)[1]) for v in (-0.8, 0.5))
    brightness = trail_brightness(shown, -0.6)[start:end]
    thirds = [float(np.median(third)) for third in np.array_split(brightness, 3)]
    assert thirds[0] < thirds[1] - 20 < thirds[2] - 40
    assert thirds[2] > 150
    pixels = picture(shown.plane)
    row = round(shown.px(0.0, -0.6)[0])
    thick = [int((pixels[row - 12 : row + 13, column, 0] > 60).sum()) for column in (start + 150, end)]
    assert 1 <= thick[0] < thick[1] <= 8


def test_places_older_than_the_trail_are_not_drawn() -> None:
    trail_s = 5.0
    shown, newcomer = Shown(trail_s=trail_s), Shown(trail_s=trail_s)
    shown.give(circle(30), rest_s=0.0)
    before = picture(shown.plane)
    given = [update(i, 0.1, 0.2) for i in range(30, 30 + round(2 * trail_s) + 12)]
    shown.give(given)
    assert (picture(shown.plane) != before).any()
    newcomer.give(given[-round(2 * trail_s) - 2 :])
    assert np.abs(picture(shown.plane) - picture(newcomer.plane)).max() <= 2


def test_the_trail_is_the_springs_smooth_path() -> None:
    """At the corner of a square the spring turns before it has reached the corner."""
    shown = Shown()
    shown.give([update(0, -0.6, -0.6)])
    shown.give([update(1, 0.6, -0.6)], rest_s=0.5)
    shown.give([update(2, 0.6, 0.6)], rest_s=0.5)
    shown.give([update(3, 0.6, 0.6)])
    pixels = picture(shown.plane)
    row, column = (round(value) for value in shown.px(0.6, -0.6))
    assert pixels[row - 3 : row + 4, column - 3 : column + 4, 0].max() < 100, "nothing in the corner itself"
    cut = pixels[shown.around(0.5, -0.45, 0.12)]
    assert cut[..., 0].max() > 120


# The ellipse


def changed(shown: Shown, before: Picture) -> npt.NDArray[np.intp]:
    return np.argwhere(np.abs(picture(shown.plane) - before).max(axis=2) > 2)


@THEMES
def test_the_ellipse_shows_the_expected_errors(theme: Theme) -> None:
    shown, bare = Shown(theme), Shown(theme)
    shown.give([update(0, 0.1, 0.2, sds=(0.3, 0.12))])
    bare.give([update(0, 0.1, 0.2)])
    places = changed(shown, picture(bare.plane))
    row, column = shown.px(0.1, 0.2)
    unit_px = shown.px(1.0, 0.0)[1] - shown.px(0.0, 0.0)[1]
    # It is gone at two standard deviations; of what is nearly gone nothing can be seen.
    for axis, middle, sd in ((0, row, 0.12), (1, column, 0.3)):
        reach_px = max(places[:, axis].max() - middle, middle - places[:, axis].min())
        assert 1.5 * sd * unit_px < reach_px < 2.0 * sd * unit_px + 3
    pixels = picture(shown.plane)
    strengths = [
        float(np.abs(pixels - picture(bare.plane))[round(row), round(column + share * sd * unit_px)].max())
        for sd, share in ((0.3, 0.4), (0.3, 1.3), (0.3, 1.8))
    ]
    assert strengths[0] > strengths[1] > strengths[2] > 0.0, "soft"


def test_in_silence_the_ellipse_stays_and_without_expected_errors_there_is_none() -> None:
    shown = Shown()
    shown.give([update(0, 0.1, 0.1, sds=(0.3, 0.2))])
    shown.give([update(1, 0.1, 0.1, held=True)])
    assert shown.plane._half_axes == (0.3, 0.2)
    shown.give([update(2, 0.1, 0.1)])
    assert not shown.plane._ellipse.isVisible()


def test_the_ellipse_changes_its_size_gently() -> None:
    shown = Shown()
    shown.give([update(0, 0.0, 0.0, sds=(0.1, 0.1))])
    shown.give([update(1, 0.0, 0.0, sds=(0.3, 0.3))], rest_s=0.0)
    sizes = []
    for _ in range(40):
        sizes.append(shown.plane._half_axes[0])
        shown.plane.advance(1 / 30)
    assert sizes[0] == 0.1
    assert (np.diff(sizes) > 0.0).all()
    assert max(np.diff(sizes)) < 0.03
    shown.plane.advance(10.0)
    assert shown.plane._half_axes == (0.3, 0.3)


# The ground and the words


@pytest.mark.parametrize(("factor", "side_px"), [(1.0, 600), (3.0, 1900), (0.625, 375)])
def test_no_word_overlaps_another_or_is_cut_off(factor: float, side_px: int) -> None:
    from realtime_mer.window import plane

    shown = Shown(scaled(DARK, factor), side_px)
    shown.plane.show_headline(Headline("device lost", "Why.", Tone.BAD, ghost=True))
    settle()
    places = shown.texts()
    assert len(places) == len(plane.mood_words()) + 5
    top, left = shown.px(-1.0, 1.0)
    bottom, right = shown.px(1.0, -1.0)
    for name, place in places.items():
        assert (place[:2] >= (left - 1, top - 1)).all(), name
        assert (place[2:] <= (right + 1, bottom + 1)).all(), name
    for (one, a), (other, b) in itertools.combinations(places.items(), 2):
        apart = (a[2:] <= b[:2]).any() or (b[2:] <= a[:2]).any()
        assert apart, (one, other)


def test_the_words_are_at_their_published_places_and_the_quadrants_in_their_corners() -> None:
    from realtime_mer.window.plane import CITATION, mood_words

    shown = Shown()
    assert CITATION in shown.plane.toolTip()
    places = shown.texts()
    # Published as 6.47 and 3.22 on a scale from 1 to 9.
    assert mood_words()["tender"] == pytest.approx((0.3675, -0.445))
    for word, (valence, arousal) in mood_words().items():
        left, top, right, bottom = places[word]
        assert ((top + bottom) / 2, (left + right) / 2) == pytest.approx(shown.px(valence, arousal), abs=1.5)
    for signs in QUADRANTS.values():
        left, top, right, bottom = places[QUADRANT_WORDS[signs][0]]
        row, column = shown.px(*signs)
        assert min(abs(top - row), abs(bottom - row)) < 15
        assert min(abs(left - column), abs(right - column)) < 15


@THEMES
def test_every_word_can_be_read_on_its_ground(theme: Theme) -> None:
    from realtime_mer.window.plane import mood_words, tint

    for valence, arousal in mood_words().values():
        ground = tint(theme, np.array(valence), np.array(arousal))
        assert contrast(rgb(theme.faint), ground) >= 4.5
    for number, signs in QUADRANTS.items():
        corner = tint(theme, np.array(0.99 * signs[0]), np.array(0.99 * signs[1]))
        assert contrast(rgb(theme.quadrants[number - 1]), corner) >= 4.5
    foot = tint(theme, np.linspace(-0.6, 0.6, 7), np.full(7, -0.9))
    for tone in Tone:
        assert min(contrast(rgb(theme.of(tone)), ground) for ground in foot) >= 4.5


@THEMES
def test_the_ground_is_coloured_by_position(theme: Theme) -> None:
    from realtime_mer.window.plane import tint

    shown = Shown(theme)
    pixels = picture(shown.plane)
    for place in [(-0.9, 0.3), (0.1, 0.95), (-0.3, -0.9), (0.93, -0.4), (0.02, 0.02)]:
        row, column = (round(value) for value in shown.px(*place))
        assert pixels[row, column] == pytest.approx(tint(theme, *map(np.array, place)), abs=3.0)


# What it costs


def test_at_rest_nothing_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    from realtime_mer.window.plane import TrailItem

    shown = Shown()
    shown.give(circle(40))
    settle()
    n_painted = 0
    paint = TrailItem.paint

    def counted(self: TrailItem, *arguments: Any) -> None:
        nonlocal n_painted
        n_painted += 1
        paint(self, *arguments)

    monkeypatch.setattr(TrailItem, "paint", counted)
    for _ in range(20):
        shown.plane.advance(1 / 30)
        settle()
    assert n_painted == 0
    shown.give([update(50, 0.5, 0.5)], rest_s=0.1)
    settle()
    assert n_painted > 0


def test_an_earlier_time_starts_again() -> None:
    """As when a recording is wound back."""
    shown, other = Shown(), Shown()
    shown.give(circle(80))
    shown.history.clear()
    shown.give(circle(20))
    other.give(circle(20))
    assert (picture(shown.plane) == picture(other.plane)).all()


@pytest.mark.slow
def test_on_a_scaled_screen_everything_has_the_same_size() -> None:
    """In a process of its own, since Qt reads the scale only once."""
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from drawing import *\n"
        "require_qt()\n"
        "from test_window_plane import Shown, DARK\n"
        "shown = Shown()\n"
        "shown.give([update(i, -0.9 + 1.6 * i / 50, -0.6) for i in range(51)], rest_s=0.5)\n"
        "pixels = picture(shown.plane)\n"
        "found = where(pixels, DARK.point)\n"
        "column = round(pixels.shape[1] * 0.68)\n"
        "row = round(found[:, 0].mean())\n"
        "trail = (pixels[row - 20 : row + 21, column, 0] > 100).sum()\n"
        "print(pixels.shape[0], found[:, 1].max() - found[:, 1].min(), trail, len(where(pixels, DARK.faint, 60)))\n"
    )
    seen = {}
    for scale in ("1", "2"):
        environment = os.environ | {"QT_SCALE_FACTOR": scale, "QT_QPA_PLATFORM": "offscreen"}
        run = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        seen[scale] = [int(word) for word in run.stdout.split()]
    side, point, trail, words = seen["1"]
    assert seen["2"][0] == pytest.approx(2 * side, abs=2)
    assert seen["2"][1] == pytest.approx(2 * point, abs=3)
    assert seen["2"][2] == pytest.approx(2 * trail, abs=2)
    assert seen["2"][3] > 2 * words
    assert trail >= 4
