"""The address space as a page for people: `python -m realtime_mer.osc.table > docs/osc/addresses.md`."""

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

What `realtime-mer` sends over OSC, and the commands that it takes. This page is made from `realtime_mer/osc/space.py`:
change it there, then `python -m realtime_mer.osc.table > docs/osc/addresses.md`.

## What is sent

Everything goes out in bundles: what belongs to one moment, such as all of a prediction and the events that come with
it, is one bundle. Its time tag is OSC's "immediately". How much sound was heard is in `{_PREFIX}/time`, which float32
holds to 1/64 s for six days, and how long ago its end was captured in `{_PREFIX}/latency`. There is one number to an
address, but for `va`, and it is a float32 or an int32; strings come only below `{_PREFIX}/status`.

`{_PREFIX}` is the prefix; each target can have another, or none. Its settings `send`, `rate_hz`, `on_change` and `map`
choose what it is sent, how often, and what at other addresses and in other ranges; with `bundle = false` each message
comes by itself (configs/live.toml explains them). In settings a name is the address without `{_PREFIX}/`, as in
`smooth/valence`.

{_table(("address", "type", "range", "rate", "meaning"), map(_address_row, SPACE))}

`confidence` is not sent where the model was not calibrated. The quadrants, which change only where the music has left
the old one clearly and for some time:

{_table(("quadrant", "valence", "arousal", "words"), map(_quadrant_row, QUADRANTS))}

## Commands

They are taken over UDP, where `[control]` of the settings says so (by default nowhere), at these addresses whatever
prefix the targets have. What stands in brackets may be left out. A whole float does for an int32, and an int32 for a
float32. A command without values also takes the one number that a button sends: above 0 it is carried out, at 0 nothing
happens.

Each command is answered once, to the address and port that it came from and to every target whose `send` has it: with
`status/ack` where it was carried out, else with `status/error`. Both hold the command's name, as it stands here after
`/mer/control/`, and a text.

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
