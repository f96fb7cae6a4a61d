"""The OSC address space: everything that is sent, and every command that is taken, in one table each.

Names are below a target's prefix, /mer by default; commands are always below /mer. tests/test_osc_space.py checks that
docs/osc/addresses.md has these tables, and shows what to put there if not.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from enum import StrEnum

from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS

Values = tuple[float | int | str, ...]

# The level meter is 0 at this level, in dBFS, and 1 at full scale.
METER_FLOOR_DB = -60.0
# Each quadrant's first word, by its number.
_QUADRANT_WORDS = {number: QUADRANT_WORDS[signs][0] for number, signs in QUADRANTS.items()}


class When(StrEnum):
    """When a value is sent."""

    FRAME = "with every prediction"
    SMOOTH = "at the target's rate, 30 Hz unless set"
    LEVEL = "ten times a second"
    EVENT = "at each change"
    STATUS = "once a second, and when source, input or recording change"
    ANSWER = "after each command"


@dataclass(frozen=True, slots=True)
class Address:
    """name: below the prefix. types: a letter for each value: f (float32), i (int32), s (string).

    low, high: the range of each of its numbers; None if there is no bound. unit: of the numbers; "" if there is none.
    """

    name: str
    types: str
    when: When
    low: float | None
    high: float | None
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Command:
    """name: below /mer/control/. types: of its values, as in Address; values of the types `optional` may follow."""

    name: str
    types: str
    optional: str
    meaning: str


def _mood(group: str, when: When, which: str) -> tuple[Address, ...]:
    """The same values, of the raw predictions or of the smooth path."""
    return (
        Address(f"{group}valence", "f", when, -1, 1, "", f"{which} valence"),
        Address(f"{group}arousal", "f", when, -1, 1, "", f"{which} arousal"),
        Address(f"{group}va", "ff", when, -1, 1, "", "both at once"),
        Address(f"{group}unipolar/valence", "f", when, 0, 1, "", "(valence + 1) / 2"),
        Address(f"{group}unipolar/arousal", "f", when, 0, 1, "", "(arousal + 1) / 2"),
        Address(
            f"{group}polar/angle", "f", when, 0, 360, "°", "direction in the plane: 0 positive valence, 90 high arousal"
        ),
        Address(
            f"{group}polar/turn", "f", when, 0, 1, "", "the same direction as a fraction of the circle, like a hue"
        ),
        Address(f"{group}polar/intensity", "f", when, 0, 1, "", "distance from the centre, at most 1"),
        *(
            Address(f"{group}weight/{word}", "f", when, 0, 1, "", f"weight of quadrant {number}; the four sum to 1")
            for number, word in _QUADRANT_WORDS.items()
        ),
    )


SPACE: tuple[Address, ...] = (
    *_mood("", When.FRAME, "predicted"),
    Address("quadrant", "i", When.FRAME, 0, 4, "", "1 happy, 2 tense, 3 sad, 4 calm; 0 before any music"),
    *(
        Address(f"mood/{word}", "i", When.FRAME, 0, 1, "", f"1 while the quadrant is {number}, otherwise 0")
        for number, word in _QUADRANT_WORDS.items()
    ),
    Address(
        "confidence",
        "f",
        When.FRAME,
        0,
        1,
        "",
        "how far predictions can be trusted: 1 exact, 0 no better than always predicting the average; it grows over "
        "the first ten seconds of a song, and does not depend on the song itself",
    ),
    Address("held", "i", When.FRAME, 0, 1, "", "1 in silence, when the last prediction is held; 0 in music"),
    Address("frame", "i", When.FRAME, 0, None, "", "number of the prediction since the program started"),
    Address("time", "f", When.FRAME, 0, None, "s", "stream time at the end of the sound that the prediction is for"),
    Address(
        "latency", "f", When.FRAME, 0, None, "ms", "since the capture of that end; not sent if the sound is not live"
    ),
    *_mood("smooth/", When.SMOOTH, "smooth"),
    Address("level/rms", "f", When.LEVEL, -120, 0, "dBFS", "input level"),
    Address("level/peak", "f", When.LEVEL, -120, 0, "dBFS", "input peak"),
    Address("level/meter", "f", When.LEVEL, 0, 1, "", f"input level from {METER_FLOOR_DB:g} dBFS to full scale"),
    Address("event/quadrant", "i", When.EVENT, 1, 4, "", "the new quadrant"),
    Address("event/music", "i", When.EVENT, 0, 1, "", "1 when music begins, 0 when silence does"),
    Address("event/mark", "i", When.EVENT, 1, None, "", "number of a mark that was set"),
    Address("status/heartbeat", "i", When.STATUS, 0, None, "", "counts up while the program runs"),
    Address("status/source", "s", When.STATUS, None, None, "", "opening, running, paused, lost or ended"),
    Address("status/input", "s", When.STATUS, None, None, "", "music, too quiet, clipping, silence; none before sound"),
    Address("status/drops", "i", When.STATUS, 0, None, "", "blocks of sound lost to overload so far"),
    Address("status/losses", "i", When.STATUS, 0, None, "", "how often the device was lost so far"),
    Address("status/latency", "f", When.STATUS, 0, None, "ms", "from the last sample to its prediction; 0 if unknown"),
    Address("status/recording", "i", When.STATUS, 0, 1, "", "1 while recording"),
    Address(
        "status/ignored", "i", When.STATUS, 0, None, "", "packets to the control port that were not commands, so far"
    ),
    Address("status/ack", "ss", When.ANSWER, None, None, "", "the command that was carried out, and its result"),
    Address("status/error", "ss", When.ANSWER, None, None, "", "the command that was not carried out, and why"),
)

COMMANDS: tuple[Command, ...] = (
    Command("pause", "", "", "stops listening and predicting until resume"),
    Command("resume", "", "", "ends the pause"),
    Command("reset", "", "", "the model forgets the music so far, as at the start of the program"),
    Command("device", "s", "", "another input, as for --device; the old one stays if that fails"),
    Command("rate", "f", "i", "rate of the smooth values, 1 to 120 Hz, of one target (1, 2, …) or of all"),
    Command("smoothing", "s", "fi", "none, linear, spring or one-euro; seconds to settle (0: its own); target or all"),
    Command(
        "record/start",
        "",
        "s",
        "record into this new folder below the one that the program runs in, or into a dated one",
    ),
    Command("record/stop", "", "", "ends the recording"),
    Command("delay", "f", "", "delay everything that is sent by 0 to 10000 milliseconds"),
    Command("mark", "", "s", "sends event/mark, and stores the mark, with its text, in the recording"),
    Command("ping", "", "", "only answers"),
)

# The values that a target may map to an address of its own: the numbers that have a range.
MAPPABLE: tuple[str, ...] = tuple(
    address.name for address in SPACE if address.types in ("f", "i") and None not in (address.low, address.high)
)


def matching(pattern: str) -> frozenset[str]:
    """The names that match the pattern; * stands for any characters."""
    return frozenset(address.name for address in SPACE if fnmatch.fnmatchcase(address.name, pattern))
