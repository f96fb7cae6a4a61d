"""The window's colours and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Tone(Enum):
    """How a word is meant: plainly, or as something good, doubtful or bad."""

    PLAIN = auto()
    GOOD = auto()
    WARNING = auto()
    BAD = auto()


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as #rrggbb; font sizes in points.

    background: of everything; panel: of the plane and the timelines. text, faint: what is read, and what is only there
    to be found. grid: lines that nobody has to read. point: where the music is. ghost: what does not move at present.
    valence, arousal: each of the two, wherever it is drawn. good, warning, bad: states; each stands beside a word.
    """

    background: str
    panel: str
    text: str
    faint: str
    grid: str
    point: str
    ghost: str
    valence: str
    arousal: str
    good: str
    warning: str
    bad: str
    small_pt: int = 9
    medium_pt: int = 12
    large_pt: int = 20

    def of(self, tone: Tone) -> str:
        """The colour for words of this tone."""
        return {Tone.PLAIN: self.text, Tone.GOOD: self.good, Tone.WARNING: self.warning, Tone.BAD: self.bad}[tone]


# The hues that stay apart for every kind of colour blindness: Okabe and Ito, "Color Universal Design", 2008.
DARK = Theme(
    background="#0d1117",
    panel="#151b23",
    text="#f0f3f6",
    faint="#9aa4af",
    grid="#39424d",
    point="#f0e442",
    ghost="#8b949e",
    valence="#e69f00",
    arousal="#56b4e9",
    good="#2fbf8f",
    warning="#e69f00",
    bad="#ff7b3d",
)
