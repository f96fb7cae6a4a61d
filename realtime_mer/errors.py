"""What this package raises where a file, a device, a setting or a network is at fault, and the caller is told so."""

from __future__ import annotations


class RealtimeMerError(Exception):
    """The base of every error that is not a mistake in this package. Its text is a sentence for the user."""


class UsageError(RealtimeMerError, ValueError):
    """A command line or a setting that cannot be used."""


class OutputError(RealtimeMerError, RuntimeError):
    """What was asked for cannot be written."""
