"""What the window's keys do; the list in the window and docs/keys.md are made from this.

`python -m realtime_mer.monitor.keys > docs/keys.md`
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """What a key asks for."""

    PAUSE = auto()
    RECORD = auto()
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


@dataclass(frozen=True, slots=True)
class Key:
    """Keys that ask for the same thing.

    names: Qt's names of the keys, without `Key_`. does: what happens, as a list has it; brief: in a word or two, where
    there is always room to say so, else empty.
    """

    action: Action
    names: tuple[str, ...]
    does: str
    brief: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """What is printed on the keys."""
        return tuple(_LABELS.get(name, name) for name in self.names)


KEYS = (
    Key(Action.PAUSE, ("Space",), "pause, and go on", "pause"),
    Key(Action.RECORD, ("R",), "begin a recording, and end it", "record"),
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
_LABELS = {"Question": "?", "Escape": "Esc"}


def markdown() -> str:
    """The page, in Markdown."""
    rows = [f"| {', '.join(f'`{label}`' for label in key.labels)} | {key.does} |" for key in KEYS]
    table = "\n".join(("| key | what it does |", "| --- | --- |", *rows))
    return f"""# Keys in the window

This page is made from `realtime_mer/monitor/keys.py`: change it there, then `python -m realtime_mer.monitor.keys >
docs/keys.md`. Keys that could do nothing are left out of the list in the window: what is heard may not be there to be
paused or recorded.

{table}
"""


if __name__ == "__main__":
    print(markdown(), end="")
