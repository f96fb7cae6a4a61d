"""`realtime-mer doctor`: checks everything that a run needs, and prints a line for each check, with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """WARNING: a run works, but not all of it, or not as well as it could. FAILED: a run would fail."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    name: what was checked, the same in every version, since programs read it. text: the result. cure: what to do, in a
    sentence; empty if all is well.
    """

    name: str
    verdict: Verdict
    text: str
    cure: str = ""


def ok(name: str, text: str) -> Check:
    """All is well."""
    return Check(name, Verdict.OK, text)


def warning(name: str, text: str, cure: str = "") -> Check:
    """A run works, but not all of it, or not as well as it could."""
    return Check(name, Verdict.WARNING, text, cure)


def failed(name: str, text: str, cure: str = "") -> Check:
    """A run would fail."""
    return Check(name, Verdict.FAILED, text, cure)


def skipped(name: str, text: str) -> Check:
    """The settings do not need it."""
    return Check(name, Verdict.SKIPPED, text)


def from_error(name: str, error: Exception, *, cure: str = "", verdict: Verdict = Verdict.FAILED) -> Check:
    """A check that ended in an error of this package: its first sentence is the text, the rest is the cure.

    A list at its end is left out. cure: used if the error has only one sentence.
    """
    message = str(error).partition("\n")[0].removesuffix(" There are:")
    text, stop, rest = message.partition(". ")
    return Check(name, verdict, text + stop.strip(), rest or cure)
