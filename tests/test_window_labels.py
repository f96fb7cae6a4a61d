from __future__ import annotations

import pytest
from drawing import picture, require_qt, show, where

RED = "#c00000"


@pytest.fixture(scope="module", autouse=True)
def _qt() -> None:
    require_qt()


def test_a_text_that_can_be_cut_asks_for_no_room() -> None:
    from realtime_mer.window.labels import CutLabel
    from realtime_mer.window.qt import QtWidgets

    widget = QtWidgets.QWidget()
    layout = QtWidgets.QHBoxLayout(widget)
    label = CutLabel(12, "#ffffff")
    layout.addWidget(label)
    show(widget, 2000, 50)
    label.show_text("never ending " * 10)
    assert layout.minimumSize().width() < 100 < label.fontMetrics().horizontalAdvance(label.text())


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
