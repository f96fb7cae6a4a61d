"""The types that settings share, and the errors for settings that cannot be used."""

from __future__ import annotations

import re
import reprlib
from typing import Annotated

from msgspec import Meta

from realtime_mer.errors import UsageError

_LONGEST_SHOWN = 200

Text = Annotated[str, Meta(pattern=r"\S", description="text that is not empty")]


class ConfigError(UsageError):
    """A setting, or a settings file, that cannot be used. The message names the key and what was expected."""


def one_of(*choices: str) -> Meta:
    """The constraint on a text that must be one of these."""
    return Meta(pattern=rf"\A(?:{'|'.join(choices)})\Z", description=f"one of {', '.join(map(repr, choices))}")


def wrong(key: str, expected: str, value: object) -> ConfigError:
    """The error for a key whose value is not as expected."""
    return ConfigError(f"{key}: expected {expected}, got {shown(value)}.")


def name_in_message(key: str) -> str:
    """A key for a message: quoted and shortened if it needs quotes in TOML."""
    return key if re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,80}", key) else shown(key)


def shown(value: object) -> str:
    """A value for a message: written as in TOML, and shortened."""
    text = _SHOWN.repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = 80

    def repr_bool(self, value: bool, level: int) -> str:
        return "true" if value else "false"

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to print very large numbers.
        return str(value) if -(2**63) <= value < 2**63 else "a number of more than 64 bits"

    def repr_instance(self, value: object, level: int) -> str:
        return str(value)  # dates and times


_SHOWN = _Shown()
