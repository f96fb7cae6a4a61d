from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from drawing import Picture, picture, require_qt, show, update, where
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.updates import Update
from realtime_mer.window.history import History, Name
from realtime_mer.window.theme import DARK, LIGHT, Theme, scaled

if TYPE_CHECKING:
    from realtime_mer.window.timelines import Timeline

THEMES = pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


class Shown:
    """A timeline that is shown, and the history that it shows."""

    def __init__(self, name: Name = "valence", theme: Theme = DARK, width_px: int = 600, height_px: int = 240) -> None:
        from realtime_mer.window.timelines import Timeline

        self.theme = theme
        self.colour = {"valence": theme.valence, "arousal": theme.arousal}[name]
        self.history = History()
        self.timeline: Timeline = Timeline(name, self.colour, theme)
        show(self.timeline, width_px, height_px)
        self.timeline.show_ghost(False)

    def give(self, updates: Sequence[Update], now_s: float | None = None) -> None:
        """Shows these predictions; now_s: by default the newest's stream time."""
        self.history.extend(updates)
        newest = self.history.newest
        assert newest is not None
        self.timeline.show_time(newest.time_s if now_s is None else now_s)
        self.timeline.show_history(self.history)
        self.timeline.advance(100.0)

    def plot(self) -> Picture:
        """What lies between the axes."""
        pixels = picture(self.timeline)
        (top, left), (bottom, right) = self.px(-1e9, 1.05), self.px(1e9, -1.05)
        return pixels[round(top) : round(bottom), round(left) + 1 : round(right)]

    def px(self, ago_s: float, value: float) -> tuple[float, float]:
        """Row and column in the picture of so long ago and of a value; what is not in view lies at the plot's edge."""
        from realtime_mer.window.qt import QtCore

        box = self.timeline._plot.getPlotItem().getViewBox()
        (left, right), _ = box.viewRange()
        place = box.mapViewToScene(QtCore.QPointF(min(max(ago_s, left), right), value))
        place = self.timeline._plot.mapTo(self.timeline, place.toPoint())
        ratio = self.timeline.devicePixelRatioF()
        return ratio * place.y(), ratio * place.x()

    def curve(self, colour: str | None = None) -> npt.NDArray[np.intp]:
        """Where the curve is: row and column in the plot."""
        return where(self.plot(), colour or self.colour, 40)

    def ticks(self) -> list[tuple[float, str]]:
        axis = self.timeline._plot.getPlotItem().getAxis("bottom")
        return [tick for level in axis._tickLevels for tick in level]


def wave(n: int) -> list[Update]:
    return [update(i, 0.7 * math.sin(i / 5), 0.7 * math.cos(i / 5)) for i in range(n)]


# The curve


@THEMES
@pytest.mark.parametrize("name", ["valence", "arousal"])
def test_the_curve_is_where_the_values_are(theme: Theme, name: Name) -> None:
    shown = Shown(name, theme)
    values = {"valence": [0.8] * 40 + [-0.6] * 80, "arousal": [-0.4] * 40 + [0.5] * 80}
    pairs = zip(values["valence"], values["arousal"], strict=True)
    shown.give([update(i, v, a) for i, (v, a) in enumerate(pairs)])
    pixels = picture(shown.timeline)
    for ago_s, index in ((-55.0, 10), (-20.0, 90), (-3.0, 114)):
        row, column = (round(value) for value in shown.px(ago_s, values[name][index]))
        near = pixels[row - 2 : row + 3, column - 1 : column + 2]
        assert len(where(near, shown.colour, 60)) >= 2
    curve = shown.curve()
    end, corner = shown.px(0.0, values[name][-1]), shown.px(-1e9, 1.05)
    dot = curve[np.abs(curve[:, 1] - (end[1] - corner[1])) <= 1.0]
    assert dot[:, 0].mean() == pytest.approx(end[0] - corner[0], abs=1.5)
    assert 6 <= np.ptp(dot[:, 0]) <= 10, "a dot at its end"


def test_the_latest_value_is_grey_if_it_does_not_follow_the_music() -> None:
    shown = Shown()
    assert shown.timeline._value.text() == "–"
    shown.give([update(0, 0.424, -0.3)])
    assert shown.timeline._value.text() == "+0.42"
    for ghost, colour, other in ((False, DARK.valence, DARK.ghost), (True, DARK.ghost, DARK.valence)):
        shown.timeline.show_ghost(ghost)
        words = picture(shown.timeline)[:40, 400:]
        assert len(where(words, colour, 20)) > 50
        assert len(where(words, other, 20)) == 0


def test_held_values_have_another_colour_and_old_ones_leave() -> None:
    shown = Shown()
    held = [update(i, 0.1, 0.0, held=True) for i in range(60, 120)]
    shown.give([*wave(60), *held])
    live, grey = shown.curve(), shown.curve(DARK.ghost)
    middle = shown.px(-30.0, 0.0)[1] - shown.px(-1e9, 0.0)[1]
    assert live[:, 1].min() <= 10
    assert live[:, 1].max() == pytest.approx(middle, abs=8)
    assert grey[:, 1].min() >= middle - 6
    # Half a minute on, the wave has left.
    shown.give([], now_s=92.0)
    assert len(shown.curve()) == 0
    assert len(shown.curve(DARK.ghost)) > 0


def test_the_curve_scrolls_smoothly_and_leaps_only_far() -> None:
    shown = Shown(width_px=1200)
    shown.give([update(i, 0.9 if i == 60 else 0.0, 0.0) for i in range(100)])

    def peak() -> float:
        places = shown.curve()
        return float(places[places[:, 0] < 0.3 * len(shown.plot())][:, 1].mean())

    now_s = 50.5
    columns = [peak()]
    for frame in range(60):
        if frame % 6 == 0:
            now_s += 0.1
            shown.timeline.show_time(now_s)
        shown.timeline.advance(1 / 60)
        columns.append(peak())
    px_per_s = (shown.px(0.0, 0.0)[1] - shown.px(-50.0, 0.0)[1]) / 50
    steps = -np.diff(columns)
    assert (steps >= -0.6).all()
    assert steps.max() <= 1.3, "less than the tenth of a second that it is told at a time, which is two pixels"
    assert columns[0] - columns[-1] == pytest.approx(0.85 * px_per_s, abs=0.2 * px_per_s)
    shown.timeline.show_time(now_s + 30.0)
    assert columns[-1] - peak() == pytest.approx(30.15 * px_per_s, abs=0.2 * px_per_s)


# How much is seen


def test_a_minute_ten_minutes_and_everything() -> None:
    shown = Shown()
    updates = [update(i, 0.8 if i < 200 else -0.8, 0.0) for i in range(7200)]
    shown.give(updates)
    for span_s, first in ((60.0, (-60.0, "−60 s")), (600.0, (-600.0, "−10 min"))):
        shown.timeline.show_span(span_s)
        assert shown.ticks()[-1] == first
        assert shown.curve()[:, 0].min() > 0.7 * len(shown.plot())
    shown.timeline.show_span(None)
    assert shown.ticks()[-1] == (-3600.0, "−60 min")
    places = shown.curve()
    assert places[:, 0].min() < 0.2 * len(shown.plot()), "its beginning is in view"
    begin = places[places[:, 0] < 0.2 * len(shown.plot())][:, 1]
    width = shown.plot().shape[1]
    assert begin.max() < 0.2 * width


def test_everything_stays_in_view_as_it_grows() -> None:
    shown = Shown()
    shown.timeline.show_span(None)
    scales = set()
    for i in range(0, 4000, 40):
        shown.give([update(i, 0.5, 0.5)])
        (left, _), _ = shown.timeline._plot.getPlotItem().getViewBox().viewRange()
        scales.add(left)
        assert left <= -0.5 * i
        assert left >= -max(60.0, 1.21 * 0.5 * i + 1.0)
    assert len(scales) < 60, "not another one for every prediction"


@given(st.floats(60.0, 10 * 86_400.0))
def test_the_time_axis_has_a_few_round_marks(span_s: float) -> None:
    from realtime_mer.window.timelines import time_ticks

    ticks = list(time_ticks(span_s))
    assert ticks[0] == (0.0, "now")
    assert 2 <= len(ticks) <= 6
    steps = {round(a - b, 6) for (a, _), (b, _) in itertools.pairwise(ticks)}
    assert len(steps) == 1
    for place_s, label in ticks[1:]:
        assert -span_s - 1e-6 <= place_s < 0.0
        number, unit = label.removeprefix("−").split(" ")
        assert float(number) * {"s": 1.0, "min": 60.0, "h": 3600.0}[unit] == pytest.approx(-place_s)


# More values than pixels


@pytest.mark.parametrize("factor", [1, 3])
def test_every_extreme_of_two_hours_is_drawn_cheaply(factor: int) -> None:
    shown = Shown("valence", scaled(DARK, factor), 600 * factor, 240 * factor)
    values = [0.1 * math.sin(i) for i in range(14_400)]
    values[5_000], values[10_000] = 0.95, -0.95
    shown.history.extend([update(i, value, 0.0) for i, value in enumerate(values)])
    shown.timeline.show_span(None)
    shown.give([update(14_400, 0.0, 0.0)])
    places = shown.curve()
    for index, value in ((5_000, 0.95), (10_000, -0.95)):
        row, column = shown.px(-0.5 * (14_400 - index), value)
        top, left = shown.px(-1e9, 1.05)
        nearest = np.abs(places - (row - top, column - left)).max(axis=1).min()
        assert nearest <= 4 * factor
    curve = shown.timeline._curve
    n_drawn = len(curve._lines) + sum(len(columns) for _, columns in curve._columns)
    assert n_drawn <= 600 * factor / (2 * factor) + 2


def test_lines_and_columns_are_the_same_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = []
    for least_line in (0.1, 100.0):
        monkeypatch.setattr("realtime_mer.window.timelines._LEAST_LINE", least_line)
        shown = Shown()
        shown.give([update(i, 0.8 * math.sin(i / 15), 0.0, held=40 < i < 70) for i in range(118)])
        pictures.append((shown.curve(), shown.curve(DARK.ghost)))
    for lines, columns in zip(*pictures, strict=True):
        assert len(lines) > 50
        # Each pixel of the one is near one of the other.
        for these, those in ((lines, columns), (columns, lines)):
            distances = [np.abs(those - place).max(axis=1).min() for place in these]
            assert max(distances) <= 5


def test_a_gap_between_many_values_is_bridged() -> None:
    """The device was lost for a while."""
    shown = Shown()
    times = [*range(600), *range(1800, 2400)]
    shown.history.extend([update(i, 0.5, 0.0) for i in times])
    shown.timeline.show_span(None)
    shown.give([update(2400, 0.5, 0.0)])
    places = shown.curve()
    assert any(columns for _, columns in shown.timeline._curve._columns)
    width = shown.plot().shape[1]
    assert set(range(round(0.15 * width), round(0.95 * width))) <= set(places[:, 1].tolist())


# Changes of quadrant


def test_a_change_of_quadrant_is_a_line_and_a_word() -> None:
    shown = Shown()
    quadrants = [1] * 40 + [2] * 40 + [4] * 40
    shown.give([update(i, 0.0, 0.0, quadrant=q) for i, q in enumerate(quadrants)])
    pixels = shown.plot()
    left = shown.px(-1e9, 0.0)[1]
    for number, ago_s in ((2, -39.5), (4, -19.5)):
        found = where(pixels, DARK.quadrants[number - 1], 100)
        column = shown.px(ago_s, 0.0)[1] - left
        on_line = np.abs(found[:, 1] - column) <= 2
        assert np.ptp(found[on_line][:, 0]) > 0.9 * len(pixels), "from top to bottom"
        word = found[(found[:, 1] > column + 3) & (found[:, 1] < column + 60)]
        assert len(word) > 15
        assert word[:, 0].max() < 0.15 * len(pixels), QUADRANT_WORDS[QUADRANTS[number]][0]


def test_a_word_without_room_is_left_out() -> None:
    shown = Shown()
    quadrants = [1] * 100 + [2] * 4 + [4] * 16
    shown.give([update(i, 0.0, 0.0, quadrant=q) for i, q in enumerate(quadrants)])
    pixels = shown.plot()
    column = shown.px(-9.5, 0.0)[1] - shown.px(-1e9, 0.0)[1]
    # Where the words are; far from the first one's, whose colour is not so unlike.
    found = where(pixels[:16, 200:], DARK.quadrants[1], 100)
    assert len(found) > 10
    assert (np.abs(found[:, 1] + 200 - column) <= 2).all(), "the line alone"
    assert len(where(pixels[:16], DARK.quadrants[3], 100)) > 30, "the next one's word is there"
