"""The window's state from one run to the next. No Qt in here.

JSON instead of QSettings: PyQt unpickles what it finds there, so a file from elsewhere could run code.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from realtime_mer.atomic import write_atomically
from realtime_mer.config import MODES, THEMES

# How much of the past the timelines show, in seconds, in the order in which a key goes through them; None: everything.
SPANS_S = (60.0, 600.0, None)
# The same and more, from the nearest to the furthest, as the mouse's wheel goes through them.
ZOOMS_S = (60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, None)

_LARGEST_FILE_BYTES = 65_536
_LARGEST_PX = 32_767  # X11 counts no further
_Px = Annotated[int, msgspec.Meta(ge=-_LARGEST_PX, le=_LARGEST_PX)]
_SizePx = Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_PX)]


@dataclass(frozen=True, slots=True)
class Look:
    """How a window looks; the defaults are for the first time. Raises ValueError for an unknown mode, theme or span.

    mode, theme: of config.MODES and config.THEMES. span_s: of ZOOMS_S. maximized, full_screen: in operator mode.
    place: the window's left, top, width and height when it is neither, in Qt's pixels; None: the default.
    """

    mode: str = "operator"
    theme: str = "dark"
    span_s: float | None = SPANS_S[0]
    maximized: bool = False
    full_screen: bool = False
    place: tuple[_Px, _Px, _SizePx, _SizePx] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.theme not in THEMES or self.span_s not in ZOOMS_S:
            raise ValueError(f"Unknown mode, theme or span: {self.mode!r}, {self.theme!r}, {self.span_s!r}.")


def recall(path: Path) -> Look:
    """What `keep` wrote there; the defaults if it cannot be read or is not valid. Never raises."""
    # Reading a pipe would block until something writes into it.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE_BYTES + 1)
            if len(content) <= _LARGEST_FILE_BYTES:
                return msgspec.json.decode(content, type=Look)
    return Look()


def keep(path: Path, look: Look) -> None:
    """Writes it there if possible: no error if not, since nothing depends on it."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.encode(look) + b"\n")
