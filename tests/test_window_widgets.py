"""The window's parts beside the plane and the timelines: labels, fields, attention, level."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
from drawing import MUSIC, RUNNING, picture, require_qt, settle, show, update, where
from predictions import with_prediction

from realtime_mer.models.live import MEMORY_FRAMES
from realtime_mer.updates import InputLevel, LevelState
from realtime_mer.window.captions import Field, status_fields
from realtime_mer.window.theme import DARK, LIGHT, Theme, scaled

if TYPE_CHECKING:
    from realtime_mer.window.attention import AttentionBars
    from realtime_mer.window.labels import FieldGrid
    from realtime_mer.window.meter import LevelMeter

RED = "#c00000"
WIDTH_PX = 600


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


# Labels and fields


@pytest.mark.parametrize("points", [9.0, 20.0])
def test_no_letter_is_cut_off_below(points: float) -> None:
    """Some fonts' lines are closer than their letters are high."""
    from realtime_mer.window.labels import CutLabel, Label

    cut, whole = CutLabel(points, RED), Label("gpqyÅ", points, RED)
    cut.show_text("gpqyÅ")
    show(whole, whole.sizeHint().width() + 20, 4 * whole.sizeHint().height())
    show(cut, whole.width(), cut.height())
    letters = [where(picture(label), RED, 80) for label in (cut, whole)]
    assert len(letters[0]) == len(letters[1]) > 20


def grid_of(fields: Sequence[Field], n_columns: int, width_px: int, theme: Theme = DARK) -> FieldGrid:
    from realtime_mer.window.labels import FieldGrid

    grid = FieldGrid(theme, n_columns)
    grid.show_fields(fields)
    show(grid, width_px, grid.sizeHint().height())
    return grid


@pytest.mark.parametrize("theme", [DARK, scaled(DARK, 3.0)], ids=["hd", "4k"])
def test_typical_texts_are_not_cut_off_and_long_ones_do_not_move_the_fields(theme: Theme) -> None:
    fields = status_fields(RUNNING, with_prediction(update(0, 0.0, 0.0), confidence=0.63))
    grid = grid_of(fields, 8, round(1256 * theme.scale), theme)
    values = [value for _, value in grid._cells]
    assert [value.text() for value in values] == [field.value for field in fields]
    before = [value.geometry().getRect() for value in values]
    long = "never ending " * 30
    grid.show_fields([Field(field.caption, long) for field in fields])
    settle()
    assert [value.geometry().getRect() for value in values] == before
    assert all(value.text().endswith("…") and value.toolTip() == long for value in values)


def test_fields_come_and_go() -> None:
    grid = grid_of([Field("a", "1"), Field("b", "2"), Field("c", "3")], 2, WIDTH_PX)
    tall = grid.sizeHint().height()
    grid.show_fields([Field("d", "4")])
    settle()
    visible = [label.text() for cell in grid._cells for label in cell if label.isVisible()]
    assert (visible, grid.sizeHint().height() < tall) == (["d", "4"], True)
    grid.show_fields([])
    assert grid.isHidden()


# Attention


def heights(weights: Sequence[float] | None, theme: Theme = DARK, bars: AttentionBars | None = None) -> list[float]:
    """The height of each bar, from the left, as a share of the largest possible."""
    from realtime_mer.window.attention import AttentionBars

    bars = bars or AttentionBars(theme)
    show(bars, WIDTH_PX, bars.sizeHint().height())
    bars.show_weights(weights)
    pixels = picture(bars)
    ratio = bars.devicePixelRatioF()
    width, height = ratio * bars.width(), round(ratio * 22)
    columns = [round((i + 0.45) * width / MEMORY_FRAMES) for i in range(MEMORY_FRAMES)]
    return [len(where(pixels[:height, column][:, None], theme.text, 8)) / height for column in columns]


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.32], [0.09, 0.125, 0.1875, 0.25, 0.375, 0.5, 0.625, 1.0]),
        # At the start of a run there are fewer.
        ([0.25, 0.75], [0.0] * 6 + [1 / 3, 1.0]),
        ([1 / 8] * 8, [0.5] * 8),
        (None, [0.0] * 8),
    ],
)
def test_the_bars_heights_are_the_weights_oldest_first(
    theme: Theme, weights: list[float] | None, expected: list[float]
) -> None:
    assert heights(weights, theme) == pytest.approx(expected, abs=0.06)


# Level


def meter_of(theme: Theme = DARK, factor: float = 1.0) -> LevelMeter:
    from realtime_mer.window.meter import LevelMeter

    meter = LevelMeter(scaled(theme, factor))
    show(meter, round(factor * WIDTH_PX), meter.sizeHint().height())
    return meter


def level(peak_db: float, rms_db: float = -40.0) -> InputLevel:
    return InputLevel(peak_db, rms_db, LevelState.MUSIC)


def fill_and_peak_db(meter: LevelMeter, theme: Theme = DARK) -> tuple[float, float]:
    """How far the bar is filled, and where the line is; the scale has 72 dB."""
    pixels = picture(meter)
    bar = meter._bar
    ratio = meter.devicePixelRatioF()
    row = pixels[round(ratio * (bar.y() + 6)), : round(ratio * bar.width())][None]
    filled, line = where(row, theme.good, 3)[:, 1], where(row, theme.text, 3)[:, 1]
    ends = (filled.max() if len(filled) else -1, line.max())
    return 72 * ((ends[0] + 1) / row.shape[1] - 1), 72 * ((ends[1] + 1) / row.shape[1] - 1)


@pytest.mark.parametrize(("theme", "factor"), [(DARK, 1.0), (LIGHT, 3.0)], ids=["dark", "light and large"])
def test_the_bar_is_filled_to_the_rms_and_marked_at_the_peak(theme: Theme, factor: float) -> None:
    meter = meter_of(theme, factor)
    for peak_db, rms_db in ((-36.0, -54.0), (-12.0, -36.0), (-4.0, -18.0)):
        meter.show_level(level(peak_db, rms_db), 0.0)
        assert fill_and_peak_db(meter, theme) == pytest.approx((rms_db, peak_db), abs=0.7)


@pytest.mark.parametrize("frame_s", [1 / 30, 0.1])
def test_a_peak_is_held_and_then_falls_to_the_present_one(frame_s: float) -> None:
    from realtime_mer.window.meter import FALL_DB_PER_S, HOLD_S

    meter = meter_of()
    meter.show_level(level(-6.0), 0.0)
    meter.show_level(level(-30.0), 0.0)
    places_db = []
    for _ in range(round(4.0 / frame_s)):
        meter.advance(frame_s)
        places_db.append(fill_and_peak_db(meter)[1])
    at_s = {seconds: places_db[round(seconds / frame_s) - 1] for seconds in (0.5, 1.4, 2.5, 3.9)}
    expected = {0.5: -6.0, 1.4: -6.0, 2.5: -6.0 - FALL_DB_PER_S * (2.5 - HOLD_S), 3.9: -30.0}
    assert at_s == pytest.approx(expected, abs=0.5)
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(places_db))


def test_a_peak_is_not_kept_over_a_loss_of_the_device() -> None:
    meter = meter_of()
    meter.show_level(level(-2.0), 0.0)
    meter.show_level(None, 0.0)
    assert len(where(picture(meter)[-20:], DARK.text)) == 0
    meter.show_level(level(-40.0), 0.0)
    assert fill_and_peak_db(meter)[1] == pytest.approx(-40.0, abs=0.3)


def test_the_level_is_shown_in_a_word_and_in_figures() -> None:
    meter = meter_of()
    meter.show_level(MUSIC, 2.04)
    assert (meter._word.text(), meter._figures.text()) == ("music", "−18.0 dBFS · peak −3.0 · gain +2.0 dB")
    meter.show_level(InputLevel(0.0, -3.0, LevelState.CLIPPING), 0.0)
    assert meter._word.text() == "clipping"
    assert len(where(picture(meter), DARK.bad, 3)) > 300, "the bar has the word's colour too"
    meter.show_level(None, 0.0)
    assert (meter._word.text(), meter._figures.text()) == ("", "–")
