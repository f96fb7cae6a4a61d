from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from drawing import MUSIC, picture, require_qt, show, where

from realtime_mer.updates import InputLevel, LevelState
from realtime_mer.window.theme import DARK, LIGHT, Theme, scaled

if TYPE_CHECKING:
    from realtime_mer.window.meter import LevelMeter

WIDTH_PX = 600


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


def shown(theme: Theme = DARK, factor: float = 1.0) -> LevelMeter:
    from realtime_mer.window.meter import LevelMeter

    meter = LevelMeter(scaled(theme, factor))
    show(meter, round(factor * WIDTH_PX), meter.sizeHint().height())
    return meter


def level(peak_db: float, rms_db: float = -40.0) -> InputLevel:
    return InputLevel(peak_db, rms_db, LevelState.MUSIC)


def fill_and_peak(meter: LevelMeter, theme: Theme = DARK) -> tuple[float, float]:
    """How far the bar is filled, and where the line is, as a share of the bar."""
    pixels = picture(meter)
    bar = meter._bar
    ratio = meter.devicePixelRatioF()
    row = pixels[round(ratio * (bar.y() + 6)), : round(ratio * bar.width())][None]
    filled, line = where(row, theme.good, 3)[:, 1], where(row, theme.text, 3)[:, 1]
    assert len(line) > 0
    return (0.0 if not len(filled) else (filled.max() + 1) / row.shape[1]), (line.max() + 1) / row.shape[1]


@pytest.mark.parametrize(("theme", "factor"), [(DARK, 1.0), (LIGHT, 3.0)], ids=["dark", "light and large"])
def test_the_bar_is_filled_to_the_rms_and_marked_at_the_peak(theme: Theme, factor: float) -> None:
    meter = shown(theme, factor)
    for peak_db, rms_db in ((-36.0, -54.0), (-12.0, -36.0), (-4.0, -18.0)):
        meter.show_level(level(peak_db, rms_db), 0.0)
        fill, peak = fill_and_peak(meter, theme)
        # The scale has 72 dB.
        assert fill == pytest.approx(1 + rms_db / 72, abs=0.01)
        assert peak == pytest.approx(1 + peak_db / 72, abs=0.01)


def test_a_peak_is_held_and_then_falls_to_the_present_one() -> None:
    from realtime_mer.window.meter import FALL_DB_PER_S, HOLD_S

    meter = shown()
    meter.show_level(level(-6.0), 0.0)
    meter.show_level(level(-30.0), 0.0)
    places_db = []
    for _ in range(120):
        meter.advance(1 / 30)
        places_db.append(72 * (fill_and_peak(meter)[1] - 1))
    at_s = {seconds: places_db[round(30 * seconds) - 1] for seconds in (0.5, 1.4, 2.5, 3.9)}
    assert at_s[0.5] == pytest.approx(-6.0, abs=0.3)
    assert at_s[1.4] == pytest.approx(-6.0, abs=0.3)
    assert at_s[2.5] == pytest.approx(-6.0 - FALL_DB_PER_S * (2.5 - HOLD_S), abs=0.5)
    assert at_s[3.9] == pytest.approx(-30.0, abs=0.3)
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(places_db))


def test_the_frame_rate_does_not_change_how_a_peak_falls() -> None:
    meters = shown(), shown()
    for meter in meters:
        meter.show_level(level(-6.0), 0.0)
        meter.show_level(level(-60.0), 0.0)
    for _ in range(100):
        meters[0].advance(0.03)
    meters[1].advance(3.0)
    assert fill_and_peak(meters[0])[1] == pytest.approx(fill_and_peak(meters[1])[1], abs=0.004)


def test_a_peak_is_not_kept_over_a_loss_of_the_device() -> None:
    meter = shown()
    meter.show_level(level(-2.0), 0.0)
    meter.show_level(None, 0.0)
    assert len(where(picture(meter)[-20:], DARK.text)) == 0
    meter.show_level(level(-40.0), 0.0)
    assert 72 * (fill_and_peak(meter)[1] - 1) == pytest.approx(-40.0, abs=0.3)


def test_the_level_is_shown_in_a_word_and_in_figures() -> None:
    meter = shown()
    meter.show_level(MUSIC, 2.04)
    assert meter._word.text() == "music"
    assert meter._figures.text() == "−18.0 dBFS · peak −3.0 · gain +2.0 dB"
    meter.show_level(InputLevel(0.0, -3.0, LevelState.CLIPPING), 0.0)
    assert meter._word.text() == "clipping"
    assert len(where(picture(meter), DARK.bad, 3)) > 300, "and the bar has the word's colour"
    meter.show_level(None, 0.0)
    assert (meter._word.text(), meter._figures.text()) == ("", "–")
