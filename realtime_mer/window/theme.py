"""The window's colours and sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto


class Tone(Enum):
    """The meaning of a word: neutral, good, doubtful or bad."""

    PLAIN = auto()
    GOOD = auto()
    WARNING = auto()
    BAD = auto()


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as #rrggbb; font sizes in points.

    background: of the window; panel: of the plane and the timelines. text, faint: for important and for secondary text.
    grid: decorative lines. point: the music's point. ghost: what does not move at present.
    valence, arousal: of each of the two, everywhere. good, warning, bad: of states; a word always goes with it.
    quadrants: of the names of the quadrants 1 to 4 of moods.QUADRANTS; tints: of the plane's ground, and tint_strength:
    the share of that colour at the plane's rim, 0 to 1.
    scale: device-independent pixels per pixel of a window of 1280 × 720; the font sizes are already scaled.
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
    """The theme with all sizes multiplied by this factor, more than 0."""
    return replace(
        theme,
        small_pt=theme.small_pt * factor,
        medium_pt=theme.medium_pt * factor,
        large_pt=theme.large_pt * factor,
        scale=theme.scale * factor,
    )


# Most hues stay distinct for every kind of colour blindness: Okabe and Ito, "Color Universal Design", 2008.
# The quadrants' colours meet the same criterion: tests/test_window_theme.py.
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
