"""How the window was left, from one run to the next. No Qt in here.

In JSON, not in QSettings: from there PyQt unpickles what it finds, and a file that somebody else wrote could run code.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from realtime_mer.atomic import write_atomically
from realtime_mer.config import MODES, THEMES

# How much of the past the timelines show, in the order in which a key goes through them; None: everything.
SPANS_S = (60.0, 600.0, None)
# The same and more, from the nearest to the furthest, as the mouse's wheel goes through them.
ZOOMS_S = (60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, None)

_LARGEST_FILE_BYTES = 65_536
_LARGEST_PX = 32_767  # X11 counts no further


@dataclass(frozen=True, slots=True)
class Remembered:
    """How the window was left; the defaults are how it is at first.

    mode, theme: of config.MODES and config.THEMES. span_s: of ZOOMS_S. maximized, full_screen: in operator
    mode. place: the window's left, top, width and height when it is neither, in Qt's pixels; None: as it comes.
    """

    mode: str = "operator"
    theme: str = "dark"
    span_s: float | None = SPANS_S[0]
    maximized: bool = False
    full_screen: bool = False
    place: tuple[int, int, int, int] | None = None


def recall(path: Path) -> Remembered:
    """What is remembered there; never raises: what cannot be read, or is not what `keep` writes, counts as absent."""
    try:
        # A pipe would have us wait for whoever writes into it.
        if not path.is_file():
            return Remembered()
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE_BYTES + 1)
        values = json.loads(content) if len(content) <= _LARGEST_FILE_BYTES else None
    except (OSError, ValueError, RecursionError):
        return Remembered()
    if not isinstance(values, dict):
        return Remembered()
    good = {key: value for key, value in values.items() if key in _IS_GOOD and _IS_GOOD[key](value)}
    if "place" in good:
        good["place"] = tuple(good["place"])
    return Remembered(**good)


def keep(path: Path, remembered: Remembered) -> None:
    """Writes it there, where that can be done: nobody asked for it, and nothing depends on it."""
    known = {key: value for key, value in asdict(remembered).items() if key != "place" or value is not None}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known, indent=2).encode() + b"\n")


def _is_place(value: Any) -> bool:
    whole = isinstance(value, list) and len(value) == 4 and all(type(part) is int for part in value)
    return whole and all(abs(part) <= _LARGEST_PX for part in value) and min(value[2:]) >= 1


def _is_span(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isfinite(value) and value in ZOOMS_S)


_IS_GOOD = {
    "mode": lambda value: value in MODES,
    "theme": lambda value: value in THEMES,
    "span_s": _is_span,
    "maximized": lambda value: isinstance(value, bool),
    "full_screen": lambda value: isinstance(value, bool),
    "place": _is_place,
}
