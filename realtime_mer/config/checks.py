"""What settings are checked with, and how a setting that cannot be used is reported."""

from __future__ import annotations

import re
import reprlib

from realtime_mer.errors import UsageError

_LONGEST_SHOWN = 200


class ConfigError(UsageError):
    """A settings file, or a setting, that cannot be used; the message names the key and what was expected there."""


def check_text(key: str, value: str | None) -> None:
    """Refuses what names nothing, and what no file or device can be called or a TOML file cannot hold."""
    if value is not None and not value.strip():
        raise wrong(key, "a text that is not empty", value)
    if value is not None and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        raise wrong(key, "a text in Unicode, without the character NUL,", value)


def check_range(key: str, value: float | None, lowest: float, highest: float) -> None:
    """Refuses a number below the lowest or above the highest, and one that is none."""
    if value is not None and not lowest <= value <= highest:
        raise wrong(key, f"a number from {lowest} to {highest}", value)


def check_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuses what is not among the choices."""
    if value not in choices:
        raise wrong(key, f"one of {', '.join(map(repr, choices))}", value)


def wrong(key: str, expected: str, value: object) -> ConfigError:
    """What to raise where a key's value is not what was expected."""
    return ConfigError(f"{key}: {expected} was expected, not {shown(value)}.")


def is_huge(value: object) -> bool:
    """Whether this is a whole number that TOML does not promise to hold, as Python does not to print."""
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def name_in_message(key: str) -> str:
    """A key as it stands in a message; one that needs quotes in TOML gets them, and is cut short."""
    return key if re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,80}", key) else shown(key)


def shown(value: object) -> str:
    """A value as it stands in a message: as in TOML, cut short."""
    text = _SHOWN.repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


class _Shown(reprlib.Repr):
    """What `shown` does to values, and to those within lists and tables."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = 80

    def repr_bool(self, value: bool, level: int) -> str:
        return "true" if value else "false"

    def repr_int(self, value: int, level: int) -> str:
        return "a number of more than 64 bits" if is_huge(value) else str(value)

    def repr_instance(self, value: object, level: int) -> str:
        return str(value)  # dates and times; not as Python writes them


_SHOWN = _Shown()
