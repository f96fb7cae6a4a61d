from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_mer.window.pace import Pace


class Drawing:
    """A thread that draws, and works for so long on each picture."""

    def __init__(self, refresh_hz: float = 60.0) -> None:
        self.pace = Pace(refresh_hz)
        self.now_s = self.busy_s = 0.0

    def draw(self, seconds: float, picture_s: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.pace.note(self.now_s, self.busy_s)
            self.busy_s += picture_s
            self.now_s += max(self.pace.interval_ms / 1000.0, picture_s)


@pytest.mark.parametrize(
    ("refresh_hz", "interval_ms"), [(60.0, 16), (59.94, 16), (144.0, 16), (50.0, 20), (30.0, 33), (0.0, 16), (1.0, 16)]
)
def test_it_draws_as_often_as_the_screen_up_to_60_hz(refresh_hz: float, interval_ms: int) -> None:
    assert Pace(refresh_hz).interval_ms == interval_ms


def test_drawing_that_is_too_slow_is_halved_and_drawing_that_is_fast_again_is_not() -> None:
    drawing = Drawing()
    drawing.draw(20.0, picture_s=0.004)
    assert drawing.pace.interval_ms == 16
    drawing.draw(20.0, picture_s=0.012)
    assert drawing.pace.interval_ms == 33
    drawing.draw(20.0, picture_s=0.004)
    assert drawing.pace.interval_ms == 16


def test_one_slow_picture_changes_nothing() -> None:
    drawing = Drawing()
    drawing.draw(10.0, picture_s=0.004)
    drawing.draw(0.1, picture_s=0.3)
    drawing.draw(10.0, picture_s=0.004)
    assert drawing.pace.interval_ms == 16


@given(st.floats(0.0, 0.2))
def test_it_does_not_go_to_and_fro(picture_s: float) -> None:
    """Whatever a picture takes, it settles: at half as many, half of the work is left."""
    drawing = Drawing()
    drawing.draw(10.0, picture_s)
    settled = drawing.pace.interval_ms
    for _ in range(15):
        drawing.draw(1.0, picture_s)
        assert drawing.pace.interval_ms == settled
