"""The keys of the window and of the viewer; their lists of keys and docs/keys.md are generated from this.

`python -m realtime_mer.window.shortcuts > docs/keys.md`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """What a key does."""

    PAUSE = auto()
    RECORD = auto()
    MARK = auto()
    SCREENSHOT = auto()
    CLEAR = auto()
    SPAN = auto()
    MODE = auto()
    FULL_SCREEN = auto()
    SCREEN = auto()
    THEME = auto()
    HELP = auto()
    LEAVE = auto()
    QUIT = auto()
    # Only in the viewer.
    STEP_BACK = auto()
    STEP_ON = auto()
    LEAP_BACK = auto()
    LEAP_ON = auto()
    START = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Key:
    """Keys with the same action.

    names: Qt's names of the keys, without `Key_`. does: the description in the list of keys. brief: a word or two for
    the hint that is always visible; empty: not in it. shifted: only together with Shift; otherwise with or without,
    unless another action has the key with Shift. repeats: whether holding the key down repeats the action.
    """

    action: Action
    names: tuple[str, ...]
    does: str
    brief: str = ""
    shifted: bool = False
    repeats: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The keys' names for people."""
        before = "Shift " if self.shifted else ""
        return tuple(before + _LABELS.get(name, name) for name in self.names)


# In the window of a live run.
KEYS = (
    Key(Action.PAUSE, ("Space",), "pause, and go on", "pause"),
    Key(Action.RECORD, ("R",), "begin a recording, and end it", "record"),
    Key(Action.MARK, ("K",), "mark this moment, in the recording too"),
    Key(Action.SCREENSHOT, ("S",), "save a picture of the window, as a PNG file"),
    Key(Action.CLEAR, ("C",), "clear the trail and the timelines"),
    Key(Action.SPAN, ("Z",), "timelines: the last minute, ten minutes, everything"),
    Key(Action.MODE, ("M",), "stage, which is the plane alone on a whole screen, and back", "stage"),
    Key(Action.FULL_SCREEN, ("F",), "full screen, and back", "full screen"),
    Key(Action.SCREEN, ("N",), "go to the next screen"),
    Key(Action.THEME, ("T",), "dark, and light"),
    Key(Action.HELP, ("H", "Question", "F1"), "show this list, and hide it", "all keys"),
    Key(Action.LEAVE, ("Escape",), "hide this list; else leave full screen; else quit"),
    Key(Action.QUIT, ("Q",), "quit; with --keep-running, only close the window", "quit"),
)
_LABELS = {"Question": "?", "Escape": "Esc", "Left": "←", "Right": "→"}

# Keys with another description in the viewer.
_IN_THE_VIEWER = {
    Action.PAUSE: Key(Action.PAUSE, ("Space",), "play, and pause", "play"),
    Action.QUIT: Key(Action.QUIT, ("Q",), "quit", "quit"),
}
_LIVE_ONLY = (Action.RECORD, Action.MARK, Action.CLEAR)
_MOVES = (
    Key(Action.STEP_BACK, ("Left",), "one prediction back", repeats=True),
    Key(Action.STEP_ON, ("Right",), "one prediction on", repeats=True),
    Key(Action.LEAP_BACK, ("Left",), "10 s back", shifted=True, repeats=True),
    Key(Action.LEAP_ON, ("Right",), "10 s on", shifted=True, repeats=True),
    Key(Action.START, ("Home",), "to the start"),
    Key(Action.END, ("End",), "to the end"),
)
_PLAY, *_SAME = (_IN_THE_VIEWER.get(key.action, key) for key in KEYS if key.action not in _LIVE_ONLY)
# In the viewer.
VIEWER_KEYS = (_PLAY, *_MOVES, *_SAME)


def markdown() -> str:
    """The page, in Markdown."""
    return f"""# Keys in the window

This page is made from `realtime_mer/window/shortcuts.py`: change it there, then run
`python -m realtime_mer.window.shortcuts > docs/keys.md`. The window's own list leaves out keys that have no effect: not
every source can be paused or recorded.

{_table(KEYS)}

The mouse's wheel over the timelines shows less or more of the past, from the last minute to everything.

## In the viewer

`realtime-mer view` has these:

{_table(VIEWER_KEYS)}
"""


def _table(keys: Sequence[Key]) -> str:
    rows = [f"| {', '.join(f'`{label}`' for label in key.labels)} | {key.does} |" for key in keys]
    return "\n".join(("| key | what it does |", "| --- | --- |", *rows))


if __name__ == "__main__":
    print(markdown(), end="")
