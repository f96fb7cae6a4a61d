"""The window's colours and sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    quadrants: of the quadrants 1 to 4 of moods.QUADRANTS, where they are named; tints: where they colour the plane, and
    tint_strength: how much of that colour there is at the plane's rim, 0 to 1.
    scale: how many device-independent pixels one pixel of a window of 1280 × 720 takes; the font sizes are scaled
    already.
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
    quadrants: tuple[str, str, str, str]
    tints: tuple[str, str, str, str]
    tint_strength: float
    small_pt: float = 9.0
    medium_pt: float = 12.0
    large_pt: float = 20.0
    scale: float = 1.0

    def of(self, tone: Tone) -> str:
        """The colour for words of this tone."""
        return {Tone.PLAIN: self.text, Tone.GOOD: self.good, Tone.WARNING: self.warning, Tone.BAD: self.bad}[tone]

    def px(self, length: float) -> int:
        """A length of a window of 1280 × 720 in whole device-independent pixels; at least one."""
        return max(round(length * self.scale), 1)


def scaled(theme: Theme, factor: float) -> Theme:
    """The theme with all sizes times this. Raises ValueError where factor is not more than 0."""
    if not factor > 0.0:
        raise ValueError(f"A theme is scaled by more than 0, not by {factor}.")
    return replace(
        theme,
        small_pt=theme.small_pt * factor,
        medium_pt=theme.medium_pt * factor,
        large_pt=theme.large_pt * factor,
        scale=theme.scale * factor,
    )


# Most hues are those that stay apart for every kind of colour blindness: Okabe and Ito, "Color Universal Design", 2008.
# The quadrants' were chosen by the same measure: tests/test_window_theme.py.
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
    quadrants=("#f4cd4e", "#ff667c", "#8296de", "#54f6e3"),
    tints=("#f4cd4e", "#ff667c", "#8296de", "#54f6e3"),
    tint_strength=0.16,
)
LIGHT = Theme(
    background="#ffffff",
    panel="#f5f7f9",
    text="#14181d",
    faint="#4d5661",
    grid="#b4bdc7",
    point="#111b2e",
    ghost="#5f6872",
    valence="#a35200",
    arousal="#00619e",
    good="#006849",
    warning="#825100",
    bad="#a82c00",
    quadrants=("#6a6212", "#521312", "#07235e", "#277670"),
    tints=("#f4cd4e", "#ff667c", "#8296de", "#54f6e3"),
    tint_strength=0.34,
)
