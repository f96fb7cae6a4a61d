"""The keys of the window and of the viewer; docs/keys.md has the same."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# What keys do; those from STEP_BACK on only in the viewer.
Action = Enum(
    "Action",
    "PAUSE RECORD MARK SCREENSHOT CLEAR SPAN MODE FULL_SCREEN SCREEN THEME HELP LEAVE QUIT "
    "STEP_BACK STEP_ON LEAP_BACK LEAP_ON START END",
)


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
