from __future__ import annotations

import pytest
from drawing import require_qt
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.config import MODES, THEMES
from realtime_mer.window.theme import DARK, LIGHT


@pytest.fixture(autouse=True, scope="module")
def qt() -> None:
    require_qt()


def scale(mode: str, width: int, height: int, least: float = 1.0) -> float:
    from realtime_mer.window.qt import QtCore
    from realtime_mer.window.view import theme_for

    return theme_for("dark", mode, QtCore.QSize(width, height), least=least).scale


def test_there_is_a_view_for_every_mode_and_a_theme_of_every_name() -> None:
    from realtime_mer.window.qt import QtCore
    from realtime_mer.window.view import VIEWS, theme_for

    assert list(VIEWS) == list(MODES)
    assert [theme_for(name, "operator", QtCore.QSize(1280, 720)) for name in THEMES] == [DARK, LIGHT]


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("operator", (1280, 720), 1.0),
        ("operator", (3840, 2160), 3.0),
        ("operator", (1920, 720), 1.0),
        ("operator", (1280, 2000), 1.0),
        ("operator", (880, 520), 1.0),
        ("stage", (1280, 720), 1.5),
        ("stage", (1920, 1080), 2.25),
    ],
)
def test_the_smaller_side_decides_and_nothing_becomes_too_small(
    mode: str, size: tuple[int, int], expected: float
) -> None:
    assert scale(mode, *size) == expected


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from(MODES))
def test_nothing_outgrows_its_window(width: int, height: int, mode: str) -> None:
    fits = min(width / 1280, height / 720) * (1.5 if mode == "stage" else 1.0)
    assert max(fits - 0.0625, 0.5) <= scale(mode, width, height, least=0.5) <= max(fits, 0.5)


def test_dragging_an_edge_does_not_make_everything_anew_with_every_pixel() -> None:
    assert len({scale("operator", width, 10_000) for width in range(1280, 2560)}) <= 17
