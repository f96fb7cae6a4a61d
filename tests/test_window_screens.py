from __future__ import annotations

import pytest
from drawing import require_qt
from hypothesis import given
from hypothesis import strategies as st

Rect = tuple[int, int, int, int]

PX = st.integers(-40_000, 40_000)
RECTS = st.tuples(PX, PX, st.integers(1, 40_000), st.integers(1, 40_000))


@pytest.fixture(autouse=True, scope="module")
def qt() -> None:
    require_qt()


def fit(place: Rect, rooms: list[Rect]) -> Rect:
    from realtime_mer.window.qt import QtCore
    from realtime_mer.window.screens import fitted

    left, top, width, height = fitted(QtCore.QRect(*place), [QtCore.QRect(*room) for room in rooms]).getRect()
    assert None not in (left, top, width, height)
    return left, top, width, height  # type: ignore[return-value]


def within(inner: Rect, outer: Rect) -> bool:
    return (
        inner[0] >= outer[0]
        and inner[1] >= outer[1]
        and inner[0] + inner[2] <= outer[0] + outer[2]
        and inner[1] + inner[3] <= outer[1] + outer[3]
    )


@given(RECTS, st.lists(RECTS, min_size=1, max_size=4))
def test_it_is_within_a_room_and_never_larger_and_stays_there(place: Rect, rooms: list[Rect]) -> None:
    found = fit(place, rooms)
    assert any(within(found, room) for room in rooms)
    assert found[2] <= place[2]
    assert found[3] <= place[3]
    assert fit(found, rooms)[2:] == found[2:]


@given(RECTS, RECTS)
def test_what_is_within_the_room_stays_as_it_is(place: Rect, room: Rect) -> None:
    place = fit(place, [room])
    assert fit(place, [room]) == place


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        # Most of it is on the second.
        ((1200, 100, 800, 600), (1280, 100, 800, 600)),
        ((800, 100, 800, 600), (480, 100, 800, 600)),
        # On neither.
        ((5000, 5000, 800, 600), (480, 120, 800, 600)),
        # Too large.
        ((1400, 0, 9000, 9000), (1280, 0, 1920, 1080)),
    ],
)
def test_of_two_screens_the_one_that_has_most_of_it(place: Rect, expected: Rect) -> None:
    assert fit(place, [(0, 0, 1280, 720), (1280, 0, 1920, 1080)]) == expected


def test_above_a_window_is_room_for_a_title() -> None:
    from realtime_mer.window.application import application
    from realtime_mer.window.screens import room_on

    screen = application().primaryScreen()
    assert screen is not None
    room = room_on(screen)
    assert screen.availableGeometry().contains(room)
    assert room.top() > screen.availableGeometry().top()
    assert room.height() > 300
