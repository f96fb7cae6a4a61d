from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from drawing import picture, require_qt, show, where
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.models.live import MEMORY_FRAMES
from realtime_mer.window.theme import DARK, LIGHT, Theme, scaled

if TYPE_CHECKING:
    from realtime_mer.window.attention import AttentionBars

WIDTH_PX = 600


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


def shown(theme: Theme = DARK, factor: float = 1.0) -> AttentionBars:
    from realtime_mer.window.attention import AttentionBars

    strip = AttentionBars(scaled(theme, factor))
    show(strip, round(factor * WIDTH_PX), strip.sizeHint().height())
    return strip


def heights(strip: AttentionBars, theme: Theme = DARK) -> list[float]:
    """Of each bar, from the left, as a share of the strip's."""
    pixels = picture(strip)
    bars, ratio = strip._bars, strip.devicePixelRatioF()
    left, width = ratio * bars.x(), ratio * bars.width()
    height = round(ratio * 22 * theme.scale)
    columns = [round(left + (i + 0.45) * width / 8) for i in range(8)]
    return [len(where(pixels[:height, column][:, None], theme.text, 8)) / height for column in columns]


def test_there_is_a_bar_for_every_frame_of_the_model_s_memory() -> None:
    from realtime_mer.window.attention import N_FRAMES

    assert N_FRAMES == MEMORY_FRAMES


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=["dark", "light"])
def test_the_more_a_frame_counts_the_higher_its_bar_from_the_oldest_to_the_newest(theme: Theme) -> None:
    strip = shown(theme)
    weights = [0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.32]
    strip.show_weights(weights)
    expected = [weight / 0.32 for weight in weights]
    # None is lower than what can still be seen.
    assert heights(strip, theme)[1:] == pytest.approx(expected[1:], abs=0.06)
    assert heights(strip, theme)[0] > 0.0


def test_where_all_frames_count_alike_the_bars_are_of_half_the_height() -> None:
    strip = shown()
    strip.show_weights((1 / 8,) * 8)
    assert heights(strip) == pytest.approx([0.5] * 8, abs=0.06)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8).filter(lambda parts: sum(parts) > 0.1))
def test_fewer_frames_than_the_memory_has_stand_at_the_right(parts: list[float]) -> None:
    strip = shown()
    weights = [part / sum(parts) for part in parts]
    strip.show_weights(weights)
    seen = heights(strip)
    assert seen[: 8 - len(weights)] == [0.0] * (8 - len(weights))
    order = np.argsort(weights, kind="stable")
    assert (np.diff(np.array(seen[8 - len(weights) :])[order]) >= -0.01).all()


@pytest.mark.parametrize("nothing", [None, ()])
def test_without_weights_there_are_only_places_for_them(nothing: tuple[float, ...] | None) -> None:
    strip = shown()
    strip.show_weights((0.125,) * 8)
    strip.show_weights(nothing)
    assert heights(strip) == [0.0] * 8
    assert len(where(picture(strip), DARK.panel)) > 1000


def test_it_is_said_how_long_ago_and_what_it_means() -> None:
    strip = shown()
    pixels = picture(strip)
    below = pixels[round(23 * strip.devicePixelRatioF()) :]
    for part in (below[:, : 3 * below.shape[1] // 4], below[:, -60:]):
        assert len(where(part, DARK.faint, 60)) > 15
    assert "half second" in strip.toolTip()


def test_its_height_stays() -> None:
    strip = shown()
    before = strip.sizeHint()
    strip.show_weights((0.125,) * 8)
    assert strip.sizeHint() == before
    assert shown(DARK, 3.0).height() == pytest.approx(3 * shown().height(), abs=4)
