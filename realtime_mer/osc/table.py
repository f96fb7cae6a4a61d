"""The address space as a page of the documentation: `python -m realtime_mer.osc.table > docs/osc/addresses.md`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from realtime_mer.config import TargetSettings
from realtime_mer.config.space import COMMANDS, SPACE, Address, Command
from realtime_mer.moods import QUADRANT_WORDS, QUADRANTS

_TYPES = {"f": "float32", "i": "int32", "s": "string"}
_PREFIX = TargetSettings().prefix
_SIGNS = {1: "positive", -1: "negative"}


def markdown() -> str:
    """The page, in Markdown."""
    return f"""# OSC addresses

What `realtime-mer` sends over OSC, and the commands that it takes. This page is generated from
`realtime_mer/config/space.py`: change it there, then run `python -m realtime_mer.osc.table > docs/osc/addresses.md`.

## What is sent

Values of one moment, such as a prediction and the events that come with it, are sent as one bundle. Its time tag is
OSC's "immediately". `{_PREFIX}/time` is the length of sound processed so far; as a float32 it is exact to 1/64 s for
six days. `{_PREFIX}/latency` is how long ago its end was captured. Every address has one number, a float32 or an int32,
except that `va` has two; strings are sent only below `{_PREFIX}/status`.

`{_PREFIX}` is the prefix; each target can have another one, or none. The settings `send`, `rate_hz`, `on_change` and
`map` of a target choose which values it gets, how often, and which ones at other addresses and in other ranges; with
`bundle = false` each message is a packet of its own (configs/live.toml explains them). In settings a name is the
address without `{_PREFIX}/`, as in `smooth/valence`.

{_table(("address", "type", "range", "rate", "meaning"), map(_address_row, SPACE))}

`confidence` is not sent if the model is not calibrated. The quadrants change only when the music has left the old one
clearly and for some time:

{_table(("quadrant", "valence", "arousal", "words"), map(_quadrant_row, QUADRANTS))}

## Commands

Commands are taken over UDP at the port in `[control]` of the settings (by default there is none), at these addresses,
whatever prefix the targets have. Values in brackets are optional. A number may be of any OSC type: float32, float64,
int32, int64, or true and false as 1 and 0; an int32 must be whole. A command without values also takes the one number
that a button sends: above 0 it is carried out, at 0 nothing happens.

Each command is answered once, to the address and port that it came from and to every target whose `send` includes it:
with `status/ack` if it was carried out, otherwise with `status/error`. Both hold the command's name (the part after
`/mer/control/`) and a text.

{_table(("address", "values", "meaning"), map(_command_row, COMMANDS))}
"""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _address_row(address: Address) -> tuple[str, ...]:
    types = _TYPES[address.types[0]]
    return (
        f"`{_PREFIX}/{address.name}`",
        types if len(address.types) == 1 else f"{len(address.types)} × {types}",
        _range(address),
        address.when.value,
        address.meaning,
    )


def _range(address: Address) -> str:
    if address.low is None:
        return ""
    unit = f" {address.unit}" if address.unit else ""
    return f"{address.low:g}{unit} or more" if address.high is None else f"{address.low:g} to {address.high:g}{unit}"


def _quadrant_row(number: int) -> tuple[str, ...]:
    valence, arousal = signs = QUADRANTS[number]
    return str(number), _SIGNS[valence], _SIGNS[arousal], ", ".join(QUADRANT_WORDS[signs])


def _command_row(command: Command) -> tuple[str, ...]:
    values = [_TYPES[letter] for letter in command.types] + [f"[{_TYPES[letter]}]" for letter in command.optional]
    return f"`/mer/control/{command.name}`", ", ".join(values), command.meaning


if __name__ == "__main__":
    print(markdown(), end="")
