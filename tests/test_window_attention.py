from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from drawing import picture, require_qt, show, where

from realtime_mer.models.live import MEMORY_FRAMES
from realtime_mer.window.theme import DARK, LIGHT, Theme

if TYPE_CHECKING:
    from realtime_mer.window.attention import AttentionBars

WIDTH_PX = 600


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


def shown(theme: Theme = DARK) -> AttentionBars:
    from realtime_mer.window.attention import AttentionBars

    bars = AttentionBars(theme)
    show(bars, WIDTH_PX, bars.sizeHint().height())
    return bars


def heights(bars: AttentionBars, theme: Theme = DARK) -> list[float]:
    """The height of each bar, from the left, as a share of the largest possible."""
    pixels = picture(bars)
    ratio = bars.devicePixelRatioF()
    width, height = ratio * bars.width(), round(ratio * 22)
    columns = [round((i + 0.45) * width / 8) for i in range(8)]
    return [len(where(pixels[:height, column][:, None], theme.text, 8)) / height for column in columns]


def test_there_is_a_bar_for_every_frame_of_the_models_memory() -> None:
    from realtime_mer.window.attention import N_FRAMES

    assert N_FRAMES == MEMORY_FRAMES


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
def test_the_bars_heights_are_the_weights_oldest_first(theme: Theme) -> None:
    bars = shown(theme)
    weights = [0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.32]
    bars.show_weights(weights)
    expected = [weight / 0.32 for weight in weights]
    assert heights(bars, theme)[1:] == pytest.approx(expected[1:], abs=0.06)
    assert heights(bars, theme)[0] > 0.0, "always visible"
    bars.show_weights((0.25, 0.75))
    assert heights(bars, theme) == pytest.approx([0.0] * 6 + [1 / 3, 1.0], abs=0.06), "at the start of a run"


def test_equal_weights_give_bars_of_half_the_height() -> None:
    bars = shown()
    bars.show_weights((1 / 8,) * 8)
    assert heights(bars) == pytest.approx([0.5] * 8, abs=0.06)


@pytest.mark.parametrize("nothing", [None, ()])
def test_without_weights_there_are_no_bars(nothing: tuple[float, ...] | None) -> None:
    bars = shown()
    bars.show_weights((0.125,) * 8)
    bars.show_weights(nothing)
    assert heights(bars) == [0.0] * 8
