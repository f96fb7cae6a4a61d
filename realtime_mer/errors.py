"""The errors of this package: a file, a device, a setting or a network is at fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RealtimeMerError(Exception):
    """The base of every error that is not a bug in this package. Its text is a sentence for the user."""


class UsageError(RealtimeMerError, ValueError):
    """A command line or a setting that cannot be used."""


class OutputError(RealtimeMerError, RuntimeError):
    """Output that cannot be written."""


class CheckpointError(RealtimeMerError, ValueError):
    """A file that is not a checkpoint, is damaged or does not fit this version; or parts that do not fit together."""


def printable(text: str, *, keep: str = "") -> str:
    """The text with control characters and undecodable bytes escaped: names from outside must not steer the terminal.

    keep: characters that stay as they are.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a misspelt one was probably meant to be, whatever its case; None if none is near."""
    return next(iter(difflib.get_close_matches(word.lower(), known, n=1)), None)
