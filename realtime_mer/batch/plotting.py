"""Plots a trajectory of predictions. Needs matplotlib, which is imported only when a plot is drawn."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Sequence

from realtime_mer.types import Prediction

_SIZE_INCHES = (12.0, 4.5)
_DPI = 120
_VALENCE_COLOUR, _AROUSAL_COLOUR = "tab:blue", "tab:red"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def trajectory_png(predictions: Sequence[Prediction], title: str) -> bytes:
    """A PNG: valence and arousal over time, and beside them the path through the valence-arousal plane.

    predictions: at least one. title: any text.
    """
    from matplotlib.figure import Figure

    time_s = [prediction.time_s for prediction in predictions]
    valence = [prediction.valence for prediction in predictions]
    arousal = [prediction.arousal for prediction in predictions]
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    # A file name may have undecodable bytes, or look like mathematics.
    figure.suptitle(title.encode(errors="replace").decode(), parse_math=False)
    over_time, plane = figure.subplots(1, 2, width_ratios=(2, 1))

    over_time.plot(time_s, valence, color=_VALENCE_COLOUR, label="valence", marker="." if len(time_s) == 1 else "")
    over_time.plot(time_s, arousal, color=_AROUSAL_COLOUR, label="arousal", marker="." if len(time_s) == 1 else "")
    over_time.axhline(0.0, color="grey", linewidth=0.5)
    over_time.set(xlabel="time in s", ylabel="prediction", ylim=(-1, 1))
    over_time.legend(loc="upper right")

    plane.plot(valence, arousal, color="lightgrey", linewidth=0.8, zorder=1)
    points = plane.scatter(valence, arousal, c=time_s, s=8, zorder=2)
    plane.axhline(0.0, color="grey", linewidth=0.5)
    plane.axvline(0.0, color="grey", linewidth=0.5)
    plane.set(xlabel="valence", ylabel="arousal", xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    figure.colorbar(points, ax=plane, label="time in s")

    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(picture, format="png", dpi=_DPI)
    return picture.getvalue()
