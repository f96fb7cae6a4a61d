"""The valence-arousal plane: where the music is, how certain that is, and its recent path."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS
from realtime_mer.window.captions import Headline
from realtime_mer.window.history import History
from realtime_mer.window.labels import font
from realtime_mer.window.plots import PaintedItem, faded, solid_pen, still_plot
from realtime_mer.window.qt import QtCore, QtGui, QtWidgets, pg
from realtime_mer.window.theme import Theme
from realtime_mer.window.trail import Trail, Values
from realtime_mer.window.words import CITATION, mood_words

# The predictions whose spread stands for the uncertainty of a model that gives none.
SPREAD_S = 10.0

# The plane ends at 1, with room for a point on its edge.
_REACH = 1.06
_LEFT_PX, _BOTTOM_PX, _TOP_PX = 60, 50, 14
_TICKS = [(-1.0, "−1"), (-0.5, "−0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")]
_POINT_PX, _OUTLINE_PX, _HOLLOW_PX = 11.0, 2.5, 3.5
# The trail's width and opacity, from its end to the point.
_THIN_PX, _THICK_PX = 2.0, 6.0
_FAINTEST, _STRONGEST = 0.05, 0.85
_FADE_STEPS = 24
# The ellipse ends at so many standard deviations. Its opacity in the middle and half-way, and that of its line at one.
_ELLIPSE_SDS = 2.0
_MIDDLE, _HALF_WAY, _LINE = 0.34, 0.14, 0.5
_LINE_PX = 1.5
# The time constant of the ellipse's change to a new size.
_EASE_S = 0.4
_SAME_SIZE = 1e-3
_TINT_SIDE = 128
# The quadrants' names are larger than the mood words by this factor.
_CORNER = 1.25

_SD_LEGEND = "the expected error: the line is one standard deviation away, the end two."
_SPREAD_LEGEND = (
    f"how far the predictions of the last {SPREAD_S:g} s are spread: the line is one standard deviation away, "
    "the end two. (This model does not estimate its error.)"
)


@dataclass(frozen=True, slots=True)
class Spread:
    """The half axes of the ellipse at one standard deviation. expected: whether it is that of the expected error, else
    of the recent predictions."""

    valence: float
    arousal: float
    expected: bool


def spread_of(history: History) -> Spread | None:
    """The newest prediction's standard deviation of the expected error; if the model gives none, that of the
    predictions of the last SPREAD_S that were not held. None if there are fewer than two of these.
    """
    if history.newest is None:
        return None
    newest = history.newest.prediction
    if newest.valence_sd is not None and newest.arousal_sd is not None:
        return Spread(newest.valence_sd, newest.arousal_sd, expected=True)
    recent = (history.time_s > newest.time_s - SPREAD_S) & ~history.held
    if recent.sum() < 2:
        return None
    return Spread(float(np.std(history.valence[recent])), float(np.std(history.arousal[recent])), expected=False)


class PlaneView(QtWidgets.QWidget):
    """The plane [-1, 1] × [-1, 1] in the largest square that fits, with the point, its ellipse and its trail.

    The point follows the predictions like a spring, and the trail is its path in the last trail_s (trail.Trail). The
    soft ellipse around it shows `spread_of`. A ghost is hollow and grey.
    """

    def __init__(self, theme: Theme, *, trail_s: float) -> None:
        super().__init__()
        self._theme = theme
        self._way = Trail(trail_s)
        self._headline: Headline | None = None
        self._makes_up_spread = True
        self._spread: Spread | None = None
        self._half_axes = (0.0, 0.0)
        self._plot = still_plot(theme, (-_REACH, _REACH), (-_REACH, _REACH), _TICKS, _TICKS)
        self._plot.setParent(self)
        item = self._plot.getPlotItem()
        item.setContentsMargins(0, theme.px(_TOP_PX), theme.px(_TOP_PX), 0)
        for side, label in (
            ("bottom", "valence   (negative → positive)"),
            ("left", "arousal   (calm → energetic)"),
        ):
            item.setLabel(side, label, **{"color": theme.text, "font-size": f"{theme.medium_pt:.1f}pt"})
        item.getAxis("bottom").setHeight(theme.px(_BOTTOM_PX))
        item.getAxis("left").setWidth(theme.px(_LEFT_PX))
        self._ellipse, self._trail, self._point = EllipseItem(theme), TrailItem(theme), _round_point(theme)
        self._word = pg.TextItem("", color=theme.text, anchor=(0.5, 1.0))
        self._word.setFont(font(theme.large_pt, bold=True))
        self._word.setPos(0.0, -0.97)
        self._word.setZValue(30)
        for each in (TintItem(theme), *_scenery(theme), self._ellipse, self._trail, self._point, self._word):
            item.getViewBox().addItem(each)
        self.setToolTip(self.legend)

    @property
    def legend(self) -> str:
        """An explanation of the picture, and the source of the mood words' places."""
        is_expected = not self._makes_up_spread or (self._spread is not None and self._spread.expected)
        return (
            f"The point: the music now. Its trail: the last {self._way.trail_s:g} s. "
            f"The soft ellipse: {_SD_LEGEND if is_expected else _SPREAD_LEGEND}\n"
            f"Each mood word's middle is where people rated the word: {CITATION}."
        )

    def show_history(self, history: History) -> None:
        """Sends the point to the newest prediction by way of those before it."""
        newest = history.newest
        if newest is None:
            return
        if newest.time_s < self._way.newest_s:
            self._way.clear()
        since_s = max(self._way.newest_s, newest.time_s - self._way.trail_s)
        is_first = self._way.newest_s == -math.inf
        for i in np.flatnonzero(history.time_s >= since_s if is_first else history.time_s > since_s).tolist():
            self._way.follow(
                float(history.time_s[i]),
                float(history.valence[i]),
                float(history.arousal[i]),
                held=bool(history.held[i]),
            )
        # In silence the ellipse stays that of the last music.
        if not newest.held or self._spread is None:
            spread = spread_of(history)
            is_known = self._makes_up_spread or (spread is not None and spread.expected)
            self._show_spread(spread if is_known else None, at_once=is_first)
        self._draw_way()

    def show_expected_errors_only(self) -> None:
        """From now on, predictions without an expected error have no ellipse: in a recording it may be unknown."""
        self._makes_up_spread = False
        self.setToolTip(self.legend)

    def show_headline(self, headline: Headline) -> None:
        """Writes the headline's word over the plane, and makes the point a ghost if it does not follow the music."""
        if headline == self._headline:
            return
        self._headline = headline
        theme = self._theme
        self._word.setText(headline.word.upper(), color=theme.of(headline.tone))
        self._trail.set_ghost(headline.ghost)
        self._ellipse.set_ghost(headline.ghost)
        # Hollow, but the trail must not show through.
        self._point.setBrush(QtGui.QColor(theme.panel if headline.ghost else theme.point))
        outline, width = (theme.ghost, _HOLLOW_PX) if headline.ghost else (theme.background, _OUTLINE_PX)
        self._point.setPen(QtGui.QPen(QtGui.QColor(outline), width * theme.scale))

    def clear(self) -> None:
        """Forgets where the point is and was."""
        self._way.clear()
        self._spread, self._half_axes = None, (0.0, 0.0)
        self._draw_way()

    @property
    def at_rest(self) -> bool:
        """Whether the point has reached the newest prediction, or there is none."""
        return self._way.at_rest

    def advance(self, elapsed_s: float) -> None:
        """Moves the point and fades the trail for this much time."""
        grown = self._grow(elapsed_s)
        if self._way.advance(elapsed_s) or grown:
            self._draw_way()

    def resizeEvent(self, _event: QtGui.QResizeEvent | None) -> None:  # noqa: N802 - Qt's name
        side = min(self.width(), self.height())
        self._plot.setGeometry((self.width() - side) // 2, (self.height() - side) // 2, side, side)

    def _draw_way(self) -> None:
        point = self._way.point
        self._point.setVisible(point is not None)
        self._trail.set_path(*self._way.way(), self._unit_px())
        if point is not None:
            self._point.setPos(*point)
            self._ellipse.set_shape(point, self._half_axes, self._unit_px())
        self._ellipse.setVisible(point is not None and min(self._half_axes) > _SAME_SIZE)

    def _unit_px(self) -> float:
        """The pixels from 0 to 1."""
        return max(float(self._plot.getPlotItem().getViewBox().width()) / (2 * _REACH), 1.0)

    def _show_spread(self, spread: Spread | None, *, at_once: bool) -> None:
        if (self._spread is None or self._spread.expected) != (spread is None or spread.expected):
            self._spread = spread
            self.setToolTip(self.legend)
        self._spread = spread
        if spread is not None and at_once:
            self._half_axes = (spread.valence, spread.arousal)

    def _grow(self, elapsed_s: float) -> bool:
        """Brings the ellipse nearer to its size; returns whether that changed anything."""
        goal = (0.0, 0.0) if self._spread is None else (self._spread.valence, self._spread.arousal)
        if self._half_axes == goal:
            return False
        share = 1.0 - math.exp(-max(elapsed_s, 0.0) / _EASE_S)
        before = self._half_axes
        self._half_axes = (before[0] + share * (goal[0] - before[0]), before[1] + share * (goal[1] - before[1]))
        if math.dist(self._half_axes, goal) < _SAME_SIZE:
            self._half_axes = goal
        return True


class TintItem(PaintedItem):
    """The plane's ground, coloured by position.

    Scaled once for each size and then only copied: Qt's own cache of items needs 40 % more CPU time at 3840 × 2160.
    """

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._image = _tinted(theme)
        self._copy = QtGui.QPixmap()
        self._bounds = QtCore.QRectF(-1.0, -1.0, 2.0, 2.0)
        self.setZValue(-10)

    def _draw(self, painter: QtGui.QPainter) -> None:
        place = painter.worldTransform().mapRect(self._bounds).toAlignedRect()
        device = painter.device()
        ratio = 1.0 if device is None else device.devicePixelRatioF()
        size = place.size() * ratio
        if self._copy.size() != size:
            smooth = QtCore.Qt.TransformationMode.SmoothTransformation
            scaled = self._image.scaled(size, QtCore.Qt.AspectRatioMode.IgnoreAspectRatio, smooth)
            self._copy = QtGui.QPixmap.fromImage(scaled)
            self._copy.setDevicePixelRatio(ratio)
        painter.resetTransform()
        painter.drawPixmap(place.topLeft(), self._copy)


class TrailItem(PaintedItem):
    """A line through the plane that gets thinner and fades with age."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._live_pens = _fading_pens(theme.point, theme.scale)
        self._ghost_pens = _fading_pens(theme.ghost, theme.scale)
        self._pens = self._live_pens
        self._valence = self._arousal = np.zeros(0)
        # For each piece of the line, an index into the pens: 0 is the oldest.
        self._fades = np.zeros(0, dtype=np.intp)
        self.setZValue(10)

    def set_path(self, valence: Values, arousal: Values, ages: Values, unit_px: float) -> None:
        """Each of shape (n,), oldest first; ages: from 1 (the end of the trail) to 0. unit_px: pixels from 0 to 1."""
        self._valence, self._arousal = valence, arousal
        self._fades = np.clip((1.0 - ages[1:]) * _FADE_STEPS, 0, _FADE_STEPS - 1).astype(np.intp)
        self.prepareGeometryChange()
        self._bounds = QtCore.QRectF()
        if len(valence) > 1:
            left, bottom, right, top = valence.min(), arousal.min(), valence.max(), arousal.max()
            margin = (self._pens[-1].widthF() + 2.0) / unit_px
            self._bounds = QtCore.QRectF(left, bottom, right - left, top - bottom).adjusted(
                -margin, -margin, margin, margin
            )
        self.update()

    def set_ghost(self, ghost: bool) -> None:
        self._pens = self._ghost_pens if ghost else self._live_pens
        self.update()

    def _draw(self, painter: QtGui.QPainter) -> None:
        if not len(self._fades):
            return
        # In pixels, in which pens have widths.
        to_px = painter.worldTransform()
        xs = (to_px.m11() * self._valence + to_px.dx()).tolist()
        ys = (to_px.m22() * self._arousal + to_px.dy()).tolist()
        places = [QtCore.QPointF(x, y) for x, y in zip(xs, ys, strict=True)]
        painter.resetTransform()
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        # One polyline for each step of the fading: single lines would overlap and show as dots.
        edges = [0, *(np.flatnonzero(np.diff(self._fades)) + 1).tolist(), len(self._fades)]
        for start, end in itertools.pairwise(edges):
            painter.setPen(self._pens[self._fades[start]])
            painter.drawPolyline(QtGui.QPolygonF(places[start : end + 1]))


class EllipseItem(PaintedItem):
    """An ellipse that fades out at two standard deviations, with a fine line at one."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._live = _soft_brush(theme.point), QtGui.QPen(faded(theme.point, _LINE), _LINE_PX * theme.scale)
        self._ghost = _soft_brush(theme.ghost), QtGui.QPen(faded(theme.ghost, _LINE), _LINE_PX * theme.scale)
        self._brush, self._pen = self._live
        self._middle = QtCore.QPointF()
        self._half_axes = (0.0, 0.0)
        self.setZValue(5)

    def set_shape(self, middle: tuple[float, float], half_axes: tuple[float, float], unit_px: float) -> None:
        """Both as (valence, arousal); half_axes: one standard deviation. unit_px: pixels from 0 to 1."""
        self.prepareGeometryChange()
        self._middle, self._half_axes = QtCore.QPointF(*middle), half_axes
        x, y = (_ELLIPSE_SDS * half_axis + 2.0 / unit_px for half_axis in half_axes)
        self._bounds = QtCore.QRectF(middle[0] - x, middle[1] - y, 2.0 * x, 2.0 * y)
        self.update()

    def set_ghost(self, ghost: bool) -> None:
        self._brush, self._pen = self._ghost if ghost else self._live
        self.update()

    def _draw(self, painter: QtGui.QPainter) -> None:
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        to_px = painter.worldTransform()
        corner = QtCore.QPointF(*self._half_axes)
        one_sd = to_px.mapRect(QtCore.QRectF(self._middle - corner, self._middle + corner))
        painter.translate(self._middle)
        painter.scale(*self._half_axes)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(self._brush)
        painter.drawEllipse(QtCore.QPointF(), _ELLIPSE_SDS, _ELLIPSE_SDS)
        painter.resetTransform()
        painter.setPen(self._pen)
        painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
        painter.drawEllipse(one_sd)


def tint(theme: Theme, valence: Values, arousal: Values) -> Values:
    """The colour of the plane's ground at these places, arrays of the same shape (...): shape (..., 3), 0 to 255.

    Each quadrant's tint has a share that falls linearly from its own corner to the two next to it. The sum is mixed
    with the panel's colour, from all of it in the plane's middle to 1 - tint_strength at distance 1.
    """
    colours = {number: _rgb(colour) for number, colour in enumerate(theme.tints, start=1)}
    x, y = (valence[..., None] + 1.0) / 2.0, (arousal[..., None] + 1.0) / 2.0
    shares = {1: x * y, 2: (1.0 - x) * y, 3: (1.0 - x) * (1.0 - y), 4: x * (1.0 - y)}
    mixed = sum((shares[number] * colour for number, colour in colours.items()), start=np.zeros(3))
    strength = theme.tint_strength * np.minimum(np.hypot(valence, arousal), 1.0)[..., None]
    result: Values = strength * mixed + (1.0 - strength) * _rgb(theme.panel)
    return result


def _tinted(theme: Theme) -> QtGui.QImage:
    """The whole ground, small."""
    places = (np.arange(_TINT_SIDE) + 0.5) / _TINT_SIDE * 2.0 - 1.0
    pixels = np.round(tint(theme, *np.meshgrid(places, places[::-1]))).astype(np.uint8).tobytes()
    image = QtGui.QImage(pixels, _TINT_SIDE, _TINT_SIDE, 3 * _TINT_SIDE, QtGui.QImage.Format.Format_RGB888)
    # A copy that owns its pixels.
    return image.convertToFormat(QtGui.QImage.Format.Format_RGB32)


def _rgb(colour: str) -> Values:
    q = QtGui.QColor(colour)
    return np.array([q.red(), q.green(), q.blue()], dtype=np.float64)


def _fading_pens(colour: str, scale: float) -> list[QtGui.QPen]:
    shares = np.linspace(0.0, 1.0, _FADE_STEPS).tolist()
    return [
        solid_pen(
            faded(colour, _FAINTEST + share * (_STRONGEST - _FAINTEST)),
            (_THIN_PX + share * (_THICK_PX - _THIN_PX)) * scale,
        )
        for share in shares
    ]


def _soft_brush(colour: str) -> QtGui.QBrush:
    """Opaque at the origin, gone at _ELLIPSE_SDS from it."""
    gradient = QtGui.QRadialGradient(QtCore.QPointF(), _ELLIPSE_SDS)
    for place, opacity in ((0.0, _MIDDLE), (0.5, _HALF_WAY), (1.0, 0.0)):
        gradient.setColorAt(place, faded(colour, opacity))
    return QtGui.QBrush(gradient)


def _round_point(theme: Theme) -> QtWidgets.QGraphicsEllipseItem:
    radius = theme.px(_POINT_PX)
    point = QtWidgets.QGraphicsEllipseItem(-radius, -radius, 2 * radius, 2 * radius)
    point.setFlag(QtWidgets.QGraphicsItem.GraphicsItemFlag.ItemIgnoresTransformations)
    point.setZValue(20)
    point.setVisible(False)
    return point


def _scenery(theme: Theme) -> Iterator[QtWidgets.QGraphicsItem]:
    """The frame, the axes, the quadrants' names in their corners, and the mood words centred on their places."""
    pen = QtGui.QPen(QtGui.QColor(theme.grid), theme.px(1.0))
    pen.setCosmetic(True)
    frame = QtWidgets.QGraphicsRectItem(-1.0, -1.0, 2.0, 2.0)
    frame.setPen(pen)
    yield frame
    for ends in ((-1.0, 0.0, 1.0, 0.0), (0.0, -1.0, 0.0, 1.0)):
        line = QtWidgets.QGraphicsLineItem(*ends)
        line.setPen(pen)
        yield line
    for number, (valence, arousal) in QUADRANTS.items():
        anchor = ((1 + valence) / 2, (1 - arousal) / 2)
        text = pg.TextItem(QUADRANT_WORDS[valence, arousal][0], color=theme.quadrants[number - 1], anchor=anchor)
        text.setFont(font(_CORNER * theme.medium_pt))
        text.setPos(0.985 * valence, 0.985 * arousal)
        yield text
    for word, place in mood_words().items():
        text = pg.TextItem(word, color=theme.faint, anchor=(0.5, 0.5))
        text.setFont(font(theme.medium_pt))
        text.setPos(*place)
        yield text
